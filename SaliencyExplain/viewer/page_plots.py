"""Line plots as shapes that the page draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trame.widgets import html
from trame_client.widgets.core import HtmlElement

from SaliencyExplain.engine.client.click_history import ClickAnswer
from SaliencyExplain.engine.wire.results import CompareResult
from SaliencyExplain.results.image_evaluation import EvaluationCurve

_WIDTH, _HEIGHT = 330, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 8, 8, 30

#: Told apart without colour vision, too (Okabe and Ito 2008), on a dark ground.
_COLORS = ("#56b4e9", "#e69f00", "#7fd6a8", "#f0e442", "#cc79a7", "#d55e00", "#8fa8ff")
_GREY = "#8a94a3"

#: Name, x, y, and whether it is dashed.
_Line = tuple[str, Sequence[float], Sequence[float], bool]


def probability_plot(answer: ClickAnswer) -> dict[str, Any]:
    """The probability of each class over the radius of the removed ball; 0: nothing removed.

    Nothing where the probabilities cannot move.
    """
    probe = answer.probe
    balls = [one for one in answer.removals if one.radius_mm is not None]
    if probe is None or not balls or probe.output == "score":
        return {}
    radii = [0.0, *(float(one.radius_mm or 0.0) for one in balls)]
    lines: list[_Line] = [
        (name, radii, [probe.before[i], *(one.probabilities[i] for one in balls)], False)
        for i, name in enumerate(probe.classes)
    ]
    return _plot(lines, max(radii), f"removed radius, {probe.length_unit}", "probability", radii)


def curve_plot(result: CompareResult, segment: str) -> dict[str, Any]:
    """How much of a segment lies among the strongest voxels; the diagonal is chance."""
    lines: list[_Line] = [("chance", [0.0, 1.0], [0.0, 1.0], True)]
    lines += [
        (one.label, one.share_of_image, one.share_of_segment, one.label in ("random", "centre"))
        for one in result.curves
        if one.segment == segment and one.share_of_image
    ]
    ticks = [0.0, 0.25, 0.5, 0.75, 1.0]
    return _plot(lines, 1.0, "strongest share of the image", "share of the segment in it", ticks)


def evaluation_plot(curves: Sequence[EvaluationCurve]) -> dict[str, Any]:
    """A map's deletion and insertion curves; dashed: the median of null maps."""
    lines: list[_Line] = []
    for curve in curves:
        if curve.null_median:
            lines.append((curve.name, curve.xs, curve.ys, False))
            lines.append((f"{curve.name}, null maps", curve.xs, curve.null_median, True))
    ticks = [0.0, 0.25, 0.5, 0.75, 1.0]
    title = "strongest share removed or inserted"
    return _plot(lines, 1.0, title, "probability", ticks) if lines else {}


def build_plot(state: str) -> None:
    """The page's drawing of a plot that stands in its state."""
    with html.Div(v_if=(f"{state}.lines",), classes="se-plot"):
        with html.Svg(raw_attrs=[f'viewBox="0 0 {_WIDTH} {_HEIGHT}"', 'role="img"']):
            _shapes("line", f"{state}.grid", "x1 y1 x2 y2", 'class="se-grid"')
            _shapes(
                "polyline",
                f"{state}.lines",
                "points",
                'fill="none" stroke-width="2" :stroke="one.color"',
                ":stroke-dasharray=\"one.dashed ? '4 4' : null\"",
            )
            _shapes(
                "text",
                f"{state}.labels",
                "x y",
                'class="se-plot-text" :text-anchor="one.anchor" :transform="one.turn"',
                ':textContent="one.text"',
            )
        with (
            html.Div(classes="se-plot-key"),
            html.Span(v_for=f"(one, n) in {state}.lines", key="n", classes="se-plot-name"),
        ):
            html.Span(classes="se-swatch", style=("{background: one.color}",))
            html.Span("{{ one.name }}")


def _shapes(tag: str, each: str, bound: str, *attributes: str) -> None:
    HtmlElement(
        tag,
        raw_attrs=[
            f'v-for="(one, n) in {each}" :key="n"',
            *attributes,
            *(f':{name}="one.{name}"' for name in bound.split()),
        ],
    )


def _plot(
    lines: Sequence[_Line],
    x_end: float,
    x_title: str,
    y_title: str,
    x_ticks: Sequence[float],
) -> dict[str, Any]:
    """Lines over x in [0, x_end] and y in [0, 1], in pixels of the drawing."""

    def at_x(value: float) -> float:
        return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * value / x_end, 1)

    def at_y(value: float) -> float:
        return round(_HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * value, 1)

    grid = [
        {"x1": at_x(0), "x2": at_x(x_end), "y1": at_y(y), "y2": at_y(y)} for y in (0.0, 0.5, 1.0)
    ]
    grid += [{"x1": at_x(x), "x2": at_x(x), "y1": at_y(0), "y2": at_y(1)} for x in x_ticks]
    labels = [
        {"x": _LEFT - 5, "y": at_y(y) + 4, "text": f"{y:g}", "anchor": "end", "turn": None}
        for y in (0.0, 0.5, 1.0)
    ]
    labels += [
        {"x": at_x(x), "y": _HEIGHT - _BOTTOM + 13, "text": f"{x:g}", "anchor": "middle",
         "turn": None}
        for x in x_ticks
    ]  # fmt: skip
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    labels.append(
        {"x": middle, "y": _HEIGHT - 3, "text": x_title, "anchor": "middle", "turn": None}
    )
    half = (_HEIGHT - _BOTTOM + _TOP) / 2
    labels.append(
        {"x": 10, "y": half, "text": y_title, "anchor": "middle", "turn": f"rotate(-90 10 {half})"}
    )
    drawn, colors = [], iter(_COLORS * (1 + len(lines) // len(_COLORS)))
    for name, xs, ys, dashed in lines:
        points = " ".join(f"{at_x(x)},{at_y(y)}" for x, y in zip(xs, ys, strict=True))
        color = _GREY if name == "chance" else next(colors)
        drawn.append({"name": name, "points": points, "color": color, "dashed": dashed})
    return {"lines": drawn, "grid": grid, "labels": labels}
