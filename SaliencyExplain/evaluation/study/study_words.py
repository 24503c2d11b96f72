"""Sentences on the evaluation of a study."""

from __future__ import annotations

import math
from collections.abc import Sequence

from SaliencyExplain.evaluation.image.answers import CHANCE_P, listed
from SaliencyExplain.evaluation.study.biomarkers import SIZE
from SaliencyExplain.evaluation.study.corrections import SIGNIFICANCE
from SaliencyExplain.evaluation.study.energy_places import AIR
from SaliencyExplain.evaluation.study.fixed_places import (
    LEAST_CASES,
    MOST_CASES,
    FixedPlace,
)
from SaliencyExplain.evaluation.study.pair_words import pair_sentences
from SaliencyExplain.evaluation.study.study_evaluation import StudyEvaluation
from SaliencyExplain.records import control_names
from SaliencyExplain.studies.report_data import map_titles
from SaliencyExplain.studies.report_words import number, percent

#: Least energy in the air that is reported, if it exceeds the air's share of the image, the value
#: by chance.
_MUCH_AIR = 0.5

LIMITS = (
    "A fixed place does not prove a shortcut: an organ in which the class is visible also lies "
    "in one place, and so does a finding in one region where no segmentation is given. Look at "
    "the place in the images; replace it, and see whether the answer changes.",
    "The absence of an alarm does not prove the contrary: a shortcut that moves, spreads over "
    "the whole image (such as a scanner's noise) or lies on a segment is not found in this way.",
    "Places are given as shares of the image: if scans differ in their field of view or in the "
    "patient's position, one anatomical place becomes many.",
    "The tests are over cases of one study; several cases of one patient are not independent.",
)


def evaluation_sentences(found: StudyEvaluation) -> list[str]:
    """The evaluation in plain words, alarms first."""
    titles = map_titles(found.study.labels)
    return [
        *_fixed(found, titles),
        *_air(found, titles),
        *pair_sentences(found.pairs, titles),
        *_evaluation(found, titles),
        *_groups(found, titles),
        *_biomarkers(found, titles),
    ]


def place_words(place: Sequence[float], sides: Sequence[tuple[str, str]]) -> str:
    """A place in words.

    Args:
        place: Its centre as a share of the sides, each in (0, 1).
        sides: What lies at the low and at the high end of each axis, as
            :func:`~SaliencyExplain.evaluation.study.normalised_maps.side_names` names it.

    Returns:
        Such as ``towards the patient's right, the front and the head (93 % from the patient's
        left, 93 % from the back, 88 % from the feet)``.
    """
    towards = [
        low if share < 1 / 3 else high
        for share, (low, high) in zip(place, sides, strict=True)
        if not 1 / 3 <= share <= 2 / 3
    ]
    words = f"towards {listed(towards)}" if towards else "in the middle of the image"
    shares = ", ".join(
        f"{100 * share:.0f} % from {low}" for share, (low, _) in zip(place, sides, strict=True)
    )
    return f"{words} ({shares})"


def _fixed(found: StudyEvaluation, titles: dict[str, str]) -> list[str]:
    if not found.fixed_places:
        return [
            f"No class has {LEAST_CASES} explained cases: it is not known whether the maps "
            "concentrate in a fixed place."
        ]
    said = []
    for undecided in (False, True):
        alike: dict[tuple[str, str, str], list[FixedPlace]] = {}
        for one in found.fixed_places:
            if one.undecided if undecided else one.alarm:
                where = place_words(one.place, found.survey.sides).partition(" (")[0]
                alike.setdefault((one.target, where, one.segment), []).append(one)
        said += [_gathers(own, titles, found) for own in alike.values()]
    if said:
        return said
    tested = len({one.target for one in found.fixed_places})
    outside = " outside of the segments" if found.segments_known else ""
    return [
        f"No sign of a shortcut in a fixed place: in {tested} class{'es' if tested != 1 else ''} "
        f"with {LEAST_CASES} cases or more no small place{outside} has more of the energy than "
        f"chance and its surroundings explain in {percent(MOST_CASES)} of the cases."
    ]


