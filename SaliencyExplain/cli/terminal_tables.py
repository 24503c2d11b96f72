"""Tables for the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from rich.table import Table

from SaliencyExplain.cli.messages import console
from SaliencyExplain.records.agreement_row import Row
from SaliencyExplain.records.control_names import NAMES as CONTROL_MAPS
from SaliencyExplain.results.class_prediction import ClassSize
from SaliencyExplain.results.study_result import Labels
from SaliencyExplain.studies.report_words import percent


def probability_table(probabilities: Mapping[str, float]) -> Table:
    """The classes with their probabilities as bars, the likeliest bold."""
    table = Table(box=None, padding=(0, 2), show_header=False)
    # A terminal of plain ASCII has no blocks.
    mark = "█" if console.encoding.lower().startswith("utf") else "#"
    likeliest = max(probabilities, key=probabilities.__getitem__)
    for name, probability in probabilities.items():
        bar = mark * round(30 * probability)
        table.add_row(name, f"{probability:.3f}", bar, style="bold" if name == likeliest else "")
    return table


def size_table(sizes: Iterable[ClassSize]) -> Table:
    """The classes of a segmentation with their voxels and volumes."""
    table = Table(box=None, padding=(0, 2))
    table.add_column("class", overflow="fold")
    table.add_column("voxels", justify="right")
    table.add_column("size", justify="right")
    for one in sizes:
        table.add_row(one.name, f"{one.voxels:,}", f"{one.size:,.4g} {one.unit}")
    return table


def agreement_table(rows: Iterable[Row]) -> Table:
    """The main metrics, with the control maps dimmed below the maps."""
    rows = list(rows)
    unit = rows[0].length_unit if rows else "mm"
    table = Table(box=None, padding=(0, 1))
    for heading in ("method", "segment"):
        table.add_column(heading, overflow="fold")
    for heading in (
        "AUROC\n(0.50)",
        "energy\ninside",
        "by\nchance",
        "peak\ninside",
        "Dice",
        f"HD95\n{unit}",
        f"centres\n{unit}",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        found = row.agreement
        auroc = "withheld" if row.remark else _figure(found.auroc)
        if row.low is not None and row.high is not None:
            auroc += f"\n{_figure(row.low.auroc)} to {_figure(row.high.auroc)}"
        table.add_row(
            row.method,
            row.segment,
            auroc,
            percent(found.energy_inside),
            percent(found.energy_chance),
            _peak(found.pointing),
            _figure(found.dice_equal_volume),
            _figure(found.hausdorff95_mm, 1),
            _figure(found.centre_distance_mm, 1),
            style="dim" if row.method in CONTROL_MAPS else "",
        )
    return table


def labels_table(labels: Labels) -> Table:
    """The confusion matrix, a row for each true class, with accuracy and F1 scores."""
    table = Table(box=None, padding=(0, 1))
    table.add_column("true / predicted", overflow="fold")
    for name in labels.classes:
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("F1", justify="right", no_wrap=True)
    for name, counts, f1 in zip(labels.classes, labels.confusion, labels.f1, strict=True):
        table.add_row(name, *map(str, counts), _figure(f1))
    summary = f"right in {percent(labels.accuracy)} of {labels.count}"
    blanks = [""] * (len(labels.classes) - 1)
    table.add_row(summary, *blanks, "mean", _figure(labels.macro_f1), style="bold")
    return table


def _peak(share: float) -> str:
    """Whether the maximum lies inside; for a plateau, as in region maps, the share of it inside."""
    if math.isnan(share):
        return ""
    return {0.0: "no", 1.0: "yes"}.get(share) or percent(share)


def _figure(value: float, digits: int = 2) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"
