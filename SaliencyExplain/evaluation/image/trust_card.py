"""The trust card of a map: a picture, four or more questions, their answers in words."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from SaliencyExplain.evaluation.image import evaluation_plots
from SaliencyExplain.evaluation.image.answers import UNKNOWN
from SaliencyExplain.evaluation.image.evaluated_maps import EvaluatedMaps
from SaliencyExplain.evaluation.image.thumbnails import PartialImageRows, segments_of
from SaliencyExplain.images.image_writing import atomic_file
from SaliencyExplain.pictures import draw_planes
from SaliencyExplain.pictures.figure_layout import (
    BACKGROUND,
    FAINT,
    STANDARD_WIDTH,
    figure_png,
    text_width,
    write_line,
)
from SaliencyExplain.records.control_names import NAMES as CONTROL_MAPS
from SaliencyExplain.results.evaluation_results import (
    BEATS_CHANCE,
    DEPENDS_ON_WEIGHTS,
    IS_STABLE,
    Answer,
    segment_question,
)
from SaliencyExplain.results.image_evaluation import Evaluation, MapEvaluation

_MARGIN, _GAP = 16, 10
_PLOT_WIDTH, _PLOT_HEIGHT = 330, 170
_LINE = 18
_WORDS_WIDTH = STANDARD_WIDTH - 2 * _MARGIN - _PLOT_WIDTH - 50
_FOOT = (
    "There is no total score: read each answer by itself. Thresholds: null maps p ≤ 0.05; rank "
    "correlation below 0.5 unstable, from 0.7 on stable; with random weights 0.7 and 0.8."
)


@dataclass(frozen=True)
class _Row:
    answer: Answer
    draw: Callable[[Axes], None] | None
    lines: tuple[tuple[str, str], ...]

    @property
    def height(self) -> int:
        words = 34 + _LINE * len(self.lines)
        return max(words, _PLOT_HEIGHT if self.draw else 0) + _GAP


def draw_card(path: Path, found: EvaluatedMaps, one: MapEvaluation) -> None:
    """Writes the trust card of a map as PNG; see :func:`card_png`.

    Raises:
        OutputError: The file cannot be written.
    """
    _write_png(path, card_png(found, one))


def card_png(found: EvaluatedMaps, one: MapEvaluation) -> bytes:
    """Draws the trust card of a map as PNG, the same bytes for the same evaluation.

    Args:
        found: The evaluation that the map was in, and what its pictures show.
        one: The evaluation of the map.
    """
    picture = _planes(found, one)
    rows = [_row(answer, one) for answer in one.answers]
    images = None
    if one.faithfulness is not None:
        images = PartialImageRows(one, found.pictures[one.label], found.case)
    foot = [_FOOT, *_channels(found.evaluation, one), *one.notes, _how(found.evaluation)]
    feet = [line for words in foot for line in wrapped(words, 11, STANDARD_WIDTH - 2 * _MARGIN)]
    height = picture.shape[0] + sum(row.height for row in rows) + 15 * len(feet) + 3 * _GAP
    height += images.height if images else 0
    figure = Figure(figsize=(STANDARD_WIDTH / 72, height / 72), dpi=72, facecolor=BACKGROUND)
    axes = figure.add_axes((0, 1 - picture.shape[0] / height, 1, picture.shape[0] / height))
    axes.imshow(picture, aspect="auto", interpolation="none")
    axes.set_axis_off()
    top = picture.shape[0] + _GAP
    for row in rows:
        _draw_row(figure, row, top, height)
        top += row.height
        if images and row.answer.question == BEATS_CHANCE:
            images.draw(figure, top, height)
            top += images.height
    for number, line in enumerate(feet):
        y = top + 15 * (number + 0.5)
        write_line(figure, (STANDARD_WIDTH, height), _MARGIN, y, line, size=11, color=FAINT)
    return figure_png(figure)


def draw_curves_picture(path: Path, evaluated: Sequence[MapEvaluation]) -> None:
    """Writes the curves of the maps of an evaluation side by side as PNG.

    Raises:
        OutputError: The file cannot be written.
    """
    maps = {one.label: one.faithfulness for one in evaluated if one.faithfulness is not None}
    figure = Figure(figsize=(STANDARD_WIDTH / 72, 400 / 72), dpi=72, facecolor=BACKGROUND)
    if maps:
        left, middle, right = (
            figure.add_axes((0.055 + 0.325 * number, 0.13, 0.27, 0.75)) for number in range(3)
        )
        evaluation_plots.draw_curves(left, maps, "deletion")
        evaluation_plots.draw_curves(middle, maps, "insertion", legend=False)
        evaluation_plots.draw_information(right, maps, "compressed")
    _write_png(path, figure_png(figure))


def wrapped(words: str, size: float, pixels: float) -> list[str]:
    """Breaks a text into lines of at most ``pixels`` pixels."""
    lines: list[str] = []
    line = ""
    for word in words.split():
        longer = f"{line} {word}".strip()
        if line and text_width(longer, size) > pixels:
            lines.append(line)
            longer = word
        line = longer
    return [*lines, line] if line else lines


def _planes(found: EvaluatedMaps, one: MapEvaluation) -> np.ndarray:
    buffer = io.BytesIO()
    case, evaluation = found.case, found.evaluation
    probability = evaluation.probabilities[evaluation.target]
    draw_planes(
        buffer,
        case.image[one.channel].as_tensor().numpy(),
        found.pictures[one.label].values,
        np.asarray(case.image.affine, dtype=np.float64),
        segments=segments_of(case.references.segmentation),
        title=f"{evaluation.image} · {one.label} · {evaluation.target_name} "
        f"(p = {probability:.2f})",
        signed=one.signed,
        resolution_mm=one.resolution_mm,
    )
    with Image.open(buffer) as picture:
        return np.asarray(picture.convert("RGB"))


def _row(answer: Answer, one: MapEvaluation) -> _Row:
    lines = [("words", line) for line in wrapped(answer.words, 13, _WORDS_WIDTH)]
    for words in (f"Limits: {answer.limits}", f"Source: {answer.source}"):
        lines += [("small", line) for line in wrapped(words, 11, _WORDS_WIDTH)]
    return _Row(answer, _plot_of(answer, one), tuple(lines))


def _plot_of(answer: Answer, one: MapEvaluation) -> Callable[[Axes], None] | None:
    """The small plot next to an answer; None if nothing was measured."""
    faithful, sane, stable = one.faithfulness, one.sanity, one.stability
    if answer.answer == UNKNOWN:
        return None
    if answer.question == BEATS_CHANCE and faithful is not None:
        # The other curves are next to their images.
        if not faithful.curves.softmax_information["compressed"].information:
            return None
        return lambda axes: evaluation_plots.draw_information(
            axes, {one.label: faithful}, "compressed"
        )
    if answer.question == DEPENDS_ON_WEIGHTS and sane is not None:
        return lambda axes: evaluation_plots.draw_cascade(axes, sane)
    if answer.question == IS_STABLE and stable is not None:
        return lambda axes: evaluation_plots.draw_changes(axes, stable)
    rows = [row for row in one.rows if answer.question == segment_question(row.segment)]
    rows.sort(key=lambda row: row.method in CONTROL_MAPS and row.method != one.label)
    if not rows:
        return None
    energies = [(row.method.split("@")[0], row.agreement.energy_inside) for row in rows]
    return lambda axes: evaluation_plots.draw_energy(axes, energies)


def _draw_row(figure: Figure, row: _Row, top: float, height: float) -> None:
    answer, size = row.answer, (STANDARD_WIDTH, height)
    mark = f"{answer.symbol} {answer.answer.upper()}"
    write_line(figure, size, _MARGIN, top + 14, answer.question, size=15, weight="bold")
    beside = _MARGIN + text_width(answer.question, 15) * 1.12 + 20
    write_line(figure, size, beside, top + 14, mark, size=15, weight="bold")
    for number, (kind, line) in enumerate(row.lines):
        style: dict[str, Any] = {"size": 13} if kind == "words" else {"size": 11, "color": FAINT}
        write_line(figure, size, _MARGIN, top + 34 + _LINE * (number + 0.5), line, **style)
    if row.draw is None:
        return
    left = STANDARD_WIDTH - _MARGIN - _PLOT_WIDTH + 40
    place = (left, top + 20, _PLOT_WIDTH - 40, _PLOT_HEIGHT - 62)
    axes = figure.add_axes(
        (
            place[0] / STANDARD_WIDTH,
            1 - (place[1] + place[3]) / height,
            place[2] / STANDARD_WIDTH,
            place[3] / height,
        )
    )
    row.draw(axes)


def _channels(found: Evaluation, one: MapEvaluation) -> list[str]:
    """The importance of the channels, for the footer."""
    if one.msfi is None or found.channels is None:
        return []
    pairs = zip(found.channels.channels, found.channels.values, strict=True)
    values = ", ".join(f"{name} {value:+.2f}" for name, value in pairs)
    return [f"Shapley values of the channels: {values}. {one.msfi.words}."]


def _how(found: Evaluation) -> str:
    return (
        f"Classifier {found.classifier} · cost tier {found.cost_tier} · "
        f"{found.forward_passes:,.0f} forward passes · seed {found.seed} · "
        f"SaliencyExplain {found.versions['SaliencyExplain']}"
    )


def _write_png(path: Path, content: bytes) -> None:
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)
