"""Class probabilities of a volume."""

from __future__ import annotations

import dataclasses

from SaliencyExplain.engine.queue.handlers.handler import Handler
from SaliencyExplain.engine.queue.job_queue import Reporter
from SaliencyExplain.engine.queue.volume_images import image_of
from SaliencyExplain.engine.wire.requests import PredictRequest
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.results.class_prediction import Prediction


class PredictHandler(Handler[PredictRequest, Prediction], answers=PredictRequest):
    """Computes the class probabilities of a volume."""

    def check(self, request: PredictRequest) -> None:
        """Refuses a classifier that is not open."""
        self.context.classifiers.get(request.classifier)

    def volumes(self, request: PredictRequest) -> set[str]:
        """The image."""
        return {request.volume}

    def run(self, request: PredictRequest, reporter: Reporter) -> Prediction:
        """Predicts, and keeps the probabilities for later explanations."""
        reporter.doing("predicts")
        classifier = self.context.classifiers.get(request.classifier).twin
        image = image_of(self.context.volumes.get(request.volume))
        case = prepare(image, classifier, compute=self.context.compute)
        found = case.prediction
        self.context.predictions.put(request.classifier, request.volume, found.probabilities)
        return dataclasses.replace(found, notes=(*classifier.notes, *case.notes))