def _gathers(alike: Sequence[FixedPlace], titles: dict[str, str], found: StudyEvaluation) -> str:
    """What several methods have in one place for one class, in the metrics of the strongest."""
    one = max(alike, key=lambda place: place.excess)
    names = listed([titles.get(own.method, own.method) for own in alike])
    gather = "gathers" if len(alike) == 1 else "gather"
    where = place_words(one.place, found.survey.sides)
    if one.segment:
        where += f", in the segment “{one.segment}”, which lies there in most of its cases"
    of = "" if len(alike) == 1 else f" of {titles.get(one.method, one.method)}"
    others = ""
    if not math.isnan(one.others):
        others = f"; in the maps of the other classes it is {_signed(one.others)}"
    start, end = "Perhaps a shortcut: ", ""
    if one.undecided:
        start = "A finding, an organ or a shortcut (not known which): "
        end = f" No segment of a case explained for {one.target} is known."
    return (
        f"{start}{names} for {one.target} {gather} in one place, {where}. It holds "
        f"{percent(one.energy)} of the energy of a map{of}, {percent(one.excess)} of the energy "
        "more than its surroundings would put there (in 95 of 100 sets of maps shifted at random "
        f"at most {percent(one.chance)} anywhere; p = {one.p_corrected:.2g}, corrected for all "
        f"methods, classes and sizes of places){others}; it stands out in "
        f"{round(one.stands_out * one.cases)} of {one.cases} cases.{end}"
    )


def _signed(value: float) -> str:
    return f"{100 * value:+.1f} %".replace("-", "−")


def _air(found: StudyEvaluation, titles: dict[str, str]) -> list[str]:
    return [
        f"{titles.get(one.method, one.method)} has {percent(one.energy.mean)} "
        f"[{percent(one.energy.low)}, {percent(one.energy.high)}] of its energy in the air "
        f"around the body, which is {percent(one.volume)} of the image (in the "
        f"{one.energy.count} cases in which the body can be segmented); evidence there does not "
        "come from the patient."
        for one in found.places
        if one.place == AIR
        and one.energy.count >= LEAST_CASES
        and one.energy.mean >= _MUCH_AIR
        and one.energy.low > one.volume
        and one.method not in control_names.NAMES
    ]


def _evaluation(found: StudyEvaluation, titles: dict[str, str]) -> list[str]:
    return [
        f"{titles.get(one.method, one.method)}: mean insertion area {number(one.value.mean)}, "
        f"that of its null maps {number(one.null_mean)}; compared with the null maps of its own "
        f"case (p at most {CHANCE_P:g}, uncorrected) it is better in {percent(one.beats_chance)} "
        f"of {one.value.count} evaluated cases, where a null map would be in about "
        f"{percent(CHANCE_P)}."
        for one in found.metrics
        if one.metric == "insertion_area"
        and not math.isnan(one.value.mean)
        and not math.isnan(one.beats_chance)
    ]


def _groups(found: StudyEvaluation, titles: dict[str, str]) -> list[str]:
    said = []
    for one in found.clusters:
        if one.method in control_names.NAMES or len(one.groups) == 1:
            continue
        sizes = "; ".join(
            ", ".join(f"{count} {name}" for name, count in group.targets.items())
            for group in one.groups
        )
        chance = (
            ""
            if math.isnan(one.p_corrected)
            else (
                "; maps shifted at random form groups as clearly with p = "
                f"{one.p_corrected:.2g}, corrected for all methods"
            )
        )
        said.append(
            f"The maps of {titles.get(one.method, one.method)} form {len(one.groups)} groups "
            f"({sizes}{chance}): look at their mean maps for an unexpected strategy."
        )
    return said


def _biomarkers(found: StudyEvaluation, titles: dict[str, str]) -> list[str]:
    controls = {
        (one.method, one.segment, one.quantity): one.coefficient
        for one in found.biomarkers
        if one.method in control_names.NAMES and not math.isnan(one.coefficient)
    }
    said = []
    for one in found.biomarkers:
        if one.method in control_names.NAMES or not one.p_holm <= SIGNIFICANCE:
            continue
        rises = "rises" if one.coefficient > 0 else "falls"
        what = "segment’s size" if one.quantity == SIZE else "probability"
        beside = [
            f"that of the {titles[name]} {coefficient:.2f}"
            for name in control_names.NAMES
            if (coefficient := controls.get((name, one.segment, one.quantity))) is not None
        ]
        said.append(
            f"{titles.get(one.method, one.method)}: the energy in “{one.segment}” {rises} with the "
            f"{what} (Spearman {one.coefficient:.2f} [{one.low:.2f}, {one.high:.2f}], p = "
            f"{one.p_holm:.2g} corrected by Holm, {one.cases} cases)"
            + (f"; for comparison, {listed(beside)}." if beside else ".")
        )
    return said
