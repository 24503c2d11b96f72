"""Which cases a network learns from, which choose the epoch, which are held out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

import numpy as np

from SaliencyExplain.errors import ErrorCode, InputError, unknown_name
from SaliencyExplain.studies.case import Case
from SaliencyExplain.studies.file_names import PART_NAMES
from SaliencyExplain.training.equal_images import groups_of

Part = Literal["train", "validation", "test"]
#: Pairs of images that a message names.
_NAMED = 5
PARTS: tuple[Part, ...] = ("train", "validation", "test")


def split_cases(
    cases: Sequence[Case],
    labels: Sequence[str],
    *,
    validation_share: float,
    test_share: float,
    seed: int,
    equals: Sequence[int] = (),
) -> list[Part]:
    """Splits cases so that each class has its share of every part, and no patient is torn apart.

    Images that equal each other stay together as those of one patient do.

    Where cases say their part themselves (a table's column ``split``, folders named train and
    test), it stands; if none of them is for validation, those are drawn from the ones to learn
    from. Else patients are drawn at random, class by class.

    Args:
        cases: The cases.
        labels: The class of each.
        validation_share: Share of the patients of a class that choose the epoch; at least one.
        test_share: Share that is held out; at least one unless it is 0.
        seed: Of the draw.
        equals: For each image the place of the first one that it equals, as
            :func:`~SaliencyExplain.training.equal_images.groups_of` gives it; empty: not known.

    Returns:
        The part of each case.

    Raises:
        InputError: A class has too few patients for its parts, or the parts that the cases
            say themselves make no sense.
    """
    together = _together(cases, equals)
    if any(case.split is not None for case in cases):
        return _as_said(cases, labels, validation_share, seed, together, equals)
    shares: dict[Part, float] = {"validation": validation_share, "test": test_share}
    return _drawn(together, labels, shares, seed)


def _together(cases: Sequence[Case], equals: Sequence[int]) -> list[str]:
    """Of each case the name of the patient, or of one of those with whom it stays together."""
    # The name of a case cannot be another one's patient: a tab is in neither.
    patients = [case.patient or f"\t{case.case}" for case in cases]
    groups = groups_of(list(zip(patients, equals or range(len(cases)), strict=True)))
    names: dict[int, str] = {}
    for patient, group in zip(patients, groups, strict=True):
        names[group] = min(patient, names.get(group, patient))
    return [names[group] for group in groups]


def _as_said(
    cases: Sequence[Case],
    labels: Sequence[str],
    validation_share: float,
    seed: int,
    together: Sequence[str],
    equals: Sequence[int],
) -> list[Part]:
    parts: list[Part] = []
    for case in cases:
        if case.split is None:
            raise InputError(
                ErrorCode.SPLIT, f"{case.case}: its split is missing. Give one for every case."
            )
        named = PART_NAMES.get(case.split.casefold())
        if named is None:
            raise unknown_name("split", case.split, PARTS)
        parts.append(next(part for part in PARTS if part == named))
    homes: dict[str, tuple[Part, str]] = {}
    for case, part in zip(cases, parts, strict=True):
        if case.patient is not None:
            first, name = homes.setdefault(case.patient, (part, case.case))
            if first != part:
                raise InputError(
                    ErrorCode.SPLIT,
                    f"{name} ({first}) and {case.case} ({part}): they are of the same patient and "
                    "not independent. Put them into the same split.",
                )
    torn = [
        f"{cases[first].case} ({parts[first]}) = {cases[place].case} ({parts[place]})"
        for place, first in enumerate(equals)
        if parts[place] != parts[first]
    ]
    if torn:
        more = f" and {len(torn) - _NAMED} more" * (len(torn) > _NAMED)
        raise InputError(
            ErrorCode.SPLIT,
            f"{len(torn)} images equal one in another part of the split: {', '.join(torn[:_NAMED])}"
            f"{more}. Such images bias the metrics. Delete one of each, or leave the split "
            "out.",
        )
    if "validation" not in parts:
        learning = [place for place, part in enumerate(parts) if part == "train"]
        drawn = _drawn(
            [together[place] for place in learning],
            [labels[place] for place in learning],
            {"validation": validation_share},
            seed,
        )
        for place, part in zip(learning, drawn, strict=True):
            parts[place] = part
    for needed in ("train", "validation"):
        there = {label for label, part in zip(labels, parts, strict=True) if part == needed}
        missing = sorted(set(labels) - there)
        if missing:
            raise InputError(
                ErrorCode.SPLIT, f"The split has no {needed} case of {', '.join(missing)}."
            )
    return parts


def _drawn(
    patient_of: Sequence[str], labels: Sequence[str], shares: dict[Part, float], seed: int
) -> list[Part]:
    by_class: dict[str, set[str]] = defaultdict(set)
    for patient, label in zip(patient_of, labels, strict=True):
        by_class[label].add(patient)
    wanted = {part: share for part, share in shares.items() if share > 0}
    random = np.random.default_rng(seed)
    part_of: dict[str, Part] = {}
    # The class of the fewest patients first: what they have in common with others is then
    # shared out where it matters most.
    for label in sorted(by_class, key=lambda name: (len(by_class[name]), name)):
        own = sorted(by_class[label])
        free = [patient for patient in own if patient not in part_of]
        shuffled = [free[place] for place in random.permutation(len(free))]
        for later, (part, share) in zip(reversed(range(len(wanted))), wanted.items(), strict=True):
            there = sum(part_of.get(patient) == part for patient in own)
            count = max(1, round(share * len(own))) - there
            # One stays for each of the parts to come, and one to learn from.
            for _ in range(min(count, len(shuffled) - later - 1)):
                part_of[shuffled.pop()] = part
        part_of |= dict.fromkeys(shuffled, "train")
        if {part_of[patient] for patient in own} < {"train", *wanted}:
            raise InputError(ErrorCode.SPLIT, _too_few(label, labels, len(own), list(wanted)))
    return [part_of[patient] for patient in patient_of]


def _too_few(label: str, labels: Sequence[str], patients: int, parts: Sequence[Part]) -> str:
    images = sum(one == label for one in labels)
    have = f"{images} image{'s' if images != 1 else ''}"
    if patients < images:
        have += f" of {patients} patient{'s' if patients != 1 else ''}"
    uses = {"validation": "one to choose the epoch", "test": "one held out for the metrics"}
    needs = ", ".join(["one for training", *(uses[part] for part in parts)])
    kind = "patients" if patients < images else "images"
    return (
        f"The class '{label}' has {have}, and needs {1 + len(parts)} {kind} ({needs}). Add "
        "images, or leave the class out with --classes."
    )
