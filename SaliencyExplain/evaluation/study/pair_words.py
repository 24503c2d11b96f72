"""Sentences on the comparison of methods on the same cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from SaliencyExplain.evaluation.image.answers import listed
from SaliencyExplain.evaluation.study.paired_comparison import Pair
from SaliencyExplain.records import control_names
from SaliencyExplain.studies.difference_words import signed

#: Largest number of pairs that get a sentence each; of more, the number is given.
_MOST_PAIRS = 8

#: The metrics that are described in words, with their names in the sentences.
_TOLD = {"auroc": "AUROC", "sic_compressed": "softmax information area"}


def pair_sentences(pairs: Sequence[Pair], titles: Mapping[str, str]) -> list[str]:
    """Sentences on the pairs of methods and control maps, in either direction.

    Args:
        pairs: Of all metrics and segments.
        titles: Titles of the maps' labels.

    Returns:
        For each segment and metric a sentence for each method against the control maps, and
        those of the methods among each other; last how differences and brackets are meant.
    """
    said: list[str] = []
    tested = False
    for metric, segment in dict.fromkeys((one.metric, one.segment) for one in pairs):
        own = [one for one in pairs if (one.metric, one.segment) == (metric, segment)]
        if metric not in _TOLD:
            continue
        name = _TOLD[metric]
        where = f"On “{segment}”" if segment else "In the evaluated cases"
        if all(one.answer == "untested" for one in own):
            count = max(one.cases for one in own)
            cases = "1 case is" if count == 1 else f"{count} cases are"
            said.append(f"{where}, {cases} too few to compare the {name} of {_count(own)}.")
            continue
        tested = True
        said += _against_controls(own, titles, f"{where}, the {name} of")
        said += _among_methods(own, titles, where, name)
    if tested:
        said.append(
            "Differences are means over the cases that both have. p is that of a paired test of "
            "the mean difference, corrected by Holm for all pairs of one metric and segment; "
            "brackets hold its simultaneous 95 % confidence intervals. Differences below the "
            "smallest difference of interest are not called higher or lower."
        )
    return said


def _count(pairs: Sequence[Pair]) -> str:
    names = {name for one in pairs for name in (one.first, one.second)}
    methods = len(names - set(control_names.NAMES))
    controls = len(names) - methods
    words = [f"{methods} method{'s' if methods != 1 else ''}"]
    if controls:
        words.append(f"{controls} control map{'s' if controls != 1 else ''}")
    return listed(words)


def _against_controls(pairs: Sequence[Pair], titles: Mapping[str, str], start: str) -> list[str]:
    said = []
    own: dict[str, list[Pair]] = {}
    for one in pairs:
        controls = {one.first, one.second} & set(control_names.NAMES)
        if controls:
            (method,) = {one.first, one.second} - controls
            own.setdefault(method, []).append(one)
    for method, against in own.items():
        pieces = [_piece(one, method, titles) for one in against]
        said.append(f"{start} {titles.get(method, method)} {listed(pieces)}.")
    return said


def _among_methods(
    pairs: Sequence[Pair], titles: Mapping[str, str], where: str, name: str
) -> list[str]:
    own = [one for one in pairs if not {one.first, one.second} & set(control_names.NAMES)]
    differ = sorted(
        (one for one in own if one.answer in ("higher", "lower")),
        key=lambda one: -abs(one.difference),
    )
    said = [
        f"{where}, the {name} of {titles.get(one.first, one.first)} "
        f"{_piece(one, one.first, titles)}."
        for one in differ[:_MOST_PAIRS]
    ]
    rest = len(differ) - _MOST_PAIRS
    counts = {
        answer: sum(one.answer == answer for one in own)
        for answer in ("small", "equal", "open", "untested")
    }
    smallest = own[0].smallest if own else 0.0
    words = [
        f"{number} {text}"
        for number, text in (
            (max(rest, 0), "with further differences, which are in paired.csv"),
            (counts["small"], f"with a difference, below {smallest:g} as measured"),
            (counts["equal"], f"with no difference over {smallest:g}"),
            (counts["open"], "without a significant difference"),
            (counts["untested"], "with too few cases in common"),
        )
        if number
    ]
    if words:
        said.append(
            f"{where}, of {len(own)} pair{'s' if len(own) != 1 else ''} of methods by the "
            f"{name}: {listed(words)}."
        )
    return said


def _piece(pair: Pair, method: str, titles: Mapping[str, str]) -> str:
    """One pair from one method's side: ``is higher than that of … by …``."""
    turned = pair.second == method
    other = pair.first if turned else pair.second
    sign = -1 if turned else 1
    mean = sign * pair.difference
    low, high = sorted((sign * pair.low, sign * pair.high))
    of = f"that of the {titles[other]}" if other in control_names.NAMES else ""
    of = of or f"that of {titles.get(other, other)}"
    given = f"p = {pair.p_holm:.2g}, {pair.cases} cases"
    if pair.answer in ("higher", "lower"):
        # By how much, the interval read the same way round.
        size, ends = abs(mean), sorted((abs(low), abs(high)))
        word = "higher" if mean > 0 else "lower"
        return f"is {word} than {of} by {size:.3f} [{ends[0]:.3f}, {ends[1]:.3f}] ({given})"
    difference = f"{signed(mean)} [{signed(low)}, {signed(high)}]"
    if pair.answer == "untested":
        cases = f"{pair.cases} case{'s' if pair.cases != 1 else ''}"
        return f"cannot be compared with {of} in {cases}"
    if pair.answer == "equal":
        return f"differs from {of} by no more than {pair.smallest:g} ({difference}, {given})"
    if pair.answer == "small":
        return (
            f"differs from {of}, by less than {pair.smallest:g} as measured ({difference}, {given})"
        )
    return f"does not differ significantly from {of} ({difference}, {given})"
