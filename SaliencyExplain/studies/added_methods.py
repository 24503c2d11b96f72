"""Adds methods to a finished output: existing maps stay, missing ones are computed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.attribution.registry import find_method
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.records.case_entry import METHOD_STAGE, CaseEntry, StageFailure

Mapped = TypeVar("Mapped")

#: Stages that a later attempt repeats, so that only its failures count.
_TRIED_AGAIN = ("reading the image", "reading the segmentation", "explaining", "writing")


def methods_of(configuration: Mapping[str, Any]) -> tuple[Method, ...]:
    """The methods of a study with their parameters, in the order of its configuration.

    Args:
        configuration: The journal's first line.

    Raises:
        InputError: This version has no such method or parameter.
    """
    try:
        return tuple(
            find_method(one["name"])(
                **{
                    name: tuple(value) if isinstance(value, list) else value
                    for name, value in one["parameters"].items()
                }
            )
            for one in configuration["methods"]
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            ErrorCode.STUDY_CONFIGURATION,
            "Journal of the output folder: this version does not have one of its methods "
            f"({error}). Choose another output folder.",
        ) from None


def answered(entry: CaseEntry) -> set[str]:
    """The methods of which a case has a map or a recorded failure."""
    return entry.methods | entry.failed_methods


def merged_entry(kept: CaseEntry, new: CaseEntry, computed: Collection[str]) -> CaseEntry:
    """The journal's entry of a case after methods were added to it.

    Args:
        kept: The entry as it was.
        new: The entry with all maps, with the failures of the added methods alone.
        computed: The methods that were computed now.
    """
    before, after = kept.result, new.result
    if before is None or after is None:
        return new
    sizes = {one.label: one.sizes for one in before.maps if one.method not in computed}
    maps = [dataclasses.replace(one, sizes=sizes.get(one.label, one.sizes)) for one in after.maps]
    # The evaluation belongs to the earlier maps: it is removed if one was computed again.
    replaced = kept.methods & set(computed)
    result = dataclasses.replace(
        after, maps=tuple(maps), evaluation=None if replaced else before.evaluation
    )
    failures = merged_failures(kept, new.failures, computed)
    return dataclasses.replace(new, failures=failures, result=result)


def merged_notes(
    kept: Sequence[str], new: Sequence[str], computed: Collection[str]
) -> tuple[str, ...]:
    """The notes of a case: those that it had, but for those of methods computed anew, and the new.

    Args:
        kept: The notes as they were; those of a method begin with its name and a colon.
        new: The notes of the added methods.
        computed: The methods that were computed now.
    """
    stay = [note for note in kept if note.partition(":")[0] not in computed]
    return tuple(dict.fromkeys([*stay, *new]))


def merged_failures(
    kept: CaseEntry, new: Sequence[StageFailure], computed: Collection[str] = ()
) -> tuple[StageFailure, ...]:
    """The failures of a case: the new ones, and those of other stages that it had.

    Args:
        kept: The entry as it was.
        new: The failures of the added methods.
        computed: The methods that were computed anew, whose earlier failures no longer count.
    """
    stages = {one.stage for one in new} | {f"{METHOD_STAGE} {name}" for name in computed}
    stages |= set(_TRIED_AGAIN)
    return (*(one for one in kept.failures if one.stage not in stages), *new)


def in_order(
    maps: Iterable[Mapped], order: Sequence[str], method: Callable[[Mapped], str]
) -> list[Mapped]:
    """Maps by the methods' order."""
    places = {name: place for place, name in enumerate(order)}
    return sorted(maps, key=lambda one: places.get(method(one), len(order)))


def merged_configuration(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """A study's configuration with the methods of another run added to its own.

    Args:
        old: Of the study.
        new: Of the run; both as JSON reads them.
    """
    known = {one["name"] for one in old.get("methods", ())}
    added = [one for one in new.get("methods", ()) if one["name"] not in known]
    return {**old, "methods": [*old["methods"], *added]} if added else dict(old)


def parameter_differences(
    old: Mapping[str, Any], new: Mapping[str, Any]
) -> list[tuple[str, Any, Any]]:
    """Parameters that differ of methods in both configurations: ``(name, old, new)``."""
    there = {one["name"]: one.get("parameters", {}) for one in old.get("methods", ())}
    found = []
    for one in new.get("methods", ()):
        now = one.get("parameters", {})
        before = there.get(one["name"], now)
        found += [
            (f"{one['name']}.{name}", before.get(name), now.get(name))
            for name in dict.fromkeys([*before, *now])
            if before.get(name) != now.get(name)
        ]
    return found


def to_compute(
    asked: Sequence[Method],
    known: Sequence[Method],
    entry: CaseEntry | None,
    *,
    stays: bool,
) -> tuple[Method, ...]:
    """The methods whose maps are to be computed for a case.

    Args:
        asked: The methods that the run requests.
        known: All methods of the study.
        entry: The journal's entry of the case; None: there is none, or it is not done.
        stays: Whether the maps of the entry are those of the case as it is now.

    Returns:
        The requested methods without a map or failure; if the case has changed, also all methods
        that it had, because their maps are outdated.
    """
    names = {method.name for method in asked}
    if entry is not None:
        names = names - answered(entry) if stays else names | answered(entry)
    return tuple(method for method in known if method.name in names)


def described(methods: Sequence[Method]) -> list[dict[str, Any]]:
    """The methods as a study's configuration has them."""
    return [{"name": method.name, "parameters": dataclasses.asdict(method)} for method in methods]
