"""Methods that are added to a finished output: what is there stays, what is missing is computed."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.attribution.registry import find_method
from SaliencyExplain.comparison.control_names import NAMES as CONTROL_MAPS
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.study.case_reading import METHOD_STAGE

#: Stages that a later attempt on the case goes through again, so that only its failures count.
_TRIED_AGAIN = ("reading the image", "reading the segmentation", "explaining", "writing")


def method_of(label: str) -> str:
    """The method's name in a map's label, ``<method>`` or ``<method>@<layer>``."""
    return label.partition("@")[0]


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
            f"The output folder's journal has a method that this version does not know ({error}): "
            "choose another output folder.",
        ) from None


def answered(entry: Mapping[str, Any]) -> set[str]:
    """The methods that a case has a map of, or a reason why it has none.

    Args:
        entry: The journal's entry of a case that is done.
    """
    return with_maps(entry) | failed_methods(entry)


def failed_methods(entry: Mapping[str, Any]) -> set[str]:
    """The methods that a case has a reason of why they have no map."""
    failed = [one["stage"] for one in entry["failures"] if one["stage"].startswith(METHOD_STAGE)]
    return {stage[len(METHOD_STAGE) :].strip() for stage in failed}


def without_failures(entry: Mapping[str, Any], methods: Sequence[Method]) -> dict[str, Any]:
    """The entry of a case without the failures of methods that are computed again."""
    stages = {f"{METHOD_STAGE} {method.name}" for method in methods}
    return {
        **entry,
        "failures": [one for one in entry["failures"] if one["stage"] not in stages],
    }


def with_maps(entry: Mapping[str, Any]) -> set[str]:
    """The methods that a case has a map of."""
    return {method_of(one["label"]) for one in entry["maps"]}


def merged_entry(
    kept: Mapping[str, Any], new: Mapping[str, Any], order: Sequence[str]
) -> dict[str, Any]:
    """The journal's entry of a case after methods were added to it.

    Args:
        kept: The entry as it was.
        new: The entry of the added methods alone.
        order: Names of all methods in their order.
    """
    computed = answered(new)
    maps = [one for one in kept["maps"] if method_of(one["label"]) not in computed]
    rows = [
        row
        for row in kept["rows"]
        if method_of(row["method"]) not in computed
        # The control maps of the same image and seed come with the new maps' rows.
        and not (new["rows"] and row["method"] in CONTROL_MAPS)
    ]
    # A trial is of the maps as they were: where one was computed again, it goes.
    replaced = with_maps(kept) & computed
    stays = {name: value for name, value in kept.items() if name != "trial" or not replaced}
    return {
        **stays,
        **new,
        "failures": merged_failures(kept, new["failures"], computed),
        "maps": in_order([*maps, *new["maps"]], order, "label"),
        "rows": in_order([*rows, *new["rows"]], order, "method"),
        "notes": merged_notes(kept["notes"], new["notes"], computed),
    }


def merged_notes(kept: Sequence[str], new: Sequence[str], computed: Collection[str]) -> list[str]:
    """The notes of a case: those that it had, but for those of methods computed anew, and the new.

    Args:
        kept: The notes as they were; those of a method begin with its name and a colon.
        new: The notes of the added methods.
        computed: The methods that were computed now.
    """
    stay = [note for note in kept if note.partition(":")[0] not in computed]
    return list(dict.fromkeys([*stay, *new]))


def merged_failures(
    kept: Mapping[str, Any], new: Sequence[Mapping[str, str]], computed: Collection[str] = ()
) -> list[dict[str, str]]:
    """The failures of a case: the new ones, and those of other stages that it had.

    Args:
        kept: The entry as it was.
        new: The failures of the added methods.
        computed: The methods that were computed anew, whose earlier failures no longer count.
    """
    stages = {one["stage"] for one in new} | {f"{METHOD_STAGE} {name}" for name in computed}
    stages |= set(_TRIED_AGAIN)
    return [
        *(one for one in kept["failures"] if one["stage"] not in stages),
        *(dict(one) for one in new),
    ]


def in_order(
    entries: Sequence[Mapping[str, Any]], order: Sequence[str], label: str
) -> list[dict[str, Any]]:
    """What each map has, by the methods' order; control maps nobody asked for come last."""
    places = {name: place for place, name in enumerate(order)}
    return [
        dict(one)
        for one in sorted(entries, key=lambda one: places.get(method_of(one[label]), len(order)))
    ]


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
    entry: Mapping[str, Any] | None,
    *,
    stays: bool,
) -> tuple[Method, ...]:
    """The methods whose maps are to be computed for a case.

    Args:
        asked: The methods that the run asks for.
        known: All methods of the study.
        entry: The journal's entry of the case; None: there is none, or it is not done.
        stays: Whether the maps of the entry are those of the case as it is now.

    Returns:
        Those asked for that the case has no answer of; where the case has changed, with them all
        others that it had, whose maps are no longer its own.
    """
    names = {method.name for method in asked}
    if entry is not None:
        names = names - answered(entry) if stays else names | answered(entry)
    return tuple(method for method in known if method.name in names)


def described(methods: Sequence[Method]) -> list[dict[str, Any]]:
    """The methods as a study's configuration has them."""
    return [{"name": method.name, "parameters": dataclasses.asdict(method)} for method in methods]
