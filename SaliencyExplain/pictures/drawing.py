"""Draws a map over its anatomy in three planes through its peak."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.image_writing import atomic_file
from SaliencyExplain.peak import Peak
from SaliencyExplain.pictures import panel
from SaliencyExplain.pictures.figure_layout import (
    FAINT,
    STANDARD_WIDTH,
    TEXT,
    TEXT_SIZE,
    Box,
    Layout,
    figure_png,
    shorten,
    text_width,
)
from SaliencyExplain.pictures.outlines import Color, outline_colors
from SaliencyExplain.pictures.planes import Plane, View
from SaliencyExplain.pictures.reading_aids import (
    HeatWindow,
    Segment,
    peak_and_segments,
)
from SaliencyExplain.pictures.slab import peak_view

_OBLIQUE_DEGREES = 0.5
_SWATCH = 22
_BETWEEN = 20


def draw_planes(
    out: Path | BinaryIO,
    image: NDArray[np.floating],
    values: NDArray[np.floating],
    affine: NDArray[np.float64],
    *,
    segments: Sequence[Segment] = (),
    title: str,
    signed: bool,
    resolution_mm: float = 0.0,
    captions: Sequence[str] = (),
    width: int = STANDARD_WIDTH,
) -> None:
    """Writes a PNG: axial, coronal and sagittal plane through the map's peak.

    Planes are in radiological convention (patient's right on the viewer's left, anterior or
    superior on top, anterior on the left of the sagittal plane) with true proportions. Grids
    that are oblique to the patient are drawn along their own axes, and the picture says so. The
    air around a body is cropped, but nothing that is drawn. An image of two axes is one
    plane; a plain picture (no place or direction in its affine) is drawn as stored, first row
    on top, without letters. The same input gives the same bytes.

    Args:
        out: The file to write, or an open binary stream.
        image: The anatomy, one channel, (*S) of 2 or 3 axes, finite.
        values: The map, same shape, finite; positive = speaks for the class.
        affine: 4x4 of the grid, RAS mm.
        segments: Name, RGB colour in [0, 1] and voxels (*S) of what is outlined. A colour that
            could be taken for heat or grey is replaced; the legend shows the one in use.
        title: First line, such as case, method and class.
        signed: Whether negative values are evidence against the class and drawn as such.
        resolution_mm: What the method resolves, mm, for the peak
            (:func:`SaliencyExplain.peak.strongest_voxels`).
        captions: Last lines, such as one of figures for each segment; long ones are shortened.
        width: Width of the picture in pixels; below 500 its text is hard to read.

    Raises:
        InputError: Shapes differ, a value is not finite, or the volume has no plane to draw.
        OutputError: The file cannot be written.
    """
    _check(image, values, segments)
    seen = peak_view(image, values, affine, segments, signed=signed, resolution_mm=resolution_mm)
    window, view = seen.heat, seen.view
    colors = outline_colors([color for _, color, _ in segments], signed)
    cuts = [[plane.cut(mask) for plane in view.planes] for _, _, mask in segments]

    legend = _legend_rows(segments, cuts)
    words = [_words_of_peak(seen.peak, segments, affine, view)]
    words += [*_words_of_view(view), *captions]
    sizes = [plane.size_mm for plane in view.planes]
    layout = Layout(sizes, width, lines=len(legend) + len(words))
    layout.write(layout.margin, 24 * layout.scale, shorten(title, 18, 1060), size=18)
    for number, (plane, place) in enumerate(zip(view.planes, layout.panels, strict=True)):
        axes = layout.add_axes(place)
        panel.draw_anatomy(axes, plane.cut(image), plane, seen.greys)
        if window is not None:
            panel.draw_heat(axes, plane.cut(values), plane, window.end, signed)
        for cut, color in zip(cuts, colors, strict=True):
            panel.draw_outline(axes, cut[number], plane, color, layout.scale)
        panel.draw_cross(axes, plane, layout.scale, place[2] / plane.size_mm[0])
        if plane.letters:
            panel.draw_letters(axes, plane.letters, layout.scale, place[3])
        _write_under(layout, plane, place)
    _draw_bar(layout, window, signed)
    _draw_legend(layout, legend, colors)
    for number, line in enumerate(words, start=len(legend)):
        color = TEXT if number == len(legend) else FAINT
        layout.write(
            layout.margin, layout.line(number), shorten(line, TEXT_SIZE, 1060), color=color
        )
    _save(out, figure_png(layout.figure))


def _check(
    image: NDArray[np.floating], values: NDArray[np.floating], segments: Sequence[Segment]
) -> None:
    for name, other in (("image", image), *((name, mask) for name, _, mask in segments)):
        if other.shape != values.shape:
            raise InputError(
                ErrorCode.GRID_MISMATCH,
                f"'{name}': its shape is {other.shape}, and that of the map is {values.shape}. "
                "Give both on the same grid.",
            )
    for name, checked in (("image", image), ("attribution", values)):
        if not np.isfinite(checked).all():
            raise InputError(
                ErrorCode.MAP_NOT_FINITE,
                f"The {name}: it has voxels that are not finite and cannot be drawn. Replace these "
                "values first.",
            )


def _words_of_peak(
    peak: Peak, segments: Sequence[Segment], affine: NDArray[np.float64], view: View
) -> str:
    if peak.remark:
        return f"{peak.remark[0].upper()}{peak.remark[1:]} · planes at {view.place}"
    relation = peak_and_segments(peak, segments, affine)
    parts = (f"Peak {peak.value:.3g}", f"at {view.place}", relation)
    return " · ".join(part for part in parts if part)


def _words_of_view(view: View) -> list[str]:
    if not view.known:
        return ["Drawn as stored: the file has no patient orientation"]
    words = []
    if view.oblique_degrees >= _OBLIQUE_DEGREES:
        words.append(
            f"Oblique: the planes follow the image's own axes, turned by up to "
            f"{view.oblique_degrees:.1f}° from the patient's"
        )
    if view.left_out:
        words.append(f"Too thin to be drawn: {' and '.join(view.left_out)} plane")
    return words


def _write_under(layout: Layout, plane: Plane, box: Box) -> None:
    words = " · ".join(part for part in (plane.name, plane.position) if part)
    left, top, width, height = box
    y = top + height + 15 * layout.scale
    layout.write(left + width / 2, y, words, color=FAINT, ha="center")


def _draw_bar(layout: Layout, window: HeatWindow | None, signed: bool) -> None:
    """Draws the colour bar with its numbers and what its ends mean."""
    if window is None:
        return
    left, top, width, height = layout.bar
    axes = layout.add_axes(layout.bar)
    axes.set_axis_on()
    least = -window.end if signed else 0.0
    ramp = np.linspace(least, window.end, 256)[:, None]
    axes.imshow(
        ramp, extent=(0, 1, least, window.end), origin="lower", aspect="auto",
        cmap=panel.heat_colormap(signed), vmin=least, vmax=window.end,
    )  # fmt: skip
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(color=FAINT, linewidth=0.8 * layout.scale)
    right = left + width + 6 * layout.scale
    above = "≥ " if window.clipped_above else ""
    layout.write(right, top, f"{above}{window.end:.3g}", size=12)
    layout.write(right, top + height / (2 if signed else 1), "0", size=12)
    if signed:
        below = "≤ " if window.clipped_below else ""
        layout.write(right, top + height, f"{below}{least:.3g}".replace("-", "−"), size=12)
    label = "← against · for the class →" if signed else "for the class →"
    layout.write(
        left - 11 * layout.scale, top + height / 2, label,
        size=12, color=FAINT, rotation=90, ha="center", va="center",
    )  # fmt: skip


def _legend_rows(
    segments: Sequence[Segment], cuts: Sequence[Sequence[NDArray[np.bool_]]]
) -> list[list[tuple[int, str]]]:
    """The legend's entries, segment number and words, broken into lines that fit."""
    rows: list[list[tuple[int, str]]] = []
    used = np.inf
    for number, ((name, _, _), cut) in enumerate(zip(segments, cuts, strict=True)):
        seen = any(pixels.any() for pixels in cut)
        words = shorten(name, TEXT_SIZE, 700) + ("" if seen else " (not in these planes)")
        needed = _SWATCH + text_width(words, TEXT_SIZE) + _BETWEEN
        if used + needed > STANDARD_WIDTH - 32:
            rows.append([])
            used = 0.0
        rows[-1].append((number, words))
        used += needed
    return rows


def _draw_legend(
    layout: Layout, rows: Sequence[Sequence[tuple[int, str]]], colors: Sequence[Color]
) -> None:
    for line, row in enumerate(rows):
        x, y = layout.margin, layout.line(line)
        for number, words in row:
            end = x + 0.7 * _SWATCH * layout.scale
            layout.figure.add_artist(
                Line2D(
                    (x / layout.width, end / layout.width), (1 - y / layout.height,) * 2,
                    color=colors[number], linewidth=3 * layout.scale,
                )
            )  # fmt: skip
            layout.write(x + _SWATCH * layout.scale, y, words)
            x += (_SWATCH + text_width(words, TEXT_SIZE) + _BETWEEN) * layout.scale


def _save(out: Path | BinaryIO, content: bytes) -> None:
    if isinstance(out, Path):
        with atomic_file(out) as temporary:
            temporary.write_bytes(content)
    else:
        out.write(content)
