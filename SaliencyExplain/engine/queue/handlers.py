"""The computation behind each kind of job: a request and what it names become a result."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.attribution.method_selection import parse_parameters
from SaliencyExplain.attribution.methods.control_maps import centre_map
from SaliencyExplain.attribution.registry import find_method, methods
from SaliencyExplain.comparison.control_names import CENTRE, NAMES, RANDOM
from SaliencyExplain.comparison.curve import curves
from SaliencyExplain.comparison.table import COLUMNS, OWN_SEGMENT, Row, rows, unseen_notes
from SaliencyExplain.engine.queue.job_queue import Reporter
from SaliencyExplain.engine.wire.requests import (
    CompareRequest,
    ExplainRequest,
    MethodChoice,
    ProbeRequest,
)
from SaliencyExplain.engine.wire.results import (
    CompareResult,
    CurveResult,
    EstimateResult,
    ExplainResult,
    MapResult,
    PredictResult,
    ProbeResult,
    RemovalResult,
)
from SaliencyExplain.engine.wire.wire_volumes import Volume
from SaliencyExplain.errors import ErrorCode, InputError, unknown_name
from SaliencyExplain.explanation import Attribution, estimate, explain
from SaliencyExplain.field_of_view import FieldOfView, common
from SaliencyExplain.images.body import body_mask
from SaliencyExplain.images.grids import same_grid, spacing_of
from SaliencyExplain.images.segment_labels import PALETTE
from SaliencyExplain.images.segmentation import Segment, Segmentation
from SaliencyExplain.length_unit import length_unit
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.probing import Prober
from SaliencyExplain.question import Compute, Given, Question, voxel_hash


class Desk(Protocol):
    """Where an explanation lays its maps down while it works."""

    reporter: Reporter

    def keep(self, volume: Volume) -> str:
        """Keeps a map and gives its hash."""

    def publish(self, partial: ExplainResult) -> None:
        """Shows a partial result."""


def image_of(volume: Volume, name: str = "") -> MetaTensor:
    """A volume ``(C, *S)`` as the image that the library takes; its voxels are copied."""
    values = torch.from_numpy(volume.values.astype(np.float32))
    image = MetaTensor(values, affine=torch.from_numpy(np.array(volume.affine)))
    image.meta["name"] = name
    image.meta["notes"] = []
    return image


def chosen_methods(choices: Sequence[MethodChoice]) -> list[Method]:
    """The methods of a request.

    Raises:
        InputError: None, one twice, an unknown one, or a parameter that is unknown or of
            another type.
    """
    if not choices:
        raise InputError(ErrorCode.OPTION_MISSING, "No method was chosen.")
    names = [choice.name for choice in choices]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise InputError(
            ErrorCode.NAME_DUPLICATE,
            f"The method '{twice}' was chosen twice; its maps share a name.",
        )
    return [_method(choice) for choice in choices]


def predict(volume: Volume, classifier: Classifier, compute: Compute) -> PredictResult:
    """The probabilities of the classes."""
    started = time.perf_counter()
    question = Question(image_of(volume), classifier, "predicted", compute)
    return PredictResult(
        classes=classifier.classes,
        probabilities=tuple(question.probabilities.tolist()),
        notes=(*classifier.notes, *question.notes),
        seconds=time.perf_counter() - started,
    )


def given_beside(
    request: ExplainRequest, image: Volume, held: Callable[[str], Volume], notes: list[str]
) -> Given:
    """What a request names beside its volume.

    Args:
        request: What was asked.
        image: Its volume.
        held: Gives the volume of a hash.
        notes: Told what was left out.

    Raises:
        InputError: The segments are not on the image's grid, or have no names.
    """
    segmentation = None
    if request.segments is not None:
        names = request.segment_names
        notes += request.segment_notes
        segmentation = _segmentation(names, held(request.segments), image, notes)
    backgrounds = tuple(image_of(held(key)) for key in request.backgrounds)
    return Given(segmentation, backgrounds)


def estimated(
    request: ExplainRequest,
    volume: Volume,
    classifier: Classifier,
    compute: Compute,
    given: Given,
) -> EstimateResult:
    """What an explanation would cost."""
    cost = estimate(
        image_of(volume),
        classifier,
        chosen_methods(request.methods),
        target=request.target,
        compute=compute,
        given=given,
    )
    budget = request.budget_seconds
    if budget is None:
        return EstimateResult(cost.forward_passes, cost.seconds)
    note = cost.not_stopped(budget)
    notes = (note,) if note else ()
    return EstimateResult(cost.forward_passes, cost.seconds_within(budget), notes)


def explained(
    request: ExplainRequest,
    volume: Volume,
    classifier: Classifier,
    compute: Compute,
    given: Given,
    desk: Desk,
    probabilities: tuple[float, ...],
) -> ExplainResult:
    """The attributions, growing ones shown on the way.

    Args:
        request: What was asked.
        volume: The image.
        classifier: What is explained.
        compute: On what, and within which limits.
        given: What the methods have beside the image.
        desk: Takes the maps.
        probabilities: As far as they are known before, for the partial results.
    """
    wanted = chosen_methods(request.methods)
    reporter, keep = desk.reporter, desk.keep
    reporter.doing(f"computes {', '.join(method.title for method in wanted)}")
    grown: dict[str, MapResult] = {}

    def show(attribution: Attribution, share: float) -> None:
        reporter.check()
        result = _map_result(dataclasses.replace(attribution, share_done=share), keep)
        grown[result.label] = result
        partial = ExplainResult(
            classes=classifier.classes,
            probabilities=probabilities,
            target=attribution.target,
            maps=tuple(grown.values()),
            notes=(),
            timings={},
        )
        desk.publish(partial)

    explanation = explain(
        image_of(volume, request.image_name),
        classifier,
        wanted,
        target=request.target,
        compute=compute,
        given=given,
        seed=request.seed,
        progress=reporter.progress,
        publish=show,
        budget_seconds=request.budget_seconds,
    )
    return ExplainResult(
        classes=explanation.classes,
        probabilities=tuple(explanation.probabilities.tolist()),
        target=explanation.target,
        maps=tuple(_map_result(map_, keep) for map_ in explanation.attributions),
        notes=(*classifier.notes, *explanation.notes),
        timings=explanation.timings,
        failures=explanation.failures,
    )


def probed(
    request: ProbeRequest,
    image: Volume,
    prober: Prober,
    segment: Volume | None,
    reporter: Reporter,
) -> ProbeResult:
    """The probabilities without what is at a place."""
    if segment is not None:
        name = request.segment_name or "segment"
        _check_grid(f"The segment '{name}'", segment, segment.values.shape, image)
        mask = segment.values.astype(bool)
        found = prober.segment(mask, name, progress=reporter.progress)
    elif request.point_ras is not None:
        found = prober.at(request.point_ras, request.radii_mm, progress=reporter.progress)
    else:
        raise InputError(ErrorCode.OPTION_MISSING, "A probe wants a point or a segment.")
    return ProbeResult(
        classes=tuple(found.classes),
        before=_floats(found.before),
        removals=tuple(
            RemovalResult(
                one.name,
                one.radius_mm,
                int(one.voxels),
                _floats(one.probabilities),
                _floats(one.scores),
            )
            for one in found.removals
        ),
        notes=(*prober.notes, *request.segment_notes, *found.notes),
        seconds=found.seconds,
        output=found.output,
        scores=_floats(found.scores),
        length_unit=found.length_unit,
    )


def compared(
    request: CompareRequest,
    image: Volume,
    maps: dict[str, Volume],
    segments: Volume,
    reporter: Reporter,
) -> CompareResult:
    """The rows that the command line writes for these maps and segments, and their curves."""
    affine = np.asarray(image.affine)
    shape = image.values.shape[1:]
    notes: list[str] = [*request.segment_notes]
    held = _segmentation(request.segment_names, segments, image, notes)
    for label, volume in maps.items():
        _check_grid(f"The map {label}", volume, volume.values.shape, image)
    compared_maps: dict[str, NDArray[Any]] = {
        label: volume.values for label, volume in maps.items()
    }
    reporter.doing("finds the body")
    body = body_mask(image_of(image))
    table: list[Row] = []
    drawn: list[CurveResult] = []
    masks = [segment.mask for segment in held.segments]
    fields: dict[str, FieldOfView | None] = dict(request.fields_of_view)
    usual = common(fields.get(label) for label in maps)
    notes += unseen_notes(held, usual)

    def compare(some: Mapping[str, NDArray[Any]], yardsticks: bool = False) -> None:
        table.extend(
            rows(
                request.case,
                request.target_name,
                some,
                held,
                affine,
                body=body,
                seed=request.seed,
                image_sha256=voxel_hash(image_of(image)),
                resolutions_mm=request.resolutions_mm,
                fields_of_view=fields,
                usual_field=usual,
                own_segments=request.own_segments,
                yardsticks=yardsticks,
            )
        )

    def draw(label: str, values: NDArray[Any], field: FieldOfView | None) -> None:
        seen = None if field is None else field.seen(values.shape)
        for segment, curve in zip(held.segments, curves(values, masks, seen), strict=True):
            shares = _floats(curve.share_of_image), _floats(curve.share_of_segment)
            drawn.append(CurveResult(label, segment.name, *shares))

    own = {label: values for label, values in compared_maps.items() if label not in NAMES}
    for number, (label, values) in enumerate(own.items()):
        reporter.doing(f"compares {label}")
        reporter.progress(number, len(own) + 1)
        compare({label: values})
        draw(label, values, fields.get(label))
    reporter.doing("compares random maps")
    compare({}, yardsticks=True)
    # The expectation of all random maps is the diagonal.
    drawn += [CurveResult(RANDOM, one.name, (0.0, 1.0), (0.0, 1.0)) for one in held.segments]
    draw(CENTRE, centre_map(shape, spacing_of(affine, len(shape))), usual)
    notes += [
        f"{row.method} has no agreement with {row.segment}: its regions are that segment itself."
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


def _method(choice: MethodChoice) -> Method:
    kind = find_method(choice.name)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    values: dict[str, Any] = {}
    for name, value in choice.parameters.items():
        if name not in fields:
            raise unknown_name(f"parameter of {kind.name}", name, fields)
        if isinstance(value, str):
            values |= parse_parameters(kind, {name: value})
        else:
            # What travelled as JSON or came from a widget is read as the command line's text.
            text = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
            values |= parse_parameters(kind, {name: text})
    return kind(**values)


def _map_result(attribution: Attribution, keep: Callable[[Volume], str]) -> MapResult:
    return MapResult(
        label=attribution.label,
        title=methods()[attribution.method].title,
        method=attribution.method,
        layer=attribution.layer,
        signed=attribution.signed,
        target_name=attribution.target_name,
        volume=keep(Volume(attribution.values, attribution.affine)),
        parameters=attribution.parameters,
        provenance=attribution.provenance,
        seconds=attribution.seconds,
        share_done=attribution.share_done,
    )


def _segmentation(
    names: Sequence[str],
    segments: Volume,
    image: Volume,
    notes: list[str],
) -> Segmentation:
    values = segments.values
    _check_grid("The stack of segments", segments, values.shape[1:], image)
    if len(names) != len(values):
        raise InputError(
            ErrorCode.ENGINE_REQUEST,
            f"There are {len(values)} segments and {len(names)} names for them.",
        )
    named: dict[str, Segment] = {}
    empty = []
    for index, (name, mask) in enumerate(zip(names, values, strict=True)):
        if not mask.any():
            empty.append(name)
            continue
        if name in named:
            raise InputError(
                ErrorCode.NAME_DUPLICATE, f"Two segments are named '{name}'; give one another name."
            )
        named[name] = Segment(name, PALETTE[index % len(PALETTE)], mask.astype(bool))
    if empty:
        notes.append(f"without a voxel in the image and left out: {', '.join(empty)}")
    if not named:
        raise InputError(
            ErrorCode.SEGMENTATION_EMPTY,
            "No voxel of the image lies in a segment; nothing can be compared.",
        )
    return Segmentation(tuple(named.values()), np.asarray(image.affine), ())


def _check_grid(what: str, volume: Volume, shape: tuple[int, ...], image: Volume) -> None:
    """Refuses voxels that do not lie where the image's do: their places would be wrong."""
    wanted = image.values.shape[1:]
    if shape != wanted:
        raise InputError(
            ErrorCode.GRID_MISMATCH,
            f"{what} has {shape} voxels and the image {wanted}: give it on the image's own grid.",
        )
    if not same_grid(shape, volume.affine, wanted, image.affine):
        raise InputError(
            ErrorCode.GRID_MISMATCH,
            f"{what} lies at another place than the image: give it on the image's own grid.",
        )


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
