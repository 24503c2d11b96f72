"""Draws one plane: anatomy, heat, outlines, the peak's place and the orientation letters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from SaliencyExplain.colormaps import color_table, opacity_table
from SaliencyExplain.pictures.figure_layout import FONT, TEXT
from SaliencyExplain.pictures.outlines import Color, outline_edges
from SaliencyExplain.pictures.planes import Plane
from SaliencyExplain.pictures.reading_aids import GreyWindow

_LETTER = 14


def draw_anatomy(axes: Axes, pixels: NDArray[np.floating], plane: Plane, greys: GreyWindow) -> None:
    """Draws the anatomy, with its voxels in their true proportions."""
    _show(axes, pixels, plane, cmap="gray", vmin=greys.black, vmax=greys.white)
    axes.set_xlim(0, plane.size_mm[0])
    axes.set_ylim(plane.size_mm[1], 0)


def draw_heat(
    axes: Axes, pixels: NDArray[np.floating], plane: Plane, window: float, signed: bool
) -> None:
    """Draws the map, transparent around zero, its colours ending at ``window``."""
    least = -window if signed else 0.0
    _show(axes, pixels, plane, cmap=heat_colormap(signed), vmin=least, vmax=window)


def heat_colormap(signed: bool) -> ListedColormap:
    """The colours of heat with their opacity."""
    table = np.column_stack((color_table(signed), opacity_table(signed)))
    return ListedColormap(table, name="heat, signed" if signed else "heat")


def draw_outline(
    axes: Axes, mask: NDArray[np.bool_], plane: Plane, color: Color, scale: float
) -> None:
    """Draws a segment's outline along the voxels' edges, with a dark rim on both sides."""
    edges = outline_edges(mask, plane.size_mm)
    for line_color, line_width, opacity in (("black", 2.6, 0.55), (color, 1.3, 1.0)):
        axes.add_collection(
            LineCollection(
                edges, colors=[line_color], linewidths=line_width * scale, alpha=opacity,
                capstyle="projecting",
            ),
            autolim=False,
        )  # fmt: skip


def draw_cross(axes: Axes, plane: Plane, scale: float, pixels_per_mm: float) -> None:
    """Marks the peak's place with thin lines that leave its surroundings free."""
    x, y = plane.cross_mm
    width, height = plane.size_mm
    gap = 14 * scale / pixels_per_mm
    lines = [
        [(0, y), (x - gap, y)],
        [(x + gap, y), (width, y)],
        [(x, 0), (x, y - gap)],
        [(x, y + gap), (x, height)],
    ]
    # A peak near the border leaves no room for a line on that side.
    kept = [line for line in lines if line[0] < line[1]]
    axes.add_collection(
        LineCollection(kept, colors=[(1, 1, 1, 0.38)], linewidths=0.8 * scale), autolim=False
    )


def draw_letters(axes: Axes, letters: Sequence[str], scale: float, height: float) -> None:
    """Writes which side of the patient each edge is, in a panel of some pixels' height."""
    places = ((0, 0.5, "left"), (1, 0.5, "right"), (0.5, 1, "top"), (0.5, 0, "bottom"))
    for letter, (x, y, side) in zip(letters, places, strict=True):
        if side in ("top", "bottom") and height < 3.5 * _LETTER * scale:
            continue
        horizontal = side if side in ("left", "right") else "center"
        vertical = side if side in ("top", "bottom") else "center"
        nudge = {"left": (4, 0), "right": (-4, 0), "top": (0, -3), "bottom": (0, 3)}[side]
        axes.annotate(
            letter,
            (x, y),
            xycoords="axes fraction",
            xytext=(nudge[0] * scale, nudge[1] * scale),
            textcoords="offset points",
            ha=horizontal,
            va=vertical,
            color=TEXT,
            fontsize=_LETTER * scale,
            fontweight="bold",
            fontfamily=FONT,
            path_effects=[withStroke(linewidth=3 * scale, foreground="black")],
        )


def _show(axes: Axes, pixels: NDArray[Any], plane: Plane, **style: Any) -> None:
    width, height = plane.size_mm
    axes.imshow(
        pixels,
        extent=(0, width, height, 0),
        aspect="auto",
        interpolation="antialiased",
        # Colours are mixed after the table: a value between a strong and a missing one
        # must not pass through the table's other colours.
        interpolation_stage="rgba",
        **style,
    )
