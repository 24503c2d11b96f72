"""The record of a case made from its explanation, and from that of an earlier run with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from monai.data import MetaTensor

from SaliencyExplain.attribution.registry import find_method
from SaliencyExplain.figures import CHANNEL, EACH_SEGMENT
from SaliencyExplain.geometry import spacing_of
from SaliencyExplain.images.segmentation import Segmentation
from SaliencyExplain.json_text import plain
from SaliencyExplain.length_unit import length_unit
from SaliencyExplain.peak import RESOLUTION_MM
from SaliencyExplain.records.agreement_row import Row
from SaliencyExplain.records.case_record import CaseRecord
from SaliencyExplain.records.control_names import CENTRE
from SaliencyExplain.records.control_names import NAMES as CONTROL_MAPS
from SaliencyExplain.records.image_record import CaseFiles, ImageRecord
from SaliencyExplain.records.map_record import MapFiles, MapRecord, Parameter
from SaliencyExplain.results.attribution_map import Attribution
from SaliencyExplain.results.image_explanation import Explanation
from SaliencyExplain.specification.parameters import unit_of
from SaliencyExplain.studies.added_methods import in_order, merged_notes
from SaliencyExplain.studies.case import safe_name

#: Parts of a map's provenance that stay with the map, even if all maps of a case share them.
_OF_ONE_MAP = ("notes", "share_done", "budget_seconds", RESOLUTION_MM, EACH_SEGMENT, CHANNEL)
_SEGMENTATION = "segmentation_sha256"


def file_stem(attribution: Attribution) -> str:
    """``<method>-<target>`` or ``<method>@<layer>-<target>``, safe as a file name."""
    return f"{safe_name(attribution.label)}-{safe_name(attribution.target_name)}"


def record_of(
    case: str,
    explanation: Explanation,
    image: MetaTensor,
    *,
    segmentation: Segmentation | None = None,
    rows: Sequence[Row] = (),
    files: CaseFiles | None = None,
    image_name: str | None = None,
) -> CaseRecord:
    """The record of an explained case.

    Args:
        case: Its name.
        explanation: The maps and the prediction.
        image: ``(C, *S)``, as it was read.
        segmentation: The segments that the maps were compared with.
        rows: The agreement of the maps and of the control maps.
        files: Where the case's files lie; None: not to be told.
        image_name: What stands for the image's own name; None: that name.
    """
    affine = np.asarray(image.affine, dtype=np.float64)
    maps = tuple(_map_record(one, rows, image_name) for one in explanation.attributions)
    provenance = _common([one.provenance for one in maps])
    if segmentation is not None:
        provenance[_SEGMENTATION] = segmentation.sha256
    return CaseRecord(
        case=case,
        predicted=explanation.classes[int(np.argmax(explanation.probabilities))],
        probabilities=dict(
            zip(explanation.classes, map(float, explanation.probabilities), strict=True)
        ),
        target=explanation.target,
        target_name=explanation.target_name,
        image=ImageRecord(
            channels=int(image.shape[0]),
            shape=tuple(int(size) for size in image.shape[1:]),
            spacing_mm=tuple(round(float(size), 6) for size in spacing_of(affine, image.ndim - 1)),
            affine_ras_mm=tuple(map(tuple, affine.round(6).tolist())),
            length_unit=length_unit(affine, image.shape[1:]),
            files=files,
        ),
        segments=tuple(one.name for one in segmentation.segments) if segmentation else (),
        maps=maps,
        control_maps=tuple(row for row in rows if row.method in CONTROL_MAPS),
        failures=explanation.failures,
        notes=explanation.notes,
        provenance=provenance,
        timings={name: round(seconds, 4) for name, seconds in explanation.timings.items()},
    )


def added_to(
    earlier: CaseRecord, new: CaseRecord, computed: Collection[str], order: Sequence[str]
) -> CaseRecord:
    """The record of a case after methods were added to it.

    Args:
        earlier: The record as it was.
        new: That of the added methods alone, of the same image and class.
        computed: The methods that were computed now, whose earlier results no longer count.
        order: Names of all methods in their order.
    """
    stay = [map_ for map_ in earlier.maps if map_.method not in computed]
    maps = in_order([*stay, *new.maps], order, lambda map_: map_.method)
    provenance = _common([one.provenance for one in maps])
    if _SEGMENTATION in new.provenance:
        provenance[_SEGMENTATION] = new.provenance[_SEGMENTATION]
    failures = [one for one in earlier.failures if one.method not in computed]
    control_maps = new.control_maps or earlier.control_maps
    centre = next((one.comparison for one in maps if one.label == CENTRE), ())
    if centre:
        # A requested centre-weighted map replaces the control map, as in a single run.
        control_maps = (*(row for row in control_maps if row.method != CENTRE), *centre)
    return dataclasses.replace(
        new,
        maps=tuple(maps),
        control_maps=control_maps,
        failures=(*failures, *new.failures),
        notes=merged_notes(earlier.notes, new.notes, computed),
        provenance=provenance,
        timings={**earlier.timings, **new.timings},
    )


def _map_record(attribution: Attribution, rows: Sequence[Row], image_name: str | None) -> MapRecord:
    fields = {field.name: field for field in dataclasses.fields(find_method(attribution.method))}
    unit = length_unit(attribution.affine, attribution.values.shape)
    # The metrics of a method stand beside its provenance.
    provenance = {name: one for name, one in attribution.provenance.items() if name != "figures"}
    return MapRecord(
        label=attribution.label,
        method=attribution.method,
        layer=attribution.layer or None,
        signed=attribution.signed,
        share_done=attribution.share_done,
        budget_seconds=attribution.provenance.get("budget_seconds"),
        parameters={
            name: Parameter(plain(value), unit_of(fields[name].metadata, unit) or None)
            for name, value in attribution.parameters.items()
        },
        device=attribution.provenance["device"],
        resolution_mm=attribution.resolution_mm,
        own_segments=attribution.own_segments,
        channel=attribution.provenance.get(CHANNEL),
        figures=plain(attribution.provenance.get("figures", {})),
        files=MapFiles.of(file_stem(attribution)),
        comparison=tuple(row for row in rows if row.method == attribution.label),
        provenance=plain(provenance if image_name is None else provenance | {"image": image_name}),
    )


def _common(provenances: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the provenances of all maps of a case have in common."""
    first = provenances[0] if provenances else {}
    return {
        name: value
        for name, value in first.items()
        if name not in _OF_ONE_MAP
        and all(name in one and one[name] == value for one in provenances)
    }
