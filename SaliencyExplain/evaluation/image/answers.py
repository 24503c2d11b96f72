"""What the metrics of an evaluation say in words, and where the borders lie.

All thresholds are defined here. Each question has its own answer. There is no total score,
because a map that lies on the tumour and does not depend on the weights is not partly good.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from SaliencyExplain.comparison.table import auroc_chance
from SaliencyExplain.records.agreement_row import Row
from SaliencyExplain.records.control_names import CENTRE, RANDOM
from SaliencyExplain.results.evaluation_results import (
    BEATS_CHANCE,
    DEPENDS_ON_WEIGHTS,
    IS_STABLE,
    Answer,
    Metric,
    segment_question,
)
from SaliencyExplain.results.map_changes import Sanity, Stability
from SaliencyExplain.results.map_faithfulness import Faithfulness

#: A map beats chance in a metric if a null map is as good with at most this probability, the
#: usual level of a one-sided test. With 20 null maps it must exceed all.
CHANCE_P = 0.05

#: The metrics that answer whether a map beats chance, one for each way to ask the classifier:
#: the strongest voxels taken away, put in alone, and boxes taken away. The curves count as far
#: as the map ranks voxels. The mean drop repeats the deletion curve; the information curves
#: show the images of the insertion curve or ones like them.
CHANCE_METRICS = ("deletion_ranked", "insertion_ranked", "infidelity")

#: Rank correlations of maps under changes that they must bear (noise, shift, seed) are read as
#: is usual in medicine (Mukaka 2012, A guide to appropriate use of correlation coefficient in
#: medical research, table 1): below 0.5 low, from 0.7 on high.
LOW, HIGH = 0.5, 0.7

#: Rank correlation with the map of a network with random weights from which on a map stays in
#: part, and from which on it does not depend on the weights. Maps of networks known to be random
#: are alike by architecture and image alone: of Grad-CAM++, the smoothest, a tenth reach 0.7
#: and a twentieth 0.8; of other methods hardly any (docs/CALIBRATION.md).
ALIKE, UNCHANGED = 0.7, 0.8

#: Two maps of this rank correlation or more are the same, the air or not.
SAME = 0.99

#: A change that moves the target's probability by more than this is not a small one: the
#: classifier's own output changed, so the map may change too.
MOVED = 0.1

#: Changes under which a map must be stable. The worst case is reported but does not count: every
#: network has one, and its size depends on the budget of the search.
BORNE = ("seed", "noise", "shift by a voxel", "shift by several voxels")

YES, PARTLY, NO, UNKNOWN = "yes", "partly", "no", "not known"


def beats_chance(found: Faithfulness | None, reason: str, target: str) -> Answer:
    """Whether the classifier misses what the map shows more than what knowing nothing shows.

    Yes: in all three metrics the map beats its null maps and every control map. Partly: it beats
    its null maps in two of them, and every control map in two of these or in the infidelity. The
    curves of a control may be as good where what the classifier uses is bright or lies in the
    middle. Not known: a metric that is undefined for this map decides.
    """
    question = BEATS_CHANCE
    limits = (
        "The network was not trained on images with removed voxels; another baseline may give "
        "other values. docs/CALIBRATION.md says how often the answer is wrong for maps that do "
        "not use the classifier."
    )
    source = (
        "Samek et al. 2017; Petsiuk et al. 2018 (RISE); Yeh et al. 2019 (infidelity); null maps: "
        "Theiler et al. 1992, Schreiber and Schmitz 1996"
    )
    if found is None:
        return Answer(question, UNKNOWN, reason, limits, source)
    metrics = [found.metric(name) for name in CHANCE_METRICS]
    known = [metric for metric in metrics if not math.isnan(metric.beaten)]
    undefined = [metric for metric in metrics if math.isnan(metric.beaten)]
    if not known:
        words = f"No metric is defined: {metrics[0].remark or 'there is no null map'}."
        return Answer(question, UNKNOWN, words, limits, source)
    better = [metric for metric in known if metric.p_value <= CHANCE_P]
    beyond = [metric for metric in better if metric.beats_controls]
    infidelity = found.metric("infidelity")
    if len(beyond) == len(metrics):
        answer = YES
    elif len(better) >= 2 and (len(beyond) >= 2 or infidelity.beats_controls):
        answer = PARTLY
    elif undefined and len(better) + len(undefined) >= 2:
        answer = UNKNOWN
    else:
        answer = NO
    words = "; ".join(_beside_null_maps(metric) for metric in known)
    habit = [f"{one.control} ({one.title})" for one in known if not one.beats_controls]
    if habit:
        words += f". A control map that uses only the image does as well: {listed(habit)}"
    for metric in undefined:
        words += f". No answer by {metric.title}: {metric.remark}"
    return Answer(question, answer, f"For {target}: {words}.", limits, source)


def depends_on_weights(found: Sanity | None, reason: str, *, body_known: bool = True) -> Answer:
    """Whether the map changes when the network's weights are random.

    Args:
        found: How alike the maps are; None where that was not measured.
        reason: Why it was not.
        body_known: Whether similarity was measured within the body alone. The air is alike in any
            two maps: with it, only maps that are the same, or another one all the same, tell.
    """
    question = DEPENDS_ON_WEIGHTS
    limits = (
        "A map that changes is not necessarily right; smooth maps of random networks are "
        "somewhat similar by their smoothness alone."
    )
    source = "Adebayo et al. 2018 (Sanity checks for saliency maps); Arun et al. 2021"
    if found is None:
        return Answer(question, UNKNOWN, reason, limits, source)
    alike, early = found.alike_at_random, found.alike_but_first
    figures = f"rank correlation {alike:.2f} with the map of the same network with random weights"
    if found.constant_at_random:
        figures = "the same network with random weights gives a constant one"
    if not found.outputs_change:
        words = (
            "Random weights do not change the network's output, so the map has no reason to "
            "change: its weights are equal within each layer, or the output does not depend on "
            "them."
        )
        return Answer(question, UNKNOWN, words, limits, source)
    if not body_known and LOW <= np.fmax(alike, early) < SAME:
        words = (
            "The body cannot be separated from the air in this image, and the air is similar in "
            f"any two maps: {figures}."
        )
        return Answer(question, UNKNOWN, words, limits, source)
    if alike >= UNCHANGED:
        words = (
            f"The map hardly changes: {figures}. A map that does not change when the weights are "
            "random explains nothing that the network learnt."
        )
        return Answer(question, NO, words, limits, source)
    if early >= ALIKE:
        words = (
            f"The map changes only when the first layers are random too (then {alike:.2f}); "
            f"before that, rank correlation {early:.2f}: it shows the edges that the first "
            "layers detect, not what later layers learnt about the classes."
        )
        return Answer(question, PARTLY, words, limits, source)
    if alike >= ALIKE:
        words = f"Much of the map is the same without the learnt weights: {figures}."
        return Answer(question, PARTLY, words, limits, source)
    return Answer(question, YES, f"The map changes: {figures}.", limits, source)


def is_stable(found: Stability | None, reason: str, probability: float) -> Answer:
    """Whether the map is stable under small changes."""
    question = IS_STABLE
    limits = "Only a few changes were tested; a stable map may be stable and wrong."
    source = "Yeh et al. 2019 (sensitivity); Ghorbani et al. 2019; Arun et al. 2021"
    if found is None:
        return Answer(question, UNKNOWN, reason, limits, source)
    borne = [change for change in found.changes if change.kind in BORNE]
    fair = [change for change in borne if abs(change.probability - probability) <= MOVED]
    if not fair:
        words = "Each change altered the classifier's own output, so that the map may change too."
        return Answer(question, UNKNOWN, words, limits, source)
    correlation = {id(c): known(c.similarity.rank_correlation) for c in fair}
    least = min(fair, key=lambda change: correlation[id(change)])
    value = correlation[id(least)]
    answer = YES if value >= HIGH else PARTLY if value >= LOW else NO
    words = f"Least similar after {least.words}: rank correlation {value:.2f}"
    if len(fair) < len(borne):
        words += (
            f"; {len(borne) - len(fair)} of {len(borne)} changes altered the classifier's own "
            "output and do not count"
        )
    worst = [change for change in found.changes if change.kind == "worst case"]
    if worst:
        words += f". Worst case found: {known(worst[0].similarity.rank_correlation):.2f}"
    return Answer(question, answer, f"{words}.", limits, source)


def is_on_segment(rows: Sequence[Row], label: str, segment: str) -> Answer:
    """Whether the map lies on a segment, better than random maps and a centre-weighted map.

    Better than random means beyond the central 95 % of random maps on the same segment.

    Args:
        rows: The rows of the map and of the control maps.
        label: Label of the map.
        segment: Name of the segment.
    """
    question = segment_question(segment)
    limits = (
        "A classifier may use evidence outside the segment for good reasons, and a map on the "
        "segment need not show what the classifier used: a faithful map of a wrong classifier "
        "lies elsewhere."
    )
    source = "Arras et al. 2022 (CLEVR-XAI); Arun et al. 2021"
    found = {row.method: row for row in rows if row.segment == segment}
    if found[label].remark:
        words = (
            "The regions of the map are this segment itself: the map has the segment's outline, "
            "whatever the classifier looks at. Agreement and answer are withheld."
        )
        return Answer(question, UNKNOWN, words, limits, source)
    own = found[label].agreement
    habits = [found[CENTRE].agreement] if CENTRE in found and label != CENTRE else []
    if RANDOM in found and (chance := found[RANDOM].high) is not None:
        habits.append(chance)
    # Several voxels may be the strongest, if a map is flat at its top or ends at the border.
    peak = own.pointing_tolerance
    near = "peak" if peak in (0, 1) else f"half of its strongest voxels ({100 * peak:.0f} %)"
    checks = {
        f"{near} inside or within 5 {found[label].length_unit}": peak >= 0.5,
        "ranks it better than 97.5 % of random maps and a centre-weighted map": all(
            own.auroc > habit.auroc for habit in habits
        ),
        "has more of its energy there than they": all(
            known(own.energy_inside) > known(habit.energy_inside) for habit in habits
        ),
    }
    held = sum(checks.values())
    answer = YES if held == len(checks) else PARTLY if held else NO
    beside = [auroc_chance(rows, segment)]
    if CENTRE in found and label != CENTRE:
        beside.append(f"centre-weighted map {found[CENTRE].agreement.auroc:.2f}")
    words = (
        f"AUROC {own.auroc:.2f} ({'; '.join(beside)}), "
        f"{100 * known(own.energy_inside):.0f} % of its energy inside, "
        f"{100 * own.energy_chance:.1f} % by chance; "
        + "; ".join(f"{name}: {'yes' if true else 'no'}" for name, true in checks.items())
    )
    return Answer(question, answer, f"{words}.", limits, source)


def _beside_null_maps(metric: Metric) -> str:
    count = len(metric.null_values)
    mean = sum(metric.null_values) / count
    return (
        f"{metric.title} {metric.value:.2f} (null maps {mean:.2f}), beats "
        f"{metric.beaten * count:.3g} of {count} null maps"
    )


def known(value: float) -> float:
    """The value, or 0 where it is not defined (NaN)."""
    return 0.0 if math.isnan(value) else value


def listed(words: Sequence[str]) -> str:
    """Items as a list in a sentence: ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
