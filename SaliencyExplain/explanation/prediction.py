"""A classifier's scores and probabilities of a prepared image, on a device."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from torch import Tensor

from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.errors import ClassifierError, DeviceMemoryError, ErrorCode
from SaliencyExplain.explanation.compute import choose_device
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.results.class_prediction import Prediction


def predict(image: MetaTensor, classifier: Classifier, *, device: str = "auto") -> Prediction:
    """The class probabilities of an image.

    Raises:
        InputError: The image or device does not fit, or it is a segmentation network.
        ClassifierError: The network fails, or its scores are not finite.
        DeviceMemoryError: The device's memory does not hold the image.
    """
    classifier.check_classifies()
    return predict_input(classifier, classifier.prepare(image), choose_device(device))


def predict_input(classifier: Classifier, prepared: MetaTensor, device: torch.device) -> Prediction:
    """The class probabilities of an image that ``classifier.prepare`` gave.

    What the scores depend on beside the image is found out first, once for a classifier.

    Args:
        classifier: Is moved to the device.
        prepared: ``(C, *S')``.
        device: Where it is computed.

    Raises:
        InputError: The network cannot take an input of this size.
        ClassifierError: The network fails, gives the image another score each time, or its
            scores are not finite.
        DeviceMemoryError: The device's memory does not hold the image.
    """
    with one_image_on(device):
        classifier.to(device).examine(prepared)
    started = time.perf_counter()
    with one_image_on(device):
        scores = classifier.to(device).scores(prepared)
    probabilities = probabilities_of(classifier.network, scores[None])[0]
    return Prediction(
        classes=classifier.classes,
        probabilities=tuple(probabilities.tolist()),
        scores=tuple(scores.double().cpu().tolist()),
        seconds=time.perf_counter() - started,
    )


@contextmanager
def one_image_on(device: torch.device) -> Iterator[None]:
    """Raises DeviceMemoryError where the device's memory does not hold one image."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DeviceMemoryError(
            ErrorCode.MEMORY, f"The memory of {device} does not hold one image."
        ) from error


def probabilities_of(network: ScoreNetwork, scores: Tensor) -> NDArray[np.float64]:
    """Probabilities ``(B, K)`` in [0, 1] from scores ``(B, K)``.

    Raises:
        ClassifierError: The scores are not finite.
    """
    probabilities = network.probabilities(scores.double()).cpu().numpy()
    if not np.isfinite(probabilities).all():
        raise ClassifierError(
            ErrorCode.MODEL_NOT_FINITE,
            "The network's scores on this image are not finite: "
            "check the intensity preprocessing and the weights.",
        )
    return probabilities
