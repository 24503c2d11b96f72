"""The figure of a report: every method beside the control maps, as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Callable
from html import escape

from SaliencyExplain.records import control_names
from SaliencyExplain.studies.report_data import RunData
from SaliencyExplain.studies.report_words import figure_text, with_interval

_LABELS, _PLOT, _FIGURES = 160, 240, 185
_ROW, _TOP, _BOTTOM = 30, 34, 40
#: Points drawn for a method; of more cases every n-th by value, so that the spread stays true.
_POINTS = 200


def agreement_figure(run: RunData, segment: str, figure: str) -> str:
    """Draws one figure for one segment: a row per map, a point per case, mean and interval.

    Args:
        run: The study.
        segment: The segment.
        figure: ``auroc`` (axis 0 to 1, chance 0.5) or ``energy_inside`` (axis from 0, chance
            the segment's mean share of the volume).

    Returns:
        An ``<svg>`` element that takes its colours from the page.
    """
    maps = [name for name in run.maps if (name, segment, figure) in run.values]
    chance = 0.5
    if figure == "energy_inside":
        shares = [run.of(name, segment, "energy_chance") for name in maps]
        chance = next((s.interval.mean for s in shares if s is not None), math.nan)
    high = 1.0 if figure == "auroc" else _axis_end(run, segment, figure, maps, chance)
    height = _TOP + _ROW * len(maps) + _BOTTOM
    width = _LABELS + _PLOT + _FIGURES

    def x(value: float) -> float:
        return round(_LABELS + _PLOT * min(max(value / high, 0.0), 1.0), 1)

    words = {"auroc": "AUROC", "energy_inside": "energy inside"}[figure]
    description = f"{words} of each method for {segment}; chance {figure_text(figure, chance)}"
    parts = [
        f'<svg class="strip" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(description)}">'
    ]
    bottom = height - _BOTTOM
    for step in range(5):
        value = high * step / 4
        parts.append(
            f'<line class="grid" x1="{x(value)}" x2="{x(value)}" y1="{_TOP - 6}" y2="{bottom}"/>'
            f'<text class="tick" x="{x(value)}" y="{bottom + 16}" text-anchor="middle">'
            f"{figure_text(figure, value)}</text>"
        )
    parts.append(
        f'<line class="chance" x1="{x(chance)}" x2="{x(chance)}" y1="{_TOP - 6}" y2="{bottom}"/>'
        f'<text class="chance-word" x="{x(chance)}" y="{_TOP - 12}" text-anchor="middle">'
        f"chance {figure_text(figure, chance)}</text>"
        f'<text class="tick" x="{_LABELS + _PLOT / 2}" y="{bottom + 34}" text-anchor="middle">'
        f"{words}: a point per case, mean with 95 % interval</text>"
    )
    for place, name in enumerate(maps):
        parts.append(_row(run, (name, segment, figure), _TOP + _ROW * place + _ROW / 2, x))
    return "".join([*parts, "</svg>"])


def _row(run: RunData, key: tuple[str, str, str], y: float, x: Callable[[float], float]) -> str:
    name = key[0]
    kind = "control_map" if name in control_names.NAMES else "method"
    values = sorted(run.values[key])
    step = max(1, math.ceil(len(values) / _POINTS))
    dots = "".join(f'<circle cx="{x(value)}" cy="{y}" r="2.5"/>' for value in values[::step])
    interval = run.summaries[key].interval
    text = with_interval(key[2], interval)
    whisker = ""
    if not math.isnan(interval.low):
        ends = f'x1="{x(interval.low)}" x2="{x(interval.high)}"'
        whisker = f'<line class="whisker" {ends} y1="{y}" y2="{y}"/>'
    return (
        f'<g class="{kind}"><text class="name" x="{_LABELS - 12}" y="{y + 4}" text-anchor="end">'
        f"{escape(_short(run.title_of(name)))}</text>"
        f'<g class="cases">{dots}</g>{whisker}'
        f'<circle class="mean" cx="{x(interval.mean)}" cy="{y}" r="5"/>'
        f'<text class="value" x="{_LABELS + _PLOT + 10}" y="{y + 4}">{text}</text></g>'
    )


def _axis_end(run: RunData, segment: str, figure: str, maps: list[str], chance: float) -> float:
    most = max(max(run.values[name, segment, figure]) for name in maps)
    most = max(most, chance * 2)
    return next((end for end in (0.02, 0.04, 0.1, 0.2, 0.4, 0.6, 0.8) if most <= end), 1.0)


def _short(text: str) -> str:
    return text if len(text) <= 22 else f"{text[:10]}…{text[-11:]}"
