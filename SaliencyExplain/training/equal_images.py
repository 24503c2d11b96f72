"""Equal images, which must stay in the same part of a split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

from SaliencyExplain.plain_text import some_of
from SaliencyExplain.studies.case import Case

#: Pairs that a note names.
_NAMED = 5


def groups_of(features: Sequence[Sequence[Hashable]]) -> list[int]:
    """Joins items that have a feature in common, also by way of others.

    Args:
        features: Those of each item.

    Returns:
        For each item the place of the first one of its group.
    """
    first: dict[Hashable, int] = {}
    parent = list(range(len(features)))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    for place, own in enumerate(features):
        for feature in own:
            one, other = sorted((root(place), root(first.setdefault(feature, place))))
            parent[other] = one
    return [root(place) for place in range(len(features))]


def equal_sets(equals: Sequence[int]) -> list[list[int]]:
    """The places of images that equal each other, of each set with two or more.

    Args:
        equals: For each image the place of the first one that it equals.
    """
    sets: dict[int, list[int]] = defaultdict(list)
    for place, first in enumerate(equals):
        sets[first].append(place)
    return [places for places in sets.values() if len(places) > 1]


def notes_of_equals(
    cases: Sequence[Case], labels: Sequence[str], equals: Sequence[int]
) -> list[str]:
    """Notes for the user on equal images and on unknown patients.

    Args:
        cases: The cases.
        labels: The class of each.
        equals: For each image the place of the first one that it equals.
    """
    notes = []
    found = equal_sets(equals)
    if found:
        count = sum(map(len, found))
        named = [f"{cases[one].case} = {cases[other].case}" for one, other, *_ in found]
        notes.append(
            f"{count} of {len(cases)} images equal another one in all pixels, or in all that "
            f"the network sees of them ({some_of(named, _NAMED)}): they stay in one part of the "
            "split."
        )
    torn = [places for places in found if len({labels[place] for place in places}) > 1]
    if torn:
        named = [" = ".join(f"{cases[p].case} ({labels[p]})" for p in places) for places in torn]
        notes.append(
            f"{len(torn)} sets of equal images have different labels, of which at most one is "
            f"correct: {some_of(named, _NAMED)}."
        )
    unknown = sum(case.patient is None for case in cases)
    if unknown:
        notes.append(
            f"The patient of {unknown} of {len(cases)} images is not known: each of these images "
            "counts as a separate patient, and images of one patient may be in several parts. Give "
            "the patients in the column patient of a table of cases."
        )
    return notes
