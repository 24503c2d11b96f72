"""The maps of the classes that a segmentation network gives, over a whole image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import sliding_window_inference
from numpy.typing import NDArray
from torch import Tensor

from SaliencyExplain.attribution.network.frozen_network import untouched
from SaliencyExplain.attribution.network.region_scores import VoxelScores
from SaliencyExplain.attribution.passes.batches import free_memory
from SaliencyExplain.confinement import lifted
from SaliencyExplain.errors import (
    Cancelled,
    ClassifierError,
    ErrorCode,
    InputError,
    SaliencyExplainError,
)
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.sliding_window import SlidingWindow
from SaliencyExplain.progress import Progress, may_stop, silent

#: Copies of the class maps that are made while windows are averaged.
_COPIES = 3

_BACKGROUND = "background"


@dataclass(frozen=True, eq=False)
class ClassMaps:
    """Scores of each class at each voxel of the network's grid.

    Attributes:
        scores: ``(K, *S')`` before the activation, float32 on the CPU.
        exclusive: Whether each voxel has one class, that of the highest score.
        threshold: Where not, the score above which a class is predicted.
    """

    scores: Tensor
    exclusive: bool
    threshold: float

    def region(self, index: int) -> NDArray[np.bool_]:
        """Where a class is predicted, ``(*S')``."""
        if self.exclusive:
            return np.asarray((self.scores.argmax(dim=0) == index).numpy())
        return np.asarray((self.scores[index] > self.threshold).numpy())

    def counts(self) -> list[int]:
        """Predicted voxels of each class."""
        count = len(self.scores)
        if self.exclusive:
            return torch.bincount(self.scores.argmax(dim=0).flatten(), minlength=count).tolist()
        return [int((one > self.threshold).sum()) for one in self.scores]

    def class_at(self, voxel: tuple[int, ...]) -> int | None:
        """The class that is predicted at a voxel; None where no class is."""
        scores = self.scores.movedim(0, -1)[voxel]
        best = int(scores.argmax())
        return best if self.exclusive or float(scores[best]) > self.threshold else None


def class_maps(
    classifier: Classifier, prepared: MetaTensor, progress: Progress = silent
) -> ClassMaps:
    """Runs a segmentation network over a whole image, window by window.

    Equal to MONAI's ``sliding_window_inference`` of the network's output. Can be stopped between
    windows (:func:`SaliencyExplain.progress.may_stop`).

    Args:
        classifier: A segmentation network, on the device where it is to run.
        prepared: ``(C, *S')``, as ``classifier.prepare`` gave it.
        progress: Told of windows done and to do; may raise Cancelled.

    Raises:
        InputError: The network cannot take such an image, or the memory does not hold the maps.
        ClassifierError: The network gives no maps or values that are not finite.
    """
    network, windows = VoxelScores(classifier.network).eval(), classifier.windows
    if windows is None:
        raise TypeError(f"{classifier.name} does not segment")
    values, device = prepared.as_tensor()[None], classifier.device
    shape = tuple(values.shape[2:])
    needed = 4 * len(classifier.classes) * values[0, 0].numel() * _COPIES
    free = free_memory(torch.device("cpu"))
    if needed > free:
        raise InputError(
            ErrorCode.MEMORY,
            f"The maps of {len(classifier.classes)} classes at {_edges(shape)} voxels need "
            f"{needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free. Crop the image.",
        )

    total = _window_count(windows, shape)
    done = 0
    tell = lifted(progress)

    def scores_of(images: Tensor) -> Tensor:
        nonlocal done
        may_stop()
        tell(float(done), float(total))
        done += 1
        found: Tensor = network(images.to(device)).float().cpu()
        if found.shape[2:] != images.shape[2:]:
            raise ClassifierError(
                ErrorCode.MODEL_OUTPUT,
                f"The network of {classifier.name} gives maps of {_edges(found.shape[2:])} voxels "
                f"for {_edges(images.shape[2:])}, not at the resolution of the image.",
            )
        return found

    try:
        with classifier.confined(), torch.no_grad(), untouched(network):
            if windows.size is None:
                scores = scores_of(values)
            else:
                scores = sliding_window_inference(
                    values,
                    windows.of_prediction(shape),
                    1,
                    scores_of,
                    overlap=windows.overlap,
                    mode=windows.mode,
                    sigma_scale=windows.sigma_scale,
                    padding_mode=windows.padding_mode,
                    cval=windows.cval,
                )
    except (SaliencyExplainError, Cancelled, torch.OutOfMemoryError):
        raise
    except (RuntimeError, ValueError, AssertionError, IndexError) as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            ErrorCode.MODEL_INPUT,
            f"The network of {classifier.name} cannot take an image of {_edges(shape)} voxels: "
            f"{line[:300]}",
        ) from error
    if not bool(torch.isfinite(scores).all()):
        raise ClassifierError(
            ErrorCode.MODEL_NOT_FINITE,
            "The network's scores on this image are not finite: "
            "check the intensity preprocessing and the weights.",
        )
    scored = classifier.network
    return ClassMaps(
        scores[0],
        exclusive=not scored.independent,
        threshold=0.5 if scored.activation == "none" else 0.0,
    )


def _window_count(windows: SlidingWindow, shape: tuple[int, ...]) -> int:
    """How many windows MONAI lays over an image."""
    count = 1
    for whole, edge in zip(shape, windows.of_prediction(shape), strict=True):
        step = max(1, int(edge * (1 - windows.overlap)))
        count *= 1 + max(0, -(-(whole - edge) // step))
    return count


def foreground(classifier: Classifier) -> list[int]:
    """The classes without the background.

    Where each voxel has one class, the background is the first; where several may be true, it is
    the class of that name.
    """
    names = [name.lower() for name in classifier.classes]
    if _BACKGROUND in names:
        return [index for index, name in enumerate(names) if name != _BACKGROUND]
    return list(range(0 if classifier.network.independent else 1, len(names)))


def _edges(shape: tuple[int, ...] | torch.Size) -> str:
    return "x".join(map(str, shape))
