"""What all methods have in common: the prepared image, its prediction, the class, the cost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from torch import Tensor

from SaliencyExplain.attribution.method import Method, Task
from SaliencyExplain.attribution.network import ScoreNetwork
from SaliencyExplain.classifiers.classifier import Classifier
from SaliencyExplain.errors import ClassifierError, DeviceMemoryError, InputError
from SaliencyExplain.images.grids import spacing_of

#: Share of the network's input inside the image below which a note warns of it: of a brain
#: on a grid made for brains more than half is.
_LITTLE_INSIDE = 0.1


@dataclass(frozen=True)
class Estimate:
    """What an explanation will cost, known before it starts.

    Attributes:
        forward_passes: Of one image, a backward pass counted as its equal in time.
        seconds: From the time of the forward pass that made the prediction; batches
            and incremental methods can be faster.
    """

    forward_passes: float
    seconds: float


def choose_device(name: str) -> torch.device:
    """The device of that name: ``auto`` (a GPU where there is one), ``cpu``, ``cuda:N``.

    Raises:
        InputError: There is no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    kind, _, index = name.partition(":")
    if kind != "cuda" or (index and not index.isdigit()):
        raise InputError(f"Device '{name}' is unknown: use auto, cpu or cuda:N.")
    count = torch.cuda.device_count()
    if int(index or 0) >= count:
        have = f"it has {count} GPU(s)" if count else "torch finds no GPU on it"
        raise InputError(f"Device '{name}' is not on this machine: {have}. Use auto or cpu.")
    return torch.device(kind, int(index or 0))


@dataclass
class Question:
    """An image brought before a classifier, and the class that is asked about.

    A GPU whose memory does not hold a single image is left for the CPU, with a note.

    Args:
        image: ``(C, *S)`` with its affine, channels in the classifier's order.
        classifier: What is asked.
        wanted: Name or index of a class, or ``predicted``.
        device: Where it is computed first.

    Attributes:
        notes: What a user should be told aloud; grows.
        prepared: The network's input, ``(C, *S')``.
        probabilities: One for each class, in [0, 1].
        target: Index of the class.
        timings: Seconds by step; grows.

    Raises:
        InputError: The image or the class does not fit.
        ClassifierError: The network fails on the image.
        DeviceMemoryError: The CPU's memory does not hold a single image.
    """

    image: MetaTensor
    classifier: Classifier
    wanted: str
    device: torch.device

    def __post_init__(self) -> None:
        started = time.perf_counter()
        self.notes: list[str] = list(self.image.meta.get("notes", []))
        self.prepared = self.classifier.prepare(self.image)
        inside = self.classifier.share_inside(self.prepared, self.image)
        if inside < _LITTLE_INSIDE:
            self.notes.append(
                f"Only {percent(inside)} of the network's input lie inside the image, the rest "
                "is padding: is its voxel size right, and is it of the kind that the classifier "
                "was made for?"
            )
        self.timings = {"prepare": time.perf_counter() - started}
        started = time.perf_counter()
        try:
            self.probabilities = class_probabilities(self.classifier, self.prepared, self.device)
        except DeviceMemoryError as error:
            self.move_to_cpu(error)
            self.probabilities = class_probabilities(self.classifier, self.prepared, self.device)
        self.timings["predict"] = time.perf_counter() - started
        self.target = self.classifier.class_index(self.wanted, self.probabilities)

    def move_to_cpu(self, error: DeviceMemoryError, method: str = "") -> None:
        """Goes on after a GPU's memory was exhausted; raises the error if it was the CPU's."""
        if self.device.type == "cpu":
            raise error
        self.notes.append(f"{method}{error} Computed on the CPU instead.")
        self.device = torch.device("cpu")
        self.classifier.to(self.device)

    def task(self, seed: int = 0) -> Task:
        """The question as methods take it."""
        values = self.prepared.as_tensor().unsqueeze(0)
        return Task(
            network=self.classifier.network,
            input=values.to(device=self.device, dtype=torch.float32),
            target=self.target,
            spacing=spacing_of(self.prepared.affine, self.prepared.ndim - 1),
            seed=seed,
        )

    def costs(self, methods: Sequence[Method]) -> list[Estimate]:
        """What each method costs, by the time of the forward pass that made the prediction."""
        task = self.task()
        passes = [method.forward_passes(task) for method in methods]
        return [Estimate(count, count * self.timings["predict"]) for count in passes]


def class_probabilities(
    classifier: Classifier, prepared: MetaTensor, device: torch.device
) -> NDArray[np.float64]:
    """Class probabilities of a prepared image on a device, ``(K,)`` in [0, 1].

    Raises:
        InputError: The network cannot take an input of this size.
        ClassifierError: The network fails, or its scores are not finite.
        DeviceMemoryError: The device's memory does not hold the image.
    """
    try:
        scores = classifier.to(device).scores(prepared)
    except torch.OutOfMemoryError as error:
        raise DeviceMemoryError(f"The memory of {device} does not hold one image.") from error
    return probabilities_of(classifier.network, scores[None])[0]


def probabilities_of(network: ScoreNetwork, scores: Tensor) -> NDArray[np.float64]:
    """Probabilities ``(B, K)`` in [0, 1] from scores ``(B, K)``.

    Raises:
        ClassifierError: The scores are not finite.
    """
    probabilities = network.probabilities(scores.double()).cpu().numpy()
    if not np.isfinite(probabilities).all():
        raise ClassifierError(
            "The network's scores on this image are not finite: "
            "check the intensity preprocessing and the weights."
        )
    return probabilities


def percent(share: float) -> str:
    """A share in whole per cent; a small one is not called nothing, nor a large one all."""
    if 0.995 <= share < 1:
        return "99 %"
    return f"{100 * share:.0f} %" if share >= 0.01 else "less than 1 %"
