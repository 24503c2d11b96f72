"""The table of agreement: a row per case, method, target and segment."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain import csv_text
from SaliencyExplain.attribution.methods.control_maps import centre_map
from SaliencyExplain.comparison.agreement import agreements, undefined_agreement
from SaliencyExplain.comparison.random_control import RandomControl
from SaliencyExplain.field_of_view import FieldOfView, common
from SaliencyExplain.geometry import spacing_of
from SaliencyExplain.images.image_writing import atomic_file
from SaliencyExplain.images.segmentation import Segmentation
from SaliencyExplain.length_unit import length_unit
from SaliencyExplain.records.agreement_row import (
    COLUMNS,
    OWN_SEGMENT,
    Row,
)
from SaliencyExplain.records.control_names import CENTRE, RANDOM


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
    control_maps: bool = True,
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
        control_maps: Whether rows for ``random`` and ``centre`` are added. A centre-weighted map
            that is already there stands for it; one random map does not stand for chance, and
            gets no row beside the distribution.

    Returns:
        The rows, map by map, the control maps last.

    Raises:
        InputError: A map is not on the segmentation's grid or has non-finite values.
    """
    maps = dict(attributions)
    if control_maps and segmentation.segments:
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
    if control_maps and segmentation.segments:
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
    """Notes for the user on segments outside the field of view of the network.

    Args:
        segmentation: On the image's grid.
        field: The field of view of the network; None: the whole image.
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
                f"{segment.name}: {share} of it lies outside the field of view of the network; the "
                "metrics are of the rest."
            )
    return notes


def auroc_chance(rows: Iterable[Row], segment: str) -> str:
    """The AUROC of a map on a segment by chance: ``chance 0.50, 0.35 to 0.66``.

    Args:
        rows: The rows of a case.
        segment: Name of the segment.
    """
    for row in rows:
        if row.segment != segment or row.low is None or row.high is None:
            continue
        if not math.isnan(row.low.auroc):
            return f"chance 0.50, {row.low.auroc:.2f} to {row.high.auroc:.2f}"
    return "chance 0.50"


def write_comparison(path: Path, rows: Iterable[Row]) -> None:
    """Writes ``comparison.csv``: the same bytes for the same metrics, on every system.

    Raises:
        OutputError: The file cannot be written.
    """
    with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv_text.Writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(row.cells() for row in rows)
