"""The training itself: epochs, early stopping, and a checkpoint after each of them."""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn
from torch.nn import functional

from SaliencyExplain.errors import ClassifierError, DeviceMemoryError, ErrorCode, OutputError
from SaliencyExplain.images.image_writing import atomic_file
from SaliencyExplain.training.augmentation import Augmentation
from SaliencyExplain.training.descent import descend, scores_of
from SaliencyExplain.training.training_examples import Prepared
from SaliencyExplain.training.training_settings import Settings

#: A rate of which less is left moves nothing any more.
_LEAST_RATE = 1e-7


@dataclass(frozen=True)
class TrainingProgress:
    """Progress of a training.

    Attributes:
        stage: ``reading`` images, or ``learning``.
        done: Images read, or images learnt from in this epoch.
        total: Of as many.
        epoch: The running epoch, from 1; 0 while images are read.
        epochs: Epochs at most.
        figures: Those of the last epoch that is complete; empty before.
    """

    stage: str
    done: int
    total: int
    epoch: int = 0
    epochs: int = 0
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Material:
    """What a network learns from.

    Attributes:
        images: All images.
        labels: Index of each image's class, ``(N,)``.
        train: Places of the images to learn from.
        validation: Places of those that choose the epoch.
        classes: How many classes there are.
    """

    images: Prepared
    labels: NDArray[np.int64]
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    classes: int


