"""The table of agreement: a row per case, method, target and segment."""

from __future__ import annotations

import csv
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain import csv_text
from SaliencyExplain.attribution.methods.control_maps import centre_map
from SaliencyExplain.comparison.agreement import Agreement, agreements, undefined_agreement
from SaliencyExplain.comparison.control_names import CENTRE, RANDOM
from SaliencyExplain.comparison.random_control import RandomControl
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.field_of_view import FieldOfView, common
from SaliencyExplain.images.grids import spacing_of
from SaliencyExplain.images.image_writing import atomic_file
from SaliencyExplain.images.segmentation import Segmentation
from SaliencyExplain.length_unit import length_unit

_NAMES = ("case", "method", "target", "segment")

FIGURES: tuple[str, ...] = tuple(
    field.name for field in fields(Agreement) if field.name != "energy_chance_body"
)
"""The figures of ``comparison.csv``, in order."""

_RANGED = tuple(figure for figure in FIGURES if figure != "energy_chance")
_ENDS = ("low", "high")
RANGES: tuple[str, ...] = tuple(f"{figure}_{end}" for figure in _RANGED for end in _ENDS)
"""The columns with the ends of the random maps' central 95 %, in order; else empty."""

COLUMNS: tuple[str, ...] = _NAMES + FIGURES + RANGES + ("remark",)
"""The columns of ``comparison.csv``, in order."""

#: The remark of a map whose regions are the segment that it would be held against.
OWN_SEGMENT = "withheld: the map's regions are this segment"


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        case: Name of the case.
        method: Label of the attribution, ``<method>`` or ``<method>@<layer>``, or a yardstick.
        target: Name of the class that the map explains.
        segment: Name of the segment.
        agreement: The figures; of random maps the expectation of each.
        low: Of random maps, the lower end of the central 95 % of the draws; else None.
        high: The upper end.
        remark: Why there are no figures, such as :data:`OWN_SEGMENT`; mostly empty.
        segmentation_sha256: Hash of the segments that the map was held against, by name and
            voxels on the image's grid; empty for rows out of a CSV, which has no column for it.
        length_unit: Of the distances: ``mm``, or ``px`` where the image has no size, see
            :func:`SaliencyExplain.images.grids.length_unit`; ``mm`` for rows out of a CSV.
    """

    case: str
    method: str
    target: str
    segment: str
    agreement: Agreement
    low: Agreement | None = None
    high: Agreement | None = None
    remark: str = ""
    segmentation_sha256: str = ""
    length_unit: str = "mm"

    def cells(self) -> list[str]:
        """The row of the CSV: six significant digits, empty where a figure is undefined."""
        names = [self.case, self.method, self.target, self.segment]
        figures = [getattr(self.agreement, figure) for figure in FIGURES]
        return (
            names + [_cell(value) for value in (*figures, *self._range().values())] + [self.remark]
        )

    def as_json(self) -> dict[str, str | float | None]:
        """The row for JSON, with all digits and null where a figure is undefined."""
        named: dict[str, str | float | None] = {name: getattr(self, name) for name in _NAMES}
        for field in fields(Agreement):
            value = getattr(self.agreement, field.name)
            named[field.name] = None if math.isnan(value) else value
        if self.low is not None:
            ends = self._range()
            named |= {name: None if math.isnan(ends[name]) else ends[name] for name in ends}
        named["segmentation_sha256"] = self.segmentation_sha256
        named["length_unit"] = self.length_unit
        return named | ({"remark": self.remark} if self.remark else {})

    def _range(self) -> dict[str, float]:
        """The ends of the random maps' range by their columns; NaN where there is none."""
        sides = dict(zip(_ENDS, (self.low, self.high), strict=True))
        return {
            f"{figure}_{end}": math.nan if sides[end] is None else getattr(sides[end], figure)
            for figure in _RANGED
            for end in _ENDS
        }


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
    image_sha256: str = "",
    resolutions_mm: Mapping[str, float] | None = None,
    fields_of_view: Mapping[str, FieldOfView | None] | None = None,
    usual_field: FieldOfView | None = None,
    own_segments: Mapping[str, Collection[str]] | None = None,
    yardsticks: bool = True,
) -> list[Row]:
    """Compares maps of one class, and the control maps, with every segment.

    Args:
        case: Name of the case.
        target: Name of the class.
        attributions: ``{label: map}``, all (*S).
        segmentation: The segments, on the same grid.
        affine: 4x4 of the grid, RAS mm.
        body: The voxels of the body, where they can be told.
        tolerance_mm: Tolerance of the pointing game, mm.
        seed: Seed of the random maps.
        image_sha256: Of the image that the maps explain, which draws the random maps with the
            seed; see :func:`SaliencyExplain.images.image_hash.voxel_hash`.
        resolutions_mm: ``{label: mm}`` of what the maps resolve; 0 where it is not known.
        fields_of_view: ``{label: what the network saw}``; a map is compared within it, and so are
            the control maps where all maps have the same. None: the whole image.
        usual_field: The field of view of the control maps where no maps say it.
        own_segments: ``{label: hashes}`` of the segments that are the regions of a map
            (:attr:`SaliencyExplain.images.segmentation.Segment.sha256`). Such a map has the
            segment's very outline, whatever the classifier looks at: its agreement with that
            segment is withheld, and the row's remark says so.
        yardsticks: Whether rows for ``random`` and ``centre`` are added. A centre-weighted map
            that is already there stands for it; one random map does not stand for chance, and
            gets no row beside the distribution.

    Returns:
        The rows, map by map, the control maps last.

    Raises:
        InputError: A map is not on the segmentation's grid or has non-finite values.
    """
    maps = dict(attributions)
    if yardsticks and segmentation.segments:
        maps.pop(RANDOM, None)
        spacing = spacing_of(affine, segmentation.segments[0].mask.ndim)
        maps.setdefault(CENTRE, centre_map(segmentation.segments[0].mask.shape, spacing))
    hashes = [segment.sha256 for segment in segmentation.segments] if own_segments else []
    fields = fields_of_view or {}
    # A control map is held against the segments where the maps are.
    usual = common(fields.get(label) for label in attributions) or usual_field
    seen: dict[FieldOfView | None, NDArray[np.bool_] | None] = {None: None}
    table = []
    for label, values in maps.items():
        field = fields.get(label, None if label in attributions else usual)
        if field is not None and field not in seen:
            seen[field] = field.seen(values.shape)
        found = agreements(
            values,
            [segment.mask for segment in segmentation.segments],
            affine,
            seen=seen[field],
            body=body,
            tolerance_mm=tolerance_mm,
            resolution_mm=(resolutions_mm or {}).get(label, 0.0),
        )
        own = (own_segments or {}).get(label, ())
        for number, (segment, one) in enumerate(zip(segmentation.segments, found, strict=True)):
            if own and hashes[number] in own:
                withheld = undefined_agreement(
                    energy_chance=one.energy_chance, energy_chance_body=one.energy_chance_body
                )
                table.append(Row(case, label, target, segment.name, withheld, remark=OWN_SEGMENT))
            else:
                table.append(Row(case, label, target, segment.name, one))
    if yardsticks and segmentation.segments:
        shape = segmentation.segments[0].mask.shape
        within = np.ones(shape, dtype=bool) if usual is None else usual.seen(shape)
        chance = RandomControl(
            within,
            affine,
            seed=seed,
            image_sha256=image_sha256,
            tolerance_mm=tolerance_mm,
        )
        drawn = []
        for segment in segmentation.segments:
            control = chance.of(segment.mask, body=body)
            drawn.append(
                Row(case, RANDOM, target, segment.name, control.mean, control.low, control.high)
            )
        # Before the centre-weighted map, as everywhere.
        first = next(n for n, row in enumerate(table) if row.method == CENTRE)
        table[first:first] = drawn
    if not table:
        return []
    digest = segmentation.sha256
    unit = length_unit(affine, segmentation.segments[0].mask.shape)
    return [replace(row, segmentation_sha256=digest, length_unit=unit) for row in table]


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


