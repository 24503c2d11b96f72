"""The agreement of one map with one segment, and its row in the table of agreement."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

from SaliencyExplain.csv_text import figure_cell
from SaliencyExplain.json_fields import Fields


@dataclass(frozen=True)
class Agreement:
    """The agreement of a map with a segment; NaN where a metric is undefined.

    Only what speaks for the class, the positive part of the map, counts as evidence; AUROC,
    average precision and rank accuracy rank the signed values.

    Attributes:
        energy_inside: Share of the positive attribution inside the segment, [0, 1] (the
            energy-based pointing game; Wang et al. 2020, Score-CAM, section 4.3).
        energy_chance: What a map that knows nothing has there: the segment's share of the
            volume, [0, 1].
        pointing: 1 where the peak lies in the segment, else 0 (Zhang et al. 2018, Top-down
            neural attention by excitation backprop); the peak is the maximum of the map smoothed
            over half its resolution (:mod:`SaliencyExplain.peak`); where several voxels share
            it, the share of them that does.
        pointing_tolerance: The same, within the tolerance of the segment, between voxel
            centres in mm.
        auroc: Chance that a voxel inside outranks one outside, [0, 1]; chance gives 0.5.
        average_precision: Area under the precision-recall curve, [0, 1]; chance gives
            ``energy_chance``.
        rank_accuracy: Share of the segment's voxels among as many strongest voxels of the map
            (relevance rank accuracy; Arras et al. 2022, CLEVR-XAI, equation 4), [0, 1]; chance
            gives ``energy_chance``.
        dice_equal_volume: Dice of the segment with as many strongest positive voxels, [0, 1].
        iou_equal_volume: Intersection over union of the same two.
        dice_best: The highest Dice of the segment with ``map >= t`` over all ``t > 0``: the
            threshold is chosen by looking at the segment, so it is an upper bound.
        hausdorff95_mm: 95th percentile Hausdorff distance at equal volume, the larger of both
            directions, mm.
        mean_surface_distance_mm: Mean distance of the two surfaces at equal volume, mean over
            both directions together, mm.
        centre_distance_mm: Distance between the centre of mass of the positive attribution and
            that of the segment, mm.
        energy_chance_body: The segment's share of the body, [0, 1]; NaN where no body was given.
    """

    energy_inside: float
    energy_chance: float
    pointing: float
    pointing_tolerance: float
    auroc: float
    average_precision: float
    rank_accuracy: float
    dice_equal_volume: float
    iou_equal_volume: float
    dice_best: float
    hausdorff95_mm: float
    mean_surface_distance_mm: float
    centre_distance_mm: float
    energy_chance_body: float


NAMES: tuple[str, ...] = ("case", "method", "target", "segment")
"""The columns of ``comparison.csv`` that say what a row is of."""

METRICS: tuple[str, ...] = tuple(
    field.name for field in fields(Agreement) if field.name != "energy_chance_body"
)
"""The metrics of ``comparison.csv``, in order."""

_RANGED = tuple(metric for metric in METRICS if metric != "energy_chance")
_ENDS = ("low", "high")
RANGES: tuple[str, ...] = tuple(f"{metric}_{end}" for metric in _RANGED for end in _ENDS)
"""The columns with the ends of the random maps' central 95 %, in order; else empty."""

COLUMNS: tuple[str, ...] = NAMES + METRICS + RANGES + ("remark",)
"""The columns of ``comparison.csv``, in order."""

#: The remark of a map whose regions are the segment that it would be held against.
OWN_SEGMENT = "withheld: the map's regions are this segment"


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        case: Name of the case.
        method: Label of the attribution, ``<method>`` or ``<method>@<layer>``, or a control map.
        target: Name of the class that the map explains.
        segment: Name of the segment.
        agreement: The metrics; of random maps the expectation of each.
        low: Of random maps, the lower end of the central 95 % of the draws; else None.
        high: The upper end.
        remark: Why there are no metrics, such as :data:`OWN_SEGMENT`; mostly empty.
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
        """The row of the CSV: six significant digits, empty where a metric is undefined."""
        names = [self.case, self.method, self.target, self.segment]
        metrics = [getattr(self.agreement, metric) for metric in METRICS]
        return (
            names
            + [figure_cell(value) for value in (*metrics, *self._range().values())]
            + [self.remark]
        )

    def as_json(self) -> dict[str, str | float | None]:
        """The row for JSON, with all digits and null where a metric is undefined."""
        named: dict[str, str | float | None] = {name: getattr(self, name) for name in NAMES}
        for field in fields(Agreement):
            value = getattr(self.agreement, field.name)
            named[field.name] = None if math.isnan(value) else value
        if self.low is not None:
            ends = self._range()
            named |= {name: None if math.isnan(ends[name]) else ends[name] for name in ends}
        named["segmentation_sha256"] = self.segmentation_sha256
        named["length_unit"] = self.length_unit
        return named | ({"remark": self.remark} if self.remark else {})

    def without(self, *names: str) -> dict[str, str | float | None]:
        """:meth:`as_json` without the columns that stand elsewhere in a file."""
        return {name: value for name, value in self.as_json().items() if name not in names}

    @classmethod
    def from_json(cls, row: Fields, **known: str) -> Row:
        """The row that :meth:`as_json` wrote.

        Args:
            row: What was read.
            known: Of ``case``, ``method`` and ``target`` those that stand elsewhere in the file.

        Raises:
            InputError: A field is missing or is not of its kind.
        """
        ranged = any(f"auroc_{end}" in row.content for end in _ENDS)
        low, high = (_agreement(row, f"_{end}", _RANGED) if ranged else None for end in _ENDS)
        names = {name: known[name] if name in known else row.text(name) for name in NAMES}
        return cls(
            **names,
            agreement=_agreement(row, "", tuple(field.name for field in fields(Agreement))),
            remark=row.text("remark") if row.has("remark") else "",
            segmentation_sha256=row.text("segmentation_sha256"),
            length_unit=row.choice("length_unit", "mm", "px"),
            low=low,
            high=high,
        )

    def _range(self) -> dict[str, float]:
        """The ends of the random maps' range by their columns; NaN where there is none."""
        sides = dict(zip(_ENDS, (self.low, self.high), strict=True))
        return {
            f"{metric}_{end}": math.nan if sides[end] is None else getattr(sides[end], metric)
            for metric in _RANGED
            for end in _ENDS
        }


def _agreement(row: Fields, end: str, names: Sequence[str]) -> Agreement:
    """The metrics of these names; null and the others are NaN."""
    found = dict.fromkeys((field.name for field in fields(Agreement)), math.nan)
    for name in names:
        if row.nullable(f"{name}{end}"):
            found[name] = row.number(f"{name}{end}")
    return Agreement(**found)
