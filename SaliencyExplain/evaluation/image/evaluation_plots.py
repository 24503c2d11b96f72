"""The curves and bars of an evaluation, drawn on axes; colours that differ in brightness too."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from SaliencyExplain.evaluation.image.answers import ALIKE, BORNE, HIGH, LOW, UNCHANGED, known
from SaliencyExplain.evaluation.image.information_curves import on_even_steps
from SaliencyExplain.pictures.figure_layout import FAINT, FONT, TEXT
from SaliencyExplain.results.map_changes import Sanity, Stability
from SaliencyExplain.results.map_faithfulness import Faithfulness

#: Colours of lines, from the palette of Okabe and Ito, which colour-blind people can distinguish.
COLORS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#CC79A7", "#D55E00", "#0072B2")

_GRID = (0.25, 0.26, 0.28)
_SMALL = 10


def style(axes: Axes, title: str, across: str, up: str) -> None:
    """Dark axes with labels, as in the pictures of maps."""
    axes.set_axis_on()
    axes.set_facecolor("black")
    axes.set_title(title, color=TEXT, fontsize=_SMALL + 1, fontfamily=FONT, loc="left")
    axes.set_xlabel(across, color=FAINT, fontsize=_SMALL, fontfamily=FONT)
    axes.set_ylabel(up, color=FAINT, fontsize=_SMALL, fontfamily=FONT)
    axes.tick_params(colors=FAINT, labelsize=_SMALL - 1)
    axes.grid(color=_GRID, linewidth=0.6)
    for spine in axes.spines.values():
        spine.set_color(_GRID)


def draw_curves(
    axes: Axes, found: Mapping[str, Faithfulness], kind: str, *, legend: bool = True
) -> None:
    """Draws the deletion or insertion curves of maps over the band of the null maps."""
    first = next(iter(found.values()))
    shares = first.curves.shares
    low, middle, high = getattr(first, f"null_{kind}")
    axes.fill_between(shares, low, high, color=FAINT, alpha=0.3, linewidth=0, label="null maps")
    axes.plot(shares, middle, color=FAINT, linewidth=1, linestyle="--")
    for number, (label, one) in enumerate(found.items()):
        color = COLORS[number % len(COLORS)]
        axes.plot(shares, getattr(one.curves, kind), color=color, linewidth=1.8, label=label)
    what = "removed" if kind == "deletion" else "inserted"
    style(axes, kind, f"share of the strongest voxels {what}", "probability")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    if legend:
        _legend(axes)


def draw_information(axes: Axes, found: Mapping[str, Faithfulness], measure: str) -> None:
    """Draws the softmax information curves of maps that have one."""
    for number, (label, one) in enumerate(found.items()):
        curve = one.curves.softmax_information[measure]
        if not curve.information:
            continue
        across, up = on_even_steps(curve)
        color = COLORS[number % len(COLORS)]
        axes.plot(across, up, color=color, linewidth=1.8, label=f"{label}: {curve.area:.2f}")
    axes.plot((0, 1), (0, 1), color=FAINT, linewidth=1, linestyle="--")
    style(axes, "softmax information curve", f"information ({measure})", "probability regained")
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    if axes.get_legend_handles_labels()[0]:
        _legend(axes)


def draw_cascade(axes: Axes, found: Sanity) -> None:
    """Draws how alike the map stays while the weights are randomised from the last layer on."""
    steps = np.arange(len(found.cascading) + 1)
    alike = [1.0, *(known(one.similarity.alike) for one in found.cascading)]
    ssim = [1.0, *(known(one.similarity.ssim) for one in found.cascading)]
    axes.axhspan(UNCHANGED, 1.05, color=FAINT, alpha=0.25, linewidth=0)
    axes.axhline(ALIKE, color=FAINT, linewidth=0.8, linestyle="--")
    axes.plot(steps, alike, color=COLORS[0], marker="o", markersize=3, label="rank correlation")
    axes.plot(steps, ssim, color=COLORS[1], marker="s", markersize=3, label="SSIM")
    style(axes, "weights randomised from the last layer on", "stage", "similarity")
    axes.set(xlim=(0, max(1, steps[-1])), ylim=(min(0, *ssim), 1.05))
    _legend(axes)


def draw_changes(axes: Axes, found: Stability) -> None:
    """Draws the least rank correlation under each kind of change, as bars."""
    kinds = [kind for kind in (*BORNE, "worst case") if not math.isnan(found.least(kind))]
    values = [found.least(kind) for kind in kinds]
    places = np.arange(len(kinds))[::-1]
    axes.barh(places, values, color=COLORS[1], height=0.6)
    axes.axvspan(HIGH, 1.0, color=FAINT, alpha=0.25, linewidth=0)
    axes.axvline(LOW, color=FAINT, linewidth=0.8, linestyle="--")
    style(axes, "lowest similarity under small changes", "rank correlation", "")
    axes.set_yticks(places, kinds, fontfamily=FONT)
    axes.set(xlim=(min(0.0, *values), 1.0))


def draw_energy(axes: Axes, energies: Sequence[tuple[str, float]]) -> None:
    """Draws shares of energy in a segment, the map's first and the control maps' after it."""
    places = np.arange(len(energies))[::-1]
    colors = [COLORS[0], *[FAINT] * (len(energies) - 1)]
    values = [100 * known(value) for _, value in energies]
    axes.barh(places, values, color=colors, height=0.6)
    style(axes, "energy inside", "per cent", "")
    axes.set_yticks(places, [name for name, _ in energies], fontfamily=FONT)


def _legend(axes: Axes) -> None:
    legend = axes.legend(fontsize=_SMALL - 1, facecolor="black", edgecolor=_GRID, loc="best")
    for text in legend.get_texts():
        text.set_color(TEXT)
        text.set_fontfamily(FONT)
