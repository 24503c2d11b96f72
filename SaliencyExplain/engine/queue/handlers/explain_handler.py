"""Attributions of a volume."""

from __future__ import annotations

import dataclasses

from SaliencyExplain.attribution.method_selection import chosen_methods
from SaliencyExplain.attribution.registry import methods
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
from SaliencyExplain.engine.wire.results import ExplainResult, MapResult
from SaliencyExplain.engine.wire.wire_volumes import Volume
from SaliencyExplain.explanation.computed_maps import Attribution
from SaliencyExplain.explanation.explain import explain
from SaliencyExplain.explanation.prepared_case import prepare


class ExplainHandler(Handler[ExplainRequest, ExplainResult], answers=ExplainRequest):
    """Computes attributions, and shows partial ones on the way."""

    def check(self, request: ExplainRequest) -> None:
        """Refuses a classifier that is not open, and unknown methods."""
        check_explain_request(request, self.context)

    def volumes(self, request: ExplainRequest) -> set[str]:
        """The image, the segments and the backgrounds."""
        return volumes_to_explain(request)

    def run(self, request: ExplainRequest, reporter: Reporter) -> ExplainResult:
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
        partial_maps: dict[str, MapResult] = {}

        def show(attribution: Attribution, share: float) -> None:
            reporter.check()
            result = maps.keep(dataclasses.replace(attribution, share_done=share))
            partial_maps[result.label] = result
            maps.publish(
                ExplainResult(
                    classes=classifier.classes,
                    probabilities=probabilities,
                    target=attribution.target,
                    maps=tuple(partial_maps.values()),
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
        )
        explanation = explain(
            case, chosen, seed=spec.seed, progress=reporter.progress, publish=show
        )
        result = ExplainResult(
            classes=explanation.classes,
            probabilities=explanation.probabilities,
            target=explanation.target,
            maps=tuple(map(maps.keep, explanation.attributions)),
            notes=(*notes, *classifier.notes, *explanation.notes),
            timings=explanation.timings,
            failures=explanation.failures,
        )
        context.predictions.put(request.classifier, request.volume, result.probabilities)
        return result

    def kept_volumes(self, result: ExplainResult) -> set[str]:
        """The maps."""
        return {map_.volume for map_ in result.maps}


class _KeptMaps:
    """The volumes of a job's maps, held for as long as someone may fetch them."""

    def __init__(self, volumes: VolumeStore, reporter: Reporter) -> None:
        self._volumes = volumes
        self._reporter = reporter
        self._holds = reporter.job.holds
        self._inputs = set(self._holds)
        self._last: set[str] = set()

    def keep(self, attribution: Attribution) -> MapResult:
        """Keeps a map for as long as the job is listed."""
        volume = Volume(attribution.values, attribution.affine)
        key = self._volumes.put(volume, copied=False, beyond=True)
        if key not in self._holds:
            self._volumes.hold([key])
            self._holds.add(key)
        return MapResult(
            label=attribution.label,
            title=methods()[attribution.method].title,
            method=attribution.method,
            layer=attribution.layer,
            signed=attribution.signed,
            target_name=attribution.target_name,
            volume=key,
            parameters=attribution.parameters,
            provenance=attribution.provenance,
            seconds=attribution.seconds,
            share_done=attribution.share_done,
        )

    def publish(self, partial: ExplainResult) -> None:
        """Shows a partial result; the one before it stays for those who fetch it just now."""
        now = {map_.volume for map_ in partial.maps}
        old = self._holds - self._inputs - self._last - now
        self._volumes.release(old)
        self._holds -= old
        self._last = now
        self._reporter.publish(partial)
