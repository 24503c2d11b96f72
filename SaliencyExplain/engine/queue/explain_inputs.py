"""The inputs of methods, for the handlers of explanations, estimates and evaluations."""

from __future__ import annotations

from SaliencyExplain.attribution.method_selection import chosen_methods
from SaliencyExplain.engine.queue.engine_context import EngineContext
from SaliencyExplain.engine.queue.volume_images import image_of, segmentation_of
from SaliencyExplain.engine.wire.requests import ExplainRequest
from SaliencyExplain.explanation.loaded_references import LoadedReferences


def check_explain_request(request: ExplainRequest, context: EngineContext) -> None:
    """Refuses an explanation that cannot be computed.

    Raises:
        InputError: Its classifier is not open, or a method or parameter is unknown.
    """
    context.classifiers.get(request.classifier)
    chosen_methods(request.spec.methods)


def volumes_to_explain(request: ExplainRequest) -> set[str]:
    """Hashes of the image, the segments and the backgrounds."""
    references = request.spec.references
    segments = [references.segmentation] if references.segmentation is not None else []
    return {request.volume, *references.backgrounds, *segments}


def references_of(
    request: ExplainRequest, context: EngineContext, notes: list[str]
) -> LoadedReferences:
    """The segmentation and the backgrounds of a request.

    Args:
        request: What was asked.
        context: Holds the volumes.
        notes: Receives notes on what was left out.

    Raises:
        InputError: The segments are not on the image's grid, or have no names.
    """
    references, held, segmentation = request.spec.references, context.volumes, None
    if references.segmentation is not None:
        notes += references.segment_notes
        image, segments = held.get(request.volume), held.get(references.segmentation)
        segmentation = segmentation_of(references.segment_names, segments, image, notes)
    backgrounds = tuple(image_of(held.get(key)) for key in references.backgrounds)
    return LoadedReferences(segmentation, backgrounds)
