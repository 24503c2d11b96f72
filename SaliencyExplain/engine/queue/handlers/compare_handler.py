"""Maps compared with segments."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.attribution.methods.control_maps import centre_map
from SaliencyExplain.comparison.curve import curves
from SaliencyExplain.comparison.table import rows, unseen_notes
from SaliencyExplain.engine.queue.handlers.handler import Handler
from SaliencyExplain.engine.queue.job_queue import Reporter
from SaliencyExplain.engine.queue.volume_images import check_grid, image_of, segmentation_of
from SaliencyExplain.engine.wire.requests import CompareRequest
from SaliencyExplain.engine.wire.results import CompareResult
from SaliencyExplain.field_of_view import FieldOfView, common
from SaliencyExplain.geometry import spacing_of
from SaliencyExplain.images.body import body_mask
from SaliencyExplain.images.image_hash import voxel_hash
from SaliencyExplain.length_unit import length_unit
from SaliencyExplain.records.agreement_row import COLUMNS, OWN_SEGMENT, Row
from SaliencyExplain.records.control_names import CENTRE, NAMES, RANDOM
from SaliencyExplain.results.agreement_curve import AgreementCurve


class CompareHandler(Handler[CompareRequest, CompareResult], answers=CompareRequest):
    """Computes the rows that the command line writes for maps and segments, and their curves."""

    def volumes(self, request: CompareRequest) -> set[str]:
        """The image, the maps and the segments."""
        return {request.volume, request.segments, *request.maps.values()}

    def run(self, request: CompareRequest, reporter: Reporter) -> CompareResult:
        """Compares each map, and random and centre-weighted control maps, with each segment."""
        held = self.context.volumes
        maps = {label: held.get(key) for label, key in request.maps.items()}
        image, segments = held.get(request.volume), held.get(request.segments)
        affine = np.asarray(image.affine)
        shape = image.values.shape[1:]
        notes: list[str] = [*request.segment_notes]
        segmentation = segmentation_of(request.segment_names, segments, image, notes)
        for label, volume in maps.items():
            check_grid(f"The map {label}", volume, volume.values.shape, image)
        reporter.doing("finds the body")
        volume_image = image_of(image)
        body, image_sha256 = body_mask(volume_image), voxel_hash(volume_image)
        table: list[Row] = []
        drawn: list[AgreementCurve] = []
        masks = [segment.mask for segment in segmentation.segments]
        fields: dict[str, FieldOfView | None] = dict(request.fields_of_view)
        usual = common(fields.get(label) for label in maps)
        notes += unseen_notes(segmentation, usual)

        def compare(some: Mapping[str, NDArray[Any]], control_maps: bool = False) -> None:
            table.extend(
                rows(
                    request.case,
                    request.target_name,
                    some,
                    segmentation,
                    affine,
                    body=body,
                    seed=request.seed,
                    image_sha256=image_sha256,
                    resolutions_mm=request.resolutions_mm,
                    fields_of_view=fields,
                    usual_field=usual,
                    own_segments=request.own_segments,
                    control_maps=control_maps,
                )
            )

        def draw(label: str, values: NDArray[Any], field: FieldOfView | None) -> None:
            seen = None if field is None else field.seen(values.shape)
            for segment, curve in zip(
                segmentation.segments, curves(values, masks, seen), strict=True
            ):
                drawn.append(dataclasses.replace(curve, label=label, segment=segment.name))

        own = {label: one.values for label, one in maps.items() if label not in NAMES}
        for number, (label, values) in enumerate(own.items()):
            reporter.doing(f"compares {label}")
            reporter.progress(number, len(own) + 1)
            compare({label: values})
            draw(label, values, fields.get(label))
        reporter.doing("compares random maps")
        compare({}, control_maps=True)
        # The expectation of all random maps is the diagonal.
        drawn += [
            AgreementCurve((0.0, 1.0), (0.0, 1.0), RANDOM, one.name)
            for one in segmentation.segments
        ]
        draw(CENTRE, centre_map(shape, spacing_of(affine, len(shape))), usual)
        notes += [
            f"{row.method} has no agreement with {row.segment}, since its regions are that segment."
            for row in table
            if row.remark == OWN_SEGMENT
        ]
        return CompareResult(
            columns=(*COLUMNS, "energy_chance_body"),
            rows=tuple(row.as_json() for row in table),
            curves=tuple(drawn),
            notes=tuple(notes),
            length_unit=length_unit(affine, shape),
        )
