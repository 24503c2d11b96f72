"""The table of agreement: a row per case, method, target and segment."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.comparison.agreement import Agreement, agreements
from SaliencyExplain.comparison.yardsticks import yardstick_maps
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.field_of_view import FieldOfView, common
from SaliencyExplain.images.segmentation import Segmentation
from SaliencyExplain.images.writing import atomic_file

_NAMES = ("case", "method", "target", "segment")

FIGURES: tuple[str, ...] = tuple(
    field.name for field in fields(Agreement) if field.name != "energy_chance_body"
)
"""The figures of ``comparison.csv``, in order."""

COLUMNS: tuple[str, ...] = _NAMES + FIGURES
"""The columns of ``comparison.csv``, in order."""


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        case: Name of the case.
        method: Label of the attribution, ``<method>`` or ``<method>@<layer>``, or a yardstick.
        target: Name of the class that the map explains.
        segment: Name of the segment.
        agreement: The figures.
    """

    case: str
    method: str
    target: str
    segment: str
    agreement: Agreement

    def cells(self) -> list[str]:
        """The row of the CSV: six significant digits, empty where a figure is undefined."""
        names = [self.case, self.method, self.target, self.segment]
        return names + [_cell(getattr(self.agreement, figure)) for figure in FIGURES]

    def as_json(self) -> dict[str, str | float | None]:
        """The row for JSON, with all digits and null where a figure is undefined."""
        named: dict[str, str | float | None] = {name: getattr(self, name) for name in _NAMES}
        for field in fields(Agreement):
            value = getattr(self.agreement, field.name)
            named[field.name] = None if math.isnan(value) else value
        return named


def rows(
    case: str,
    target: str,
    attributions: Mapping[str, NDArray[np.floating]],
    segmentation: Segmentation,
    affine: NDArray[np.float64],
    *,
    body: NDArray[np.bool_] | None = None,
    tolerance_mm: float = 5.0,
    seed: int = 0,
    resolutions_mm: Mapping[str, float] | None = None,
    fields_of_view: Mapping[str, FieldOfView | None] | None = None,
    yardsticks: bool = True,
) -> list[Row]:
    """Compares maps of one class, and the yardsticks, with every segment.

    Args:
        case: Name of the case.
        target: Name of the class.
        attributions: ``{label: map}``, all (*S).
        segmentation: The segments, on the same grid.
        affine: 4x4 of the grid, RAS mm.
        body: The voxels of the body, where they can be told.
        tolerance_mm: Tolerance of the pointing game, mm.
        seed: Seed of the random yardstick.
        resolutions_mm: ``{label: mm}`` of what the maps resolve; 0 where it is not known.
        fields_of_view: ``{label: what the network saw}``; a map is compared within it, and so are
            the yardsticks where all maps have the same. None: the whole image.
        yardsticks: Whether rows for ``random`` and ``centre`` are added. A map that is already
            there under a yardstick's name stands for it.

    Returns:
        The rows, map by map, the yardsticks last.

    Raises:
        InputError: A map is not on the segmentation's grid or has non-finite values.
    """
    maps = dict(attributions)
    if yardsticks and segmentation.segments:
        shape = segmentation.segments[0].mask.shape
        for name, values in yardstick_maps(shape, affine, case, seed=seed).items():
            maps.setdefault(name, values)
    names = [segment.name for segment in segmentation.segments]
    masks = [segment.mask for segment in segmentation.segments]
    fields = fields_of_view or {}
    # A yardstick is held against the segments where the maps are.
    usual = common(fields.get(label) for label in attributions)
    seen: dict[FieldOfView | None, NDArray[np.bool_] | None] = {None: None}
    table = []
    for label, values in maps.items():
        field = fields.get(label, None if label in attributions else usual)
        if field is not None and field not in seen:
            seen[field] = field.seen(values.shape)
        found = agreements(
            values,
            masks,
            affine,
            seen=seen[field],
            body=body,
            tolerance_mm=tolerance_mm,
            resolution_mm=(resolutions_mm or {}).get(label, 0.0),
        )
        table += [
            Row(case, label, target, name, one) for name, one in zip(names, found, strict=True)
        ]
    return table


def unseen_notes(segmentation: Segmentation, field: FieldOfView | None) -> list[str]:
    """What a user must be told of segments that lie outside of what the network sees.

    Args:
        segmentation: On the image's grid.
        field: What the network sees; None: the whole image.
    """
    if field is None or not segmentation.segments:
        return []
    unseen = ~field.seen(segmentation.segments[0].mask.shape)
    notes = []
    for segment in segmentation.segments:
        voxels, outside = int((segment.mask != 0).sum()), int(((segment.mask != 0) & unseen).sum())
        if outside:
            share = "all" if outside == voxels else f"{max(1, round(100 * outside / voxels))} %"
            notes.append(
                f"{segment.name}: {share} of it lies outside of what the network sees; the figures "
                "are of the rest."
            )
    return notes


def write_comparison(path: Path, rows: Iterable[Row]) -> None:
    """Writes ``comparison.csv``: the same bytes for the same figures, on every system.

    Raises:
        OutputError: The file cannot be written.
    """
    with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(row.cells() for row in rows)


def read_comparison(path: Path) -> list[Row]:
    """Reads ``comparison.csv`` back; ``energy_chance_body``, which it lacks, is NaN.

    Raises:
        InputError: The file cannot be read or is no comparison table.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(csv.reader(file))
        if not lines or tuple(lines[0]) != COLUMNS:
            raise InputError(
                ErrorCode.FILE_FORMAT,
                f"{path} is no comparison table: its first line is not '{','.join(COLUMNS)}'.",
            )
        return [_row(cells) for cells in lines[1:]]
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise InputError(
            ErrorCode.FILE_FORMAT, f"{path} cannot be read as a comparison table: {error}"
        ) from error


def _row(cells: list[str]) -> Row:
    if len(cells) != len(COLUMNS):
        raise ValueError(f"a row has {len(cells)} cells, not {len(COLUMNS)}")
    numbers = [float(cell) if cell else math.nan for cell in cells[len(_NAMES) :]]
    case, method, target, segment = cells[: len(_NAMES)]
    figures = dict(zip(FIGURES, numbers, strict=True))
    return Row(case, method, target, segment, Agreement(**figures, energy_chance_body=math.nan))


def _cell(value: float) -> str:
    # Minus zero would be another text for the same figure.
    return "" if math.isnan(value) else f"{value + 0.0:.6g}"
