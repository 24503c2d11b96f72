"""Class probabilities of a volume."""

from __future__ import annotations

import time

from SaliencyExplain.engine.queue.handlers.handler import Handler
from SaliencyExplain.engine.queue.job_queue import Reporter
from SaliencyExplain.engine.queue.volume_images import image_of
from SaliencyExplain.engine.wire.requests import PredictRequest
from SaliencyExplain.engine.wire.results import PredictResult
from SaliencyExplain.question import Question


class PredictHandler(Handler[PredictRequest, PredictResult], answers=PredictRequest):
    """Computes the class probabilities of a volume."""

    def check(self, request: PredictRequest) -> None:
        """Refuses a classifier that is not open."""
        self.context.classifiers.get(request.classifier)

    def volumes(self, request: PredictRequest) -> set[str]:
        """The image."""
        return {request.volume}

    def run(self, request: PredictRequest, reporter: Reporter) -> PredictResult:
        """Predicts, and remembers the probabilities for later explanations."""
        reporter.doing("predicts")
        classifier = self.context.classifiers.get(request.classifier).twin
        image = image_of(self.context.volumes.get(request.volume))
        started = time.perf_counter()
        question = Question(image, classifier, "predicted", self.context.compute)
        result = PredictResult(
            classes=classifier.classes,
            probabilities=tuple(question.probabilities.tolist()),
            notes=(*classifier.notes, *question.notes),
            seconds=time.perf_counter() - started,
        )
        self.context.predictions.put(request.classifier, request.volume, result.probabilities)
        return result
