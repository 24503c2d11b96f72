"""Attributions of a volume."""

from __future__ import annotations

import dataclasses

from SaliencyExplain.attribution.method_selection import chosen_methods
from SaliencyExplain.engine.queue.cache import VolumeStore
from SaliencyExplain.engine.queue.explain_inputs import (
    check_explain_request,
    references_of,
    volumes_to_explain,
)
from SaliencyExplain.engine.queue.handlers.handler import Handler
from SaliencyExplain.engine.queue.job_queue import Reporter
from SaliencyExplain.engine.queue.volume_images import image_of
from SaliencyExplain.engine.wire.requests import ExplainRequest
from SaliencyExplain.explanation.explain import explain
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.results.attribution_map import Attribution
from SaliencyExplain.results.image_explanation import Explanation


class ExplainHandler(Handler[ExplainRequest, Explanation], answers=ExplainRequest):
    """Computes attributions, and shows partial ones on the way."""

    def check(self, request: ExplainRequest) -> None:
        """Refuses a classifier that is not open, and unknown methods."""
        check_explain_request(request, self.context)

    def volumes(self, request: ExplainRequest) -> set[str]:
        """The image, the segments and the backgrounds."""
        return volumes_to_explain(request)

    def run(self, request: ExplainRequest, reporter: Reporter) -> Explanation:
        """Computes the maps and keeps them as volumes."""
        context, spec = self.context, request.spec
        notes: list[str] = []
        image = context.volumes.get(request.volume)
        references = references_of(request, context, notes)
        context.prober.free_gpu_memory()
        classifier = context.classifiers.get(request.classifier).classifier
        # For the partial results: the explanation gives its own at its end.
        probabilities = context.predictions.get(request.classifier, request.volume)
        chosen = chosen_methods(spec.methods)
        reporter.doing(f"computes {', '.join(method.title for method in chosen)}")
        maps = _KeptMaps(context.volumes, reporter)
        partial_maps: dict[str, Attribution] = {}

        def show(attribution: Attribution, share: float) -> None:
            reporter.check()
            maps.keep(attribution)
            partial_maps[attribution.label] = attribution
            maps.publish(
                Explanation(
                    classes=classifier.classes,
                    probabilities=probabilities,
                    target=attribution.target,
                    target_name=attribution.target_name,
                    attributions=tuple(partial_maps.values()),
                    notes=(),
                    timings={},
                )
            )

        case = prepare(
            image_of(image, request.image_name),
            classifier,
            spec.target,
            context.compute_within(spec.limits),
            references,
            of_interest=spec.region,
        )
        explanation = explain(
            case, chosen, seed=spec.seed, progress=reporter.progress, publish=show
        )
        for attribution in explanation.attributions:
            maps.keep(attribution)
        notes += [*classifier.notes, *explanation.notes]
        context.predictions.put(request.classifier, request.volume, explanation.probabilities)
        return dataclasses.replace(explanation, notes=tuple(notes))

    def kept_volumes(self, result: Explanation) -> set[str]:
        """The maps."""
        return {one.volume.hash for one in result.attributions}


class _KeptMaps:
    """The volumes of a job's maps, held for as long as clients may fetch them."""

    def __init__(self, volumes: VolumeStore, reporter: Reporter) -> None:
        self._volumes = volumes
        self._reporter = reporter
        self._holds = reporter.job.holds
        self._inputs = set(self._holds)
        self._last: set[str] = set()

    def keep(self, attribution: Attribution) -> None:
        """Keeps a map for as long as the job is listed."""
        key = self._volumes.put(attribution.volume, copied=False, beyond=True)
        if key not in self._holds:
            self._volumes.hold([key])
            self._holds.add(key)

    def publish(self, partial: Explanation) -> None:
        """Publishes a partial result; the previous one stays for clients that are fetching it."""
        now = {one.volume.hash for one in partial.attributions}
        old = self._holds - self._inputs - self._last - now
        self._volumes.release(old)
        self._holds -= old
        self._last = now
        self._reporter.publish(partial)