class Training:
    """Trains a network, epoch by epoch.

    Everything random in an epoch comes from the seed and the epoch's number, so that a
    training that goes on from its checkpoint does what an unbroken one would have done.

    Args:
        network: Gives scores ``(B, K)``; trained in place, on the device where it is.
        material: What it learns from.
        settings: How.
        checkpoint: The file that is written after each epoch, and read where it exists.

    Attributes:
        history: Figures of each epoch: ``loss`` and ``accuracy`` of the images learnt from
            (augmented, while learning), ``validation_loss``, ``validation_accuracy``,
            ``learning_rate``.
        best: Index in the history of the epoch with the least validation loss.
    """

    def __init__(
        self, network: nn.Module, material: Material, settings: Settings, checkpoint: Path
    ) -> None:
        self.network = network
        self.material = material
        self.settings = settings
        self.checkpoint = checkpoint
        self.device = next(network.parameters()).device
        self.history: list[dict[str, float]] = []
        self.best = -1
        self._best_state: dict[str, Tensor] = {}
        self._optimiser = torch.optim.AdamW(network.parameters(), settings.learning_rate)
        self._schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self._optimiser, factor=0.5, patience=max(1, settings.patience // 3), min_lr=_LEAST_RATE
        )
        self._augmentation = Augmentation(
            settings.augment,
            len(material.images.shape) - 2,
            material.images.deviation(material.train),
        )
        weights = compute_class_weight(
            "balanced", classes=np.arange(material.classes), y=material.labels[material.train]
        )
        self._weights = torch.tensor(weights, dtype=torch.float32, device=self.device)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or the validation loss has not fallen for long enough."""
        epochs = len(self.history)
        waited = epochs - 1 - self.best
        return epochs >= self.settings.epochs or (epochs > 0 and waited >= self.settings.patience)

    def run(self, progress: Callable[[TrainingProgress], None]) -> None:
        """Trains until it is finished, and leaves the network as it was at its best, in eval mode.

        Args:
            progress: Told after each batch; may raise Cancelled.

        Raises:
            ClassifierError: The loss is not finite.
            DeviceMemoryError: The device's memory does not hold a batch.
            OutputError: The checkpoint cannot be written.
            Cancelled: Out of ``progress``; what is complete is in the checkpoint.
        """
        self._resume()
        while not self.finished:
            try:
                self._epoch(progress)
            except torch.OutOfMemoryError as error:
                raise DeviceMemoryError(
                    ErrorCode.MEMORY,
                    f"The memory of {self.device} does not hold a batch of "
                    f"{self.settings.batch_size} images. Choose a smaller --batch-size.",
                ) from error
            self._save()
        self.network.load_state_dict(self._best_state)
        self.network.eval()

    def _epoch(self, progress: Callable[[TrainingProgress], None]) -> None:
        number = len(self.history)
        seeds = np.random.SeedSequence([self.settings.seed, number]).generate_state(3)
        torch.manual_seed(int(seeds[0]))
        self._augmentation.seed(int(seeds[1]))
        order = self._order(np.random.default_rng(int(seeds[2])))
        rate = float(self._optimiser.param_groups[0]["lr"])
        self.network.train()
        right: list[int] = []
        total, done = 0.0, 0
        losses = descend(self._losses(order, right), self._optimiser)
        for loss, places in zip(losses, self._batches(order), strict=True):
            _check_finite(loss, number)
            total += loss * len(places)
            done += len(places)
            progress(
                TrainingProgress(
                    "learning",
                    done,
                    len(order),
                    number + 1,
                    self.settings.epochs,
                    self.history[-1] if self.history else {},
                )
            )
        validation_loss, validation_accuracy = self._validate()
        _check_finite(validation_loss, number)
        self._schedule.step(validation_loss)
        self.history.append(
            {
                "loss": total / len(order),
                "accuracy": sum(right) / len(order),
                "validation_loss": validation_loss,
                "validation_accuracy": validation_accuracy,
                "learning_rate": rate,
            }
        )
        if self.best < 0 or validation_loss < self.history[self.best]["validation_loss"]:
            self.best = number
            self._best_state = {
                name: value.detach().cpu().clone()
                for name, value in self.network.state_dict().items()
            }

    def _order(self, random: np.random.Generator) -> NDArray[np.int64]:
        train = self.material.train
        if self.settings.balance == "sampling":
            weights = self._weights.cpu().numpy()[self.material.labels[train]].astype(np.float64)
            order = random.choice(train, size=len(train), p=weights / weights.sum())
        else:
            order = random.permutation(train)
        # Batch normalisation has no variance in a batch of one; a different image is left out each
        # time.
        single = len(order) > 1 and len(order) % self.settings.batch_size == 1
        return order[:-1] if single else order

    def _batches(self, order: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        size = self.settings.batch_size
        return (order[start : start + size] for start in range(0, len(order), size))

    def _losses(self, order: NDArray[np.int64], right: list[int]) -> Iterator[Tensor]:
        for places in self._batches(order):
            images = self._augmentation(self.material.images.batch(places)).to(self.device)
            labels = self._labels(places)
            scores = self.network(images)
            right.append(int((scores.argmax(1) == labels).sum()))
            yield self._loss(scores, labels)

    def _labels(self, places: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(self.material.labels[places]).to(self.device)

    def _loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        weights = self._weights if self.settings.balance == "weights" else None
        return functional.cross_entropy(scores, labels, weight=weights)

    def _validate(self) -> tuple[float, float]:
        scores = self.scores(self.material.validation)
        labels = self._labels(self.material.validation)
        accuracy = float((scores.argmax(1) == labels).double().mean())
        return float(self._loss(scores, labels)), accuracy

    def scores(self, places: NDArray[np.int64]) -> Tensor:
        """Scores ``(N, K)`` of the images at these places, in eval mode."""
        self.network.eval()
        batches = self._batches(places)
        return scores_of(
            self.network, (self.material.images.batch(one).to(self.device) for one in batches)
        )

    def _save(self) -> None:
        state = {
            "network": self.network.state_dict(),
            "best_state": self._best_state,
            "best": self.best,
            "optimiser": self._optimiser.state_dict(),
            "schedule": self._schedule.state_dict(),
            "history": self.history,
        }
        # Into memory first: torch's writer does not report a full disk.
        content = io.BytesIO()
        torch.save(state, content)
        with atomic_file(self.checkpoint) as temporary:
            temporary.write_bytes(content.getbuffer())

    def _resume(self) -> None:
        if not self.checkpoint.is_file():
            return
        try:
            state: dict[str, Any] = torch.load(
                self.checkpoint, map_location="cpu", weights_only=True
            )
        except (RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
            raise OutputError(
                ErrorCode.FILE_DAMAGED,
                f"{self.checkpoint} is damaged. Delete its folder and train again.",
            ) from error
        self.network.load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._schedule.load_state_dict(state["schedule"])
        self._best_state = state["best_state"]
        self.best = state["best"]
        self.history = state["history"]


def _check_finite(loss: float, epoch: int) -> None:
    if not math.isfinite(loss):
        raise ClassifierError(
            ErrorCode.TRAINING_DIVERGED,
            f"The loss is no longer finite in epoch {epoch + 1}. Choose a lower --learning-rate.",
        )
