"""What the handlers of explanations, estimates and evaluations share: the inputs of methods."""

from __future__ import annotations

from SaliencyExplain.engine.queue.engine_context import EngineContext
from SaliencyExplain.engine.queue.method_choices import chosen_methods
from SaliencyExplain.engine.queue.volume_images import image_of, segmentation_of
from SaliencyExplain.engine.wire.requests import ExplainRequest
from SaliencyExplain.question import Given


def check_explain_request(request: ExplainRequest, context: EngineContext) -> None:
    """Refuses an explanation that cannot be computed.

    Raises:
        InputError: Its classifier is not open, or a method, parameter or precision is unknown.
    """
    context.classifiers.get(request.classifier)
    chosen_methods(request.methods)
    context.compute_with(request.precision)


def volumes_to_explain(request: ExplainRequest) -> set[str]:
    """Hashes of the image, the segments and the backgrounds."""
    segments = [request.segments] if request.segments is not None else []
    return {request.volume, *request.backgrounds, *segments}


def references_of(request: ExplainRequest, context: EngineContext, notes: list[str]) -> Given:
    """The segmentation and the backgrounds that a request names beside its image.

    Args:
        request: What was asked.
        context: Holds the volumes.
        notes: Told what was left out.

    Raises:
        InputError: The segments are not on the image's grid, or have no names.
    """
    segmentation = None
    if request.segments is not None:
        notes += request.segment_notes
        image, segments = context.volumes.get(request.volume), context.volumes.get(request.segments)
        segmentation = segmentation_of(request.segment_names, segments, image, notes)
    backgrounds = tuple(image_of(context.volumes.get(key)) for key in request.backgrounds)
    return Given(segmentation, backgrounds)
