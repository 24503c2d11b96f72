"""The pictures of an evaluation."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from SaliencyExplain.evaluation.image import evaluation_plots
from SaliencyExplain.evaluation.study.biomarkers import PROBABILITY, SIZE
from SaliencyExplain.evaluation.study.normalised_maps import CELLS, PATIENT_SIDES, PICTURE_SIDES
from SaliencyExplain.evaluation.study.study_evaluation import StudyEvaluation
from SaliencyExplain.evaluation.study.survey import Survey
from SaliencyExplain.images.image_writing import atomic_file
from SaliencyExplain.pictures.figure_layout import BACKGROUND, FAINT, FONT, TEXT, drawable, shorten
from SaliencyExplain.pictures.panel import draw_letters, heat_colormap
from SaliencyExplain.pictures.planes import as_seen, edge_letters
from SaliencyExplain.progress import Progress, silent
from SaliencyExplain.records import control_names
from SaliencyExplain.studies.report_data import map_titles

#: Rows of a picture at most; everything is in the tables.
_MOST_ROWS = 30
_MOST_PLACES, _MOST_METHODS, _MOST_GROUPS = 6, 8, 6

_WIDTH, _INCH = 11.0, 100
_SMALL = 10

#: Size of the orientation letters, as a part of those of a map's own picture.
_LETTER_SCALE = 0.7

#: The colours of chance and of the control maps, as in the report.
_CHANCE, _CONTROL = "#f0a875", "#8a939c"


def draw_pictures(folder: Path, found: StudyEvaluation, progress: Progress = silent) -> list[Path]:
    """Draws the pictures of an evaluation as PNGs; the same evaluation gives the same bytes.

    Returns:
        The files, by name: ``fixed-places.png`` (only with an alarm), ``places.png``,
        ``paired.png``, ``curves.png``, ``clusters.png``, ``biomarkers.png``.

    Raises:
        OutputError: One cannot be written.
    """
    titles = map_titles(found.study.labels)
    files = []
    kinds = (
        ("fixed-places", _draw_fixed_places),
        ("places", _draw_places),
        ("paired", _draw_pairs),
        ("curves", _draw_curves),
        ("clusters", _draw_clusters),
        ("biomarkers", _draw_biomarkers),
    )
    for number, (name, draw) in enumerate(kinds, start=1):
        figure = draw(found, lambda label: shorten(titles.get(label, label), 13, 260))
        if figure is not None:
            files.append(folder / f"{name}.png")
            _save(files[-1], figure)
        progress(number, len(kinds))
    return files


Title = Callable[[str], str]


def _draw_fixed_places(found: StudyEvaluation, title: Title) -> Figure | None:
    alarms = [one for one in found.fixed_places if one.alarm][:_MOST_PLACES]
    if not alarms:
        return None
    planes = _planes(len(found.survey.sides))
    figure = _figure(0.5 + 2.7 * len(alarms))
    grid = figure.subplots(
        len(alarms), len(planes), squeeze=False,
        gridspec_kw={"wspace": 0.08, "hspace": 0.32, "top": 1 - 0.45 / figure.get_figheight(),
                     "bottom": 0.02, "left": 0.02, "right": 0.98},
    )  # fmt: skip
    for row, one in zip(grid, alarms, strict=True):
        maps = [p for p in found.survey.placed if (p.method, p.target) == (one.method, one.target)]
        mean = np.mean([p.energy for p in maps], axis=0)
        at = [int(share * CELLS) for share in one.place]
        for axes, (across, up) in zip(row, planes, strict=True):
            draw_plane(axes, found.survey, one.target, mean, (across, up), at)
            axes.add_patch(
                Rectangle(
                    ((at[across] - one.cells // 2) / CELLS, (at[up] - one.cells // 2) / CELLS),
                    one.cells / CELLS, one.cells / CELLS, fill=False, edgecolor=TEXT, lw=1.2,
                )
            )  # fmt: skip
        _words(
            row[0],
            f"{title(one.method)} for {one.target}: {100 * one.excess:.1f} % more energy in the "
            f"frame than around it, mean of {one.cases} cases",
        )
    return figure


def _draw_places(found: StudyEvaluation, title: Title) -> Figure | None:
    names = list(dict.fromkeys(one.place for one in found.places))
    labels = found.study.labels[:_MOST_METHODS]
    figure = _figure(1.2 + len(names) * (0.25 + 0.17 * len(labels)))
    axes = figure.add_axes(_inside(figure, left=2.6))
    height = 0.8 / len(labels)
    for number, label in enumerate(labels):
        for row, name in enumerate(names):
            one = next((p for p in found.places if (p.method, p.place) == (label, name)), None)
            if one is None or np.isnan(one.energy.mean):
                continue
            y = row - 0.4 + height * (number + 0.5)
            color = _color(label, number)
            axes.barh(y, one.energy.mean, height * 0.86, color=color,
                      label=title(label) if row == names.index(names[0]) else None)  # fmt: skip
            if not np.isnan(one.energy.low):
                axes.plot([one.energy.low, one.energy.high], [y, y], color=TEXT, lw=1)
    for row, name in enumerate(names):
        volume = np.mean([one.volume for one in found.places if one.place == name])
        axes.plot([volume, volume], [row - 0.44, row + 0.44], color=_CHANCE, lw=1.6, ls="--",
                  label="share of the image (chance)" if row == 0 else None)  # fmt: skip
    evaluation_plots.style(
        axes, "Where the energy lies", "mean share of the positive attribution", ""
    )
    axes.set(yticks=range(len(names)), ylim=(len(names) - 0.5, -0.5), xlim=(0, 1))
    axes.set_yticklabels([drawable(shorten(name, 13, 250)) for name in names])
    _legend(axes)
    return figure


def _draw_pairs(found: StudyEvaluation, title: Title) -> Figure | None:
    chosen = next(
        (
            [one for one in found.pairs if (one.metric, one.segment) == wanted]
            for wanted in [
                *[("auroc", segment) for segment in found.study.segments],
                ("sic_compressed", ""),
                ("insertion_area", ""),
            ]
            if any((one.metric, one.segment) == wanted for one in found.pairs)
        ),
        [],
    )
    pairs = sorted(chosen, key=lambda one: (one.p_holm, -abs(one.difference)))[:_MOST_ROWS]
    if not pairs:
        return None
    figure = _figure(1.2 + 0.26 * len(pairs))
    axes = figure.add_axes(_inside(figure, left=4.6, right=1.4))
    for row, one in enumerate(pairs):
        color = evaluation_plots.COLORS[0] if one.better else FAINT
        ends = np.clip((one.low, one.high), -1e9, 1e9)
        axes.plot(ends, [row, row], color=color, lw=2)
        axes.plot(one.difference, row, "o", color=color, ms=6)
        axes.annotate(
            f"p = {one.p_holm:.2g}, {one.cases} cases", (1.01, row), fontfamily=FONT,
            xycoords=("axes fraction", "data"), color=FAINT, fontsize=_SMALL - 2, va="center",
        )  # fmt: skip
    axes.axvline(0, color=FAINT, lw=1)
    words = {"auroc": "AUROC", "sic_compressed": "SIC area", "insertion_area": "insertion area"}
    name = words[pairs[0].metric] + (f" on {pairs[0].segment}" if pairs[0].segment else "")
    evaluation_plots.style(
        axes, f"{name}: the same cases by two methods",
        "mean difference; 95 % intervals hold for all pairs together; p corrected by Holm", "",
    )  # fmt: skip
    axes.set(yticks=range(len(pairs)), ylim=(len(pairs) - 0.5, -0.5))
    axes.set_yticklabels([f"{title(one.first)} − {title(one.second)}" for one in pairs])
    return figure


def _draw_curves(found: StudyEvaluation, title: Title) -> Figure | None:
    if not found.curves:
        return None
    figure = _figure(8.4)
    grid = figure.subplots(
        2, 2, gridspec_kw={"wspace": 0.2, "hspace": 0.3, "top": 0.95, "bottom": 0.07,
                           "left": 0.06, "right": 0.98},
    )  # fmt: skip
    labels = list(dict.fromkeys(one.method for one in found.curves))
    for axes, (name, across, up) in zip(
        grid.ravel(),
        (
            ("insertion", "share of the strongest voxels inserted", "probability, mean"),
            ("deletion", "share of the strongest voxels removed", "probability, mean"),
            ("SIC compressed", "share of the information", "share of the probability, median"),
            ("AIC compressed", "share of the information", "share predicted correctly, mean"),
        ),
        strict=True,
    ):
        own = [one for one in found.curves if one.curve == name]
        for one in own:
            number = labels.index(one.method)
            y = one.median if name.startswith("SIC") else one.mean
            axes.plot(one.x, y, color=_color(one.method, number), lw=1.8, label=title(one.method))
        with_null = [one for one in own if one.null_median]
        if with_null:
            axes.plot(with_null[0].x, with_null[0].null_median, color=FAINT, lw=1.4, ls="--",
                      label="null maps")  # fmt: skip
        count = max((one.cases for one in own), default=0)
        evaluation_plots.style(axes, f"{name}, {count} cases", across, up)
        axes.set(xlim=(0, 1), ylim=(0, 1))
        if own:
            _legend(axes)
    return figure


def _draw_clusters(found: StudyEvaluation, title: Title) -> Figure | None:
    shown = [one for one in found.clusters if one.method not in control_names.NAMES][:_MOST_METHODS]
    if not shown:
        return None
    columns = max(2, min(_MOST_GROUPS, max(len(one.groups) for one in shown)))
    planes = _planes(len(found.survey.sides))[:2]
    figure = _figure(0.5 + len(shown) * (0.5 + 9.6 / columns / len(planes)))
    grid = figure.subplots(
        len(shown), columns * len(planes), squeeze=False,
        gridspec_kw={"wspace": 0.04, "hspace": 0.4, "top": 1 - 0.55 / figure.get_figheight(),
                     "bottom": 0.02, "left": 0.02, "right": 0.98},
    )  # fmt: skip
    for axes in grid.ravel():
        axes.set_axis_off()
    for row, one in zip(grid, shown, strict=True):
        for number, group in enumerate(one.groups[:columns]):
            target = max(group.targets, key=group.targets.__getitem__)
            for plane, pair in enumerate(planes):
                axes = row[number * len(planes) + plane]
                draw_plane(axes, found.survey, target, group.mean, pair, None)
            classes = ", ".join(f"{count} {name}" for name, count in group.targets.items())
            head = title(one.method) if number == 0 else ""
            words = f"{len(group.cases)} cases: {classes}"
            _words(
                row[number * len(planes)],
                f"{head}\n{shorten(words, 11, 1000 / columns)}",
            )
    return figure


def _draw_biomarkers(found: StudyEvaluation, title: Title) -> Figure | None:
    known = [one for one in found.biomarkers if not np.isnan(one.coefficient)]
    rows = list(dict.fromkeys((one.method, one.segment) for one in known))[:_MOST_ROWS]
    if not rows:
        return None
    figure = _figure(1.4 + 0.3 * len(rows))
    axes = figure.add_axes(_inside(figure, left=4.0))
    words = {SIZE: "the segment's size", PROBABILITY: "the probability"}
    for place, quantity in enumerate((SIZE, PROBABILITY)):
        color = evaluation_plots.COLORS[place]
        own = [one for one in known if one.quantity == quantity]
        for number, one in enumerate(o for o in own if (o.method, o.segment) in rows):
            y = rows.index((one.method, one.segment)) + (place - 0.5) * 0.3
            axes.plot([one.low, one.high], [y, y], color=color, lw=2)
            axes.plot(one.coefficient, y, "o", color=color, ms=6,
                      label=f"with {words[quantity]}" if number == 0 else None)  # fmt: skip
    axes.axvline(0, color=FAINT, lw=1)
    evaluation_plots.style(
        axes, "Correlates of the energy in a segment",
        "Spearman's rank correlation; 95 % intervals hold for all methods together", "",
    )  # fmt: skip
    axes.set(yticks=range(len(rows)), ylim=(len(rows) - 0.5, -0.5), xlim=(-1, 1))
    axes.set_yticklabels([drawable(f"{title(m)}: {s}") for m, s in rows])
    _legend(axes)
    return figure


def draw_plane(
    axes: Axes,
    survey: Survey,
    target: str,
    energy: NDArray[np.float64],
    plane: tuple[int, int],
    at: Sequence[int] | None,
) -> None:
    """A plane of a map on the common grid over the mean image; without a place its maxima.

    Turned as all pictures are (:func:`as_seen`); the axes' coordinates are shares of the grid.

    Args:
        axes: Where it is drawn.
        survey: The study's maps on the common grid.
        target: Name of the class, for the mean image.
        energy: What is drawn, on the common grid.
        plane: Axes of the grid across and up.
        at: A cell that the plane goes through; None: the maxima over the third axis.
    """
    in_patient = survey.sides != PICTURE_SIDES

    def cut(values: NDArray[np.float64], middle: bool) -> NDArray[np.float64]:
        for axis in reversed(range(values.ndim)):
            if axis not in plane:
                index = CELLS // 2 if at is None else at[axis]
                values = (
                    np.take(values, index, axis) if middle or at is not None else values.max(axis)
                )
        return as_seen(values, in_patient=in_patient)

    anatomy = survey.anatomy.get(target)
    sides = [survey.cell_mm[axis] * CELLS for axis in plane]
    # Shares at the left, right, bottom and top edge.
    extent = (1, 0, 0, 1) if in_patient else (0, 1, 1, 0)
    if anatomy is not None:
        axes.imshow(cut(anatomy, True), cmap="gray", vmin=0, vmax=1, extent=extent,
                    interpolation="bilinear")  # fmt: skip
    end = float(energy.max())
    axes.imshow(cut(energy, False), cmap=heat_colormap(False), vmin=0, vmax=end or 1,
                extent=extent, interpolation="nearest")  # fmt: skip
    axes.set_facecolor("black")
    axes.set(xlim=extent[:2], ylim=extent[2:])
    axes.set_aspect(sides[1] / sides[0])
    axes.set(xticks=[], yticks=[])
    axes.set_axis_on()
    if in_patient:
        world = [PATIENT_SIDES.index(survey.sides[axis]) for axis in plane]
        draw_letters(axes, edge_letters(world[0], world[1]), _LETTER_SCALE, math.inf)


def _planes(axes: int) -> list[tuple[int, int]]:
    """Axes across and up of the planes: axial, coronal and sagittal."""
    return [(0, 1)] if axes == 2 else [(0, 1), (0, 2), (1, 2)]


def _color(label: str, number: int) -> str:
    return (
        _CONTROL
        if label in control_names.NAMES
        else evaluation_plots.COLORS[number % len(evaluation_plots.COLORS)]
    )


def _figure(height: float) -> Figure:
    return Figure(figsize=(_WIDTH, height), dpi=_INCH, facecolor=BACKGROUND)


def _inside(figure: Figure, left: float, right: float = 0.3) -> tuple[float, float, float, float]:
    """Left, bottom, width and height of axes with margins in inches, as shares."""
    height = figure.get_figheight()
    return (
        left / _WIDTH, 0.6 / height, (_WIDTH - left - right) / _WIDTH, (height - 1.0) / height,
    )  # fmt: skip


def _words(axes: Axes, words: str) -> None:
    axes.set_title(
        "\n".join(drawable(line) for line in words.split("\n")),
        color=TEXT, fontsize=_SMALL, fontfamily=FONT, loc="left", parse_math=False,
    )  # fmt: skip


def _legend(axes: Axes) -> None:
    axes.legend(
        facecolor=BACKGROUND, edgecolor=FAINT, labelcolor=TEXT,
        prop={"family": FONT, "size": _SMALL - 1},
    )  # fmt: skip


def _save(path: Path, figure: Figure) -> None:
    FigureCanvasAgg(figure)
    content = io.BytesIO()
    figure.savefig(content, format="png", facecolor=BACKGROUND, metadata={"Software": None})
    with atomic_file(path) as temporary:
        temporary.write_bytes(content.getvalue())
