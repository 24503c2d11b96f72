"""Rows of partly deleted and partly restored images with the classifier's answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from monai.data import MetaTensor
from numpy.typing import NDArray

from SaliencyExplain.evaluation.image import evaluation_plots
from SaliencyExplain.evaluation.image.evaluated_maps import MapPictures
from SaliencyExplain.evaluation.image.partial_images import KINDS, SHOWN
from SaliencyExplain.explanation.prepared_case import PreparedCase
from SaliencyExplain.images.segmentation import Segmentation
from SaliencyExplain.pictures import panel
from SaliencyExplain.pictures.figure_layout import (
    FAINT,
    STANDARD_WIDTH,
    shorten,
    text_width,
    write_line,
)
from SaliencyExplain.pictures.reading_aids import GreyWindow, Segment, grey_window
from SaliencyExplain.pictures.slab import Slab, peak_view, slab_of
from SaliencyExplain.results.image_evaluation import MapEvaluation

_MARGIN, _GAP = 16, 6
_LABELS, _PLOT = 104, 270
_CELL_HEIGHT = 132
_HEADING, _UNDER, _BETWEEN = 42, 20, 14
_SHARES = (0.0, *SHOWN)

#: Correlation of the image and the network's input from which on one is a line of the other:
#: the demo's coarse input has 0.9, an image in its own resolution 1.
_STRAIGHT = 0.8


@dataclass(frozen=True)
class _Row:
    label: str
    kind: str
    random: bool


class PartialImageRows:
    """The thumbnails of a map beside its curves, to be drawn on a card.

    The first plane of the card's picture, in the same place and turned the same way, of the
    network's input as the classifier saw it, brought back onto the image's grid; all in the
    card's window of greys. Where the network sees nothing it is black.

    Args:
        one: The evaluation of the map, with its faithfulness.
        pictures: The map's voxels and what the classifier was shown.
        case: The image put to the classifier.

    Attributes:
        greys: The window of the pictures, in the units of the network's input.
    """

    def __init__(self, one: MapEvaluation, pictures: MapPictures, case: PreparedCase) -> None:
        if one.faithfulness is None or pictures.images is None:
            raise ValueError(f"{one.label} has no faithfulness to show")
        self._found, self._images = one.faithfulness, pictures.images
        self._label = one.method or one.label
        self._target = case.target_name
        self._case = case
        affine = np.asarray(case.image.affine, dtype=np.float64)
        image = case.image[one.channel].as_tensor().numpy()
        seen = peak_view(
            image,
            pictures.values,
            affine,
            segments_of(case.references.segmentation),
            signed=one.signed,
            resolution_mm=one.resolution_mm,
        )
        self._slab: Slab = slab_of(seen, affine)
        wide, high = self._slab.plane.size_mm
        room = STANDARD_WIDTH - 2 * _MARGIN - _LABELS - _PLOT - _GAP * len(_SHARES)
        scale = min(room / len(_SHARES) / wide, _CELL_HEIGHT / high)
        self._cell = (round(wide * scale), round(high * scale))
        self._inside = self._restored(np.ones_like(self._images.image)) > 0.5
        self.greys: GreyWindow = self._window(image[self._slab.box], seen.greys)

    @property
    def height(self) -> int:
        """Pixels from the top of the first heading to the end."""
        return sum(self._height_of(kind) for kind in KINDS)

    def draw(self, figure: Figure, top: float, height: float) -> None:
        """Draws the rows on a figure of standard width, ``top`` pixels from its upper edge."""
        for kind in KINDS:
            self._draw_kind(figure, kind, top, height)
            top += self._height_of(kind)

    def pixels(self, kind: str, share: float, *, random: bool = False) -> NDArray[np.float32]:
        """The plane's pixels of an image, rows from the top; black outside the network's view.

        Args:
            kind: ``deletion`` or ``insertion``.
            share: Of the strongest voxels, one of the shown ones or 0.
            random: Whether of the null map.
        """
        shown = self._restored(self._images.shown(kind, share, random=random))
        return self._slab.plane.cut(np.where(self._inside, shown, np.float32(self.greys.black)))

    def _window(self, image: NDArray[np.floating], greys: GreyWindow) -> GreyWindow:
        """The picture's window in the units of the network's input.

        The image is fitted by the input, not the other way round: the input is mostly coarser,
        and what it lacks of the image does not bend the line. Where the preprocessing changes
        intensities by no line, the input gets a window of its own by the same rule.
        """
        given = self._images.image
        seen = self._restored(given)[self._inside].astype(np.float64)
        own = image[self._inside].astype(np.float64)
        if seen.size < 2 or seen.std() == 0 or own.std() == 0:
            return grey_window(given)
        correlation = float(np.corrcoef(seen, own)[0, 1])
        if correlation < _STRAIGHT:
            return grey_window(given)
        slope = correlation * own.std() / seen.std()
        black, white, background = (
            float(seen.mean() + (value - own.mean()) / slope)
            for value in (greys.black, greys.white, greys.background)
        )
        return GreyWindow(black, white, background)

    def _restored(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        slab = MetaTensor(torch.zeros(1, *self._slab.shape), affine=self._slab.affine)
        return self._case.classifier.restore(values, self._case.input, slab)

    def _rows(self, kind: str) -> list[_Row]:
        return [
            _Row(self._label, kind, random=False),
            _Row("null map", kind, random=True),
        ]

    def _row_height(self) -> int:
        return self._cell[1] + _UNDER

    def _height_of(self, kind: str) -> int:
        return _HEADING + len(self._rows(kind)) * self._row_height() + _BETWEEN

    def _draw_kind(self, figure: Figure, kind: str, top: float, height: float) -> None:
        words = (
            f"Deleted: the strongest voxels replaced by {self._found.baseline}"
            if kind == "deletion"
            else f"Inserted: the strongest voxels alone, elsewhere {self._found.baseline}"
        )
        size = (STANDARD_WIDTH, height)
        heading = f"{words}. p: probability of {self._target}"
        write_line(figure, size, _MARGIN, top + 9, shorten(heading, 12, 780), size=12)
        lefts = [_MARGIN + _LABELS + n * (self._cell[0] + _GAP) for n in range(len(_SHARES))]
        for left, share in zip(lefts, _SHARES, strict=True):
            none = "as it is" if kind == "deletion" else "nothing"
            write_line(
                figure, size, left + self._cell[0] / 2, top + 30,
                f"{100 * share:.0f} %" if share else none, size=11, color=FAINT, ha="center",
            )  # fmt: skip
        down = top + _HEADING
        for row in self._rows(kind):
            middle = down + self._cell[1] / 2
            lines = _label_lines(row.label)
            for number, line in enumerate(lines):
                at = middle + 15 * (number - (len(lines) - 1) / 2)
                write_line(figure, size, _MARGIN, at, line, size=11)
            for left, share in zip(lefts, _SHARES, strict=True):
                axes = _axes(figure, (left, down, *self._cell), height)
                self._draw_image(axes, row, share)
                p = self._images.probability(kind, share, random=row.random)
                write_line(
                    figure, size, left + self._cell[0] / 2, down + self._cell[1] + 9,
                    f"p {p:.2f}", size=11, ha="center",
                )  # fmt: skip
            down += self._row_height()
        across = STANDARD_WIDTH - _MARGIN - _PLOT + 46
        tall = min(190, down - top - _HEADING - 24)
        self._draw_curve(
            _axes(figure, (across, top + _HEADING - 12, _PLOT - 46, tall), height), kind
        )

    def _draw_image(self, axes: Axes, row: _Row, share: float) -> None:
        axes.set_axis_off()
        plane = self._slab.plane
        panel.draw_anatomy(axes, self.pixels(row.kind, share, random=row.random), plane, self.greys)
        if plane.letters and share == 0:
            panel.draw_letters(axes, plane.letters, 0.7, self._cell[1])

    def _draw_curve(self, axes: Axes, kind: str) -> None:
        evaluation_plots.draw_curves(axes, {self._label: self._found}, kind, legend=False)
        for row in self._rows(kind):
            answers = [
                self._images.probability(kind, share, random=row.random) for share in _SHARES
            ]
            color = FAINT if row.random else evaluation_plots.COLORS[0]
            axes.plot(_SHARES, answers, "s" if row.random else "o", color=color, markersize=4,
                      clip_on=False)  # fmt: skip


def _label_lines(label: str) -> list[str]:
    """A row's label in a line, or broken behind a hyphen into two."""
    lines = [label]
    if text_width(label, 11) > _LABELS - 8 and "-" in label:
        head, hyphen, tail = label.rpartition("-")
        lines = [head + hyphen, tail]
    return [shorten(line, 11, _LABELS - 8) for line in lines]


def segments_of(segmentation: Segmentation | None) -> list[Segment]:
    """The segments as pictures take them; none without a segmentation."""
    return [
        (segment.name, segment.color, segment.mask)
        for segment in (segmentation.segments if segmentation else ())
    ]


def _axes(figure: Figure, box: tuple[float, float, float, float], height: float) -> Axes:
    left, top, wide, high = box
    return figure.add_axes(
        (
            left / STANDARD_WIDTH,
            1 - (top + high) / height,
            wide / STANDARD_WIDTH,
            high / height,
        ),
        facecolor="black",
    )
