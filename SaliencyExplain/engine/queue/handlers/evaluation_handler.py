"""The evaluation of maps: faithfulness, weights, stability, overlap with segments."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Iterator

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.attribution.method_selection import chosen_methods
from SaliencyExplain.engine.queue.explain_inputs import (
    check_explain_request,
    references_of,
    volumes_to_explain,
)
from SaliencyExplain.engine.queue.handlers.handler import Handler
from SaliencyExplain.engine.queue.job_queue import Reporter
from SaliencyExplain.engine.queue.volume_images import image_of
from SaliencyExplain.engine.wire.requests import EvaluationRequest
from SaliencyExplain.engine.wire.results import EvaluationResult
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.evaluation.image.map_evaluation import evaluate_maps
from SaliencyExplain.evaluation.image.trust_card import card_png
from SaliencyExplain.explanation.loaded_references import (
    LoadedReferences,
    reference_hashes,
    uses_reference,
)
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.images.image_hash import voxel_hash


class EvaluationHandler(Handler[EvaluationRequest, EvaluationResult], answers=EvaluationRequest):
    """Evaluates the maps of an explanation against random maps, other weights and noise."""

    def check(self, request: EvaluationRequest) -> None:
        """Refuses the requests for which the explanation would be refused."""
        check_explain_request(request.explain, self.context)

    def volumes(self, request: EvaluationRequest) -> set[str]:
        """The image, the segments and the backgrounds."""
        return volumes_to_explain(request.explain)

    def run(self, request: EvaluationRequest, reporter: Reporter) -> EvaluationResult:
        """Computes the maps again on the network's grid and evaluates them.

        Raises:
            InputError: The maps were computed from another volume, or with other segments or
                backgrounds.
        """
        context, asked, spec = self.context, request.explain, request.explain.spec
        notes: list[str] = []
        volume = context.volumes.get(asked.volume)
        references = references_of(asked, context, notes)
        context.prober.free_gpu_memory()
        classifier = context.classifiers.get(asked.classifier).classifier
        wanted = chosen_methods(spec.methods)
        reporter.doing(f"evaluates {', '.join(method.title for method in wanted)}")
        image = image_of(volume, asked.image_name)
        if request.image_sha256 not in ("", voxel_hash(image)):
            raise InputError(
                ErrorCode.MAP_OUTDATED,
                "The map was computed from other voxels than those given; give the volumes that "
                "it was computed from, or explain these anew.",
            )
        unknown = [
            note for method in wanted for note in _check_references(request, method, references)
        ]
        compute = context.compute_within(spec.limits)
        case = prepare(image, classifier, spec.target, compute, references, of_interest=spec.region)
        found = evaluate_maps(
            case,
            wanted,
            seed=spec.seed,
            budget=spec.limits.passes,
            progress=reporter.progress,
        )
        all_notes = (*notes, *classifier.notes, *unknown, *found.evaluation.notes)
        return EvaluationResult(
            dataclasses.replace(found.evaluation, notes=all_notes),
            {
                one.label: base64.b64encode(card_png(found, one)).decode("ascii")
                for one in found.evaluation.maps
            },
        )


def _check_references(
    request: EvaluationRequest, method: Method, references: LoadedReferences
) -> Iterator[str]:
    """Refuses to evaluate a map with other references than it was computed with.

    Yields:
        A note where the references that it was computed with are not recorded.
    """
    now = reference_hashes(references, method)
    for what, word, before in (
        ("segmentation", "segments", request.segments_sha256),
        ("backgrounds", "backgrounds", list(request.backgrounds_sha256)),
    ):
        if not uses_reference(method, what):
            continue
        if before and now.get(f"{word}_sha256") != before:
            raise InputError(
                ErrorCode.MAP_OUTDATED,
                f"{method.title}: the map was computed with other {word} than those given now; "
                "select those, or compute the map again.",
            )
        if not before:
            yield (
                f"{method.title}: the {word} of the map are not recorded; it was evaluated with "
                "those given now."
            )