def auroc_chance(rows: Iterable[Row], segment: str) -> str:
    """What chance gives a map's AUROC on a segment: ``chance 0.50, 0.35 to 0.66``.

    Args:
        rows: The rows of a case.
        segment: Name of the segment.
    """
    for row in rows:
        if row.segment == segment and row.low is not None and row.high is not None:
            return f"chance 0.50, {row.low.auroc:.2f} to {row.high.auroc:.2f}"
    return "chance 0.50"


def write_comparison(path: Path, rows: Iterable[Row]) -> None:
    """Writes ``comparison.csv``: the same bytes for the same figures, on every system.

    Raises:
        OutputError: The file cannot be written.
    """
    with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv_text.Writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(row.cells() for row in rows)


def read_comparison(path: Path) -> list[Row]:
    """Reads ``comparison.csv`` back; ``energy_chance_body``, which it lacks, is NaN.

    Raises:
        InputError: The file cannot be read or is no comparison table.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(csv_text.read_lines(file))
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
    numbers = [float(cell) if cell else math.nan for cell in cells[len(_NAMES) : -1]]
    case, method, target, segment = cells[: len(_NAMES)]
    figures = dict(zip(FIGURES + RANGES, numbers, strict=True))
    return row_of(figures, case, method, target, segment, cells[-1])


def row_of(
    figures: Mapping[str, float | None],
    case: str,
    method: str,
    target: str,
    segment: str,
    remark: str = "",
) -> Row:
    """A row from its figures by the columns' names, those of :meth:`Row.as_json` among them.

    Args:
        figures: Undefined ones are None or NaN, or missing.
        case: Of the row, as the next ones.
        method: See there.
        target: See there.
        segment: See there.
        remark: See there.
    """

    def agreement_of(end: str = "") -> Agreement:
        found = {}
        for field in fields(Agreement):
            value = figures.get(f"{field.name}{end}")
            found[field.name] = math.nan if value is None else float(value)
        return Agreement(**found)

    low = high = None
    if any(figures.get(name) is not None for name in RANGES):
        low, high = agreement_of("_low"), agreement_of("_high")
        if math.isnan(low.auroc) and math.isnan(low.energy_inside):
            low = high = None
    return Row(case, method, target, segment, agreement_of(), low, high, remark)


def _cell(value: float) -> str:
    # Minus zero would be another text for the same figure.
    return "" if math.isnan(value) else f"{value + 0.0:.6g}"
