"""Where everything lies in a picture, in pixels from its left and top edge."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.textpath import TextToPath
from PIL import Image

BACKGROUND = (0.055, 0.06, 0.07)
TEXT = (0.90, 0.91, 0.93)
FAINT = (0.66, 0.68, 0.72)
FONT = "DejaVu Sans"  # comes with matplotlib, so that pictures look the same everywhere

STANDARD_WIDTH = 1100
TEXT_SIZE = 13.0

# Pixels of a picture of standard width.
_MARGIN = 16
_GAP = 10
_TITLE = 46
_UNDER_PANEL = 28
_LINE = 22
_BAR_AREA = 116
_TALLEST_PANEL = 640

Box = tuple[float, float, float, float]
"""Left, top, width and height in pixels."""


class Layout:
    """The figure and the places of its parts; all panels have the same scale in millimetres.

    Attributes:
        figure: The matplotlib figure, one pixel to a point.
        scale: Factor of lengths and letters: the picture's width over the standard one.
        panels: The boxes of the panels, from the left.
        bar: The box of the colour bar.
        lines_top: Where the lines of text under the panels begin.
    """

    def __init__(self, sizes_mm: Sequence[tuple[float, float]], width: int, lines: int) -> None:
        self.width = width
        self.scale = width / STANDARD_WIDTH
        margin, gap, bar = (self.scale * length for length in (_MARGIN, _GAP, _BAR_AREA))
        free = width - 2 * margin - bar - gap * len(sizes_mm)
        pixels_per_mm = min(
            free / sum(across for across, _ in sizes_mm),
            self.scale * _TALLEST_PANEL / max(down for _, down in sizes_mm),
        )
        boxes = [(round(a * pixels_per_mm), round(d * pixels_per_mm)) for a, d in sizes_mm]
        tallest = max(150 * self.scale, *(down for _, down in boxes))
        top = self.scale * _TITLE
        left = margin + (free - sum(across for across, _ in boxes)) / 2
        self.panels: list[Box] = []
        for across, down in boxes:
            self.panels.append((round(left), round(top + (tallest - down) / 2), across, down))
            left += across + gap
        bar_height = min(tallest, 300 * self.scale)
        self.bar: Box = (
            round(left + 22 * self.scale),
            round(top + (tallest - bar_height) / 2 + 12 * self.scale),
            round(14 * self.scale),
            round(bar_height - 24 * self.scale),
        )
        self.lines_top = top + tallest + _UNDER_PANEL * self.scale
        self.height = round(self.lines_top + lines * _LINE * self.scale + margin / 2)
        self.figure = Figure(figsize=(width / 72, self.height / 72), dpi=72, facecolor=BACKGROUND)

    def add_axes(self, box: Box) -> Axes:
        """Adds axes that fill a box, without frame and ticks."""
        left, top, width, height = box
        bottom = self.height - top - height
        axes = self.figure.add_axes(
            (left / self.width, bottom / self.height, width / self.width, height / self.height),
            facecolor="black",
        )
        axes.set_axis_off()
        return axes

    def write(
        self, x: float, y: float, words: str, *, size: float = TEXT_SIZE, **style: Any
    ) -> None:
        """Writes a line of text with its middle at y pixels from the top."""
        write_line(
            self.figure, (self.width, self.height), x, y, words, size=size * self.scale, **style
        )

    def line(self, number: int) -> float:
        """The middle of a line of text under the panels, pixels from the top."""
        return self.lines_top + (number + 0.5) * _LINE * self.scale

    @property
    def margin(self) -> float:
        """The left margin in pixels."""
        return _MARGIN * self.scale


def write_line(
    figure: Figure,
    pixels: tuple[float, float],
    x: float,
    y: float,
    words: str,
    *,
    size: float,
    **style: Any,
) -> None:
    """Writes a line of text on a figure of so many pixels, its middle at y from the top."""
    style = {"color": TEXT, "va": "center_baseline", **style}
    # Names of cases may have dollar signs: matplotlib would take them for formulas.
    figure.text(
        x / pixels[0],
        1 - y / pixels[1],
        drawable(words),
        fontsize=size,
        fontfamily=FONT,
        parse_math=False,
        **style,
    )


def drawable(words: str) -> str:
    """Puts a box for each letter that the font lacks, a space for each line break.

    matplotlib would draw boxes as well, but warn of every one of them on standard error.
    """
    known = _letters()
    return "".join(letter if ord(letter) in known else "□" for letter in " ".join(words.split()))


@cache
def _letters() -> frozenset[int]:
    return frozenset(get_font(findfont(FontProperties(family=FONT))).get_charmap())


def text_width(words: str, size: float) -> float:
    """How wide a text is, in pixels of a picture of standard width."""
    font = FontProperties(family=FONT, size=size)
    width, _, _ = TextToPath().get_text_width_height_descent(drawable(words), font, ismath=False)
    return float(width)


def shorten(words: str, size: float, pixels: float) -> str:
    """Leaves out the middle of a text that would not fit, since names differ at their ends."""
    kept = len(words)
    shown = words
    while kept > 1 and (wide := text_width(shown, size)) > pixels:
        # In proportion at first, so that a text of any length takes a few rounds.
        kept = min(kept - 1, int(kept * pixels / wide))
        head = kept // 2
        shown = f"{words[:head]}…{words[len(words) - (kept - head) :]}"
    return shown


def figure_png(figure: Figure) -> bytes:
    """A figure as a PNG file: the same bytes with each version of matplotlib."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    buffer = io.BytesIO()
    # Through Pillow: matplotlib's own writer adds its version.
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG")
    return buffer.getvalue()
