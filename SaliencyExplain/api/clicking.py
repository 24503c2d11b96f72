"""``probe``: what a place of an image contributes to the probability of each class."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

from SaliencyExplain.api.argument_checks import number_of, numbers_of
from SaliencyExplain.api.model_arguments import model_of
from SaliencyExplain.api.segmentation_arguments import segmentation_on
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.explanation.compute import Compute
from SaliencyExplain.explanation.loaded_references import LoadedReferences
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.explanation.probing import Prober
from SaliencyExplain.images.segmentation import Segment
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.inputs import input_of
from SaliencyExplain.probe_result import Probe
from SaliencyExplain.specification.spec_fields import spec_of
from SaliencyExplain.specification.target import Target


def probe(
    image: Any,
    model: Classifier | str | PathLike[str],
    *,
    at: Sequence[float] | None = None,
    radii_mm: Sequence[float] | float = (4.0, 8.0, 16.0),
    segmentation: Any = None,
    segment: str | None = None,
    target: Target | str = "predicted",
    roi: str = "",
    roi_size_mm: float | None = None,
    roi_margin_mm: float = 0.0,
    fill: str = "mean",
    value: float = 0.0,
    blur_mm: float = 0.0,
    channel: str | None = None,
    device: str = "auto",
    memory: float | str | None = None,
    batch_size: int | None = None,
    series: str | None = None,
) -> Probe:
    """Every class's probability with a place and without it.

    Args:
        image: As in :func:`explain`.
        model: As there.
        at: The place: right, anterior, superior in mm.
        radii_mm: Radii of the balls around it that are removed, or a single radius.
        segmentation: As in :func:`compare`, to remove a whole segment instead.
        segment: Name of the segment, where there are several.
        target: Of a segmentation network whose region or point is asked for, as in
            :func:`explain`; a classifier is asked for all classes.
        roi: As in :func:`explain`, as the two that follow.
        roi_size_mm: As there.
        roi_margin_mm: As there.
        fill: What stands in the place: ``mean``, ``minimum``, ``value``, ``blur``, ``noise`` or
            ``inpaint``.
        value: The constant for ``fill="value"``, in the units of the prepared input.
        blur_mm: Standard deviation for ``fill="blur"``; 0: a sixteenth of the longest side.
        channel: Name of the one channel that is replaced; None: all of them.
        device: As in :func:`explain`.
        memory: As there.
        batch_size: As there.
        series: As there.

    Returns:
        The probabilities before and without each ball, or without the segment.

    Raises:
        InputError: No place or two kinds of place are named, it lies outside of the image, or an
            argument is of the wrong type.

    Example:
        >>> import SaliencyExplain as se
        >>> phantom = se.draw_phantom("glioma-like", seed=3, dimensions=2)
        >>> found = se.probe(
        ...     phantom.image, "demo:phantom-2d-honest", segmentation=phantom.masks
        ... )
        >>> tumour = found.classes.index("glioma-like")
        >>> bool(found.before[tumour] > 0.9 > 0.5 > found.removals[0].probabilities[tumour])
        True
    """
    if (at is None) == (segmentation is None):
        raise InputError(
            ErrorCode.OPTION_MISSING if at is None else ErrorCode.OPTION_CONFLICT,
            "Name one place: at=(right, anterior, superior) in mm, or a segmentation.",
        )
    place = None if at is None else numbers_of("at", at, "three numbers in mm")
    radii = numbers_of("radii_mm", radii_mm, "a number or a list of numbers in mm")
    constant, deviation = number_of("value", value), number_of("blur_mm", blur_mm)
    opened = model_of(model)
    read = input_of(opened, image, series=series)
    wanted = None if segmentation is None else _segment(segmentation, segment, read)
    segments = None if segmentation is None else segmentation_on(segmentation, read)[0]
    references = LoadedReferences(segments)
    spec = spec_of(
        memory=memory,
        batch_size=batch_size,
        roi=roi,
        roi_size_mm=roi_size_mm,
        roi_margin_mm=roi_margin_mm,
    )
    prober = Prober(
        prepare(
            read, opened, target, Compute(device, spec.limits), references, of_interest=spec.region
        ),
        fill=fill,
        value=constant,
        blur_mm=deviation,
        channel=channel,
    )
    if wanted is not None:
        return prober.segment(wanted.mask, wanted.name)
    return prober.at(place or (), radii)


def _segment(segmentation: Any, name: str | None, image: Any) -> Segment:
    found, notes = segmentation_on(segmentation, image)
    if found is None:
        raise InputError(ErrorCode.SEGMENTATION_EMPTY, f"The segmentation: {'; '.join(notes)}.")
    if name is not None:
        return found.find(name)
    if len(found.segments) > 1:
        names = ", ".join(one.name for one in found.segments)
        raise InputError(ErrorCode.OPTION_MISSING, f"Name one segment (segment=...): {names}.")
    return found.segments[0]
