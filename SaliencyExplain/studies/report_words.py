"""Sentences on a study's metrics."""

from __future__ import annotations

import math

from SaliencyExplain.comparison.bootstrap import Interval
from SaliencyExplain.studies.report_data import RunData


def number(value: float) -> str:
    """A figure with two decimals, or a dash where it is undefined."""
    return "–" if math.isnan(value) else f"{value:.2f}"


def percent(value: float) -> str:
    """A share in per cent, with as many decimals as leave two digits of a small one."""
    if math.isnan(value):
        return "–"
    decimals = 0 if value >= 0.0995 else 1 if value >= 0.00995 or value == 0 else 2
    return f"{value * 100:.{decimals}f} %"


def figure_text(figure: str, value: float) -> str:
    """One of the comparison's figures: energies in per cent, all others as numbers."""
    return percent(value) if figure.startswith("energy") else number(value)


def with_interval(figure: str, interval: Interval) -> str:
    """A mean with its interval, where there is one."""
    mean, low, high = (
        figure_text(figure, value) for value in (interval.mean, interval.low, interval.high)
    )
    return mean if math.isnan(interval.low) else f"{mean} [{low}, {high}]"


def sentences(run: RunData) -> list[str]:
    """A study in plain words: the prediction first, then each method and segment."""
    said = []
    if run.labels is not None:
        labels = run.labels
        right = round(labels.accuracy * labels.count)
        said.append(
            f"The classifier is right in {right} of {labels.count} labelled cases "
            f"({percent(labels.accuracy)}); mean F1 score of the classes {number(labels.macro_f1)}."
        )
    if not run.segments:
        said.append(
            "No case was compared with a segmentation, so it is unknown whether the maps lie on "
            "the structures of interest."
        )
    for method in run.labels_of_maps:
        said += [words for segment in run.segments if (words := _conclusion(run, method, segment))]
        if len(run.segments) > 1 and (words := _most_energy(run, method)):
            said.append(words)
    return said


def _conclusion(run: RunData, method: str, segment: str) -> str:
    if (method, segment) in run.withheld:
        return (
            f"{run.title_of(method)}, “{segment}”: withheld where the map's regions are this "
            "segment itself, since such a map lies on it whatever the classifier looks at."
        )
    auroc = run.of(method, segment, "auroc")
    energy = run.of(method, segment, "energy_inside")
    chance = run.of(method, segment, "energy_chance")
    if auroc is None or energy is None or chance is None or math.isnan(auroc.interval.mean):
        return ""
    others = []
    for name, words in (("random", "random maps"), ("centre", "the centre-weighted map")):
        control_map = run.of(name, segment, "auroc")
        if control_map is not None:
            others.append(f"{words} {number(control_map.interval.mean)}")
    beats = {name: auroc.beats(name) for name in auroc.against}
    title = run.title_of(method)
    if None in beats.values() or not beats:
        answer = f"{title}, “{segment}”: too few cases to distinguish from chance"
    elif all(beats.values()):
        answer = f"{title} finds “{segment}”"
    elif auroc.interval.high < 0.5:
        answer = f"{title} agrees less with “{segment}” than random maps"
    elif beats.get("random"):
        answer = f"{title} beats chance for “{segment}”, but not the centre-weighted map"
    else:
        answer = f"{title} does not agree with “{segment}” better than chance"
    compared = f" ({', '.join(others)})" if others else ""
    return (
        f"{answer}: mean AUROC {with_interval('auroc', auroc.interval)}{compared}; "
        f"{percent(energy.interval.mean)} of its energy lies inside, by chance "
        f"{percent(chance.interval.mean)}; {auroc.interval.count} "
        f"case{'s' if auroc.interval.count != 1 else ''}."
    )


def _most_energy(run: RunData, method: str) -> str:
    found = []
    for segment in run.segments:
        energy = run.of(method, segment, "energy_inside")
        chance = run.of(method, segment, "energy_chance")
        if energy and chance and chance.interval.mean > 0 and energy.interval.mean > 0:
            found.append((energy.interval.mean / chance.interval.mean, segment))
    if len(found) < 2:
        return ""
    found.sort(reverse=True)
    parts = ", ".join(f"“{segment}” {times:.1f} times" for times, segment in found)
    return (
        f"{run.title_of(method)} has the most energy in “{found[0][1]}”: energy inside as a "
        f"multiple of chance is {parts}."
    )
