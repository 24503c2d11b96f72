"""Forward passes of an evaluation: counted, told, run in batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from SaliencyExplain.attribution.network.frozen_network import untouched
from SaliencyExplain.attribution.passes.batches import in_batches
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.progress import Progress, silent


class Work:
    """Converts the progress of parts of a computation to that of the whole.

    Args:
        total: Estimated forward passes of the whole.
        progress: Called with forward passes done and total; may raise Cancelled.

    Attributes:
        spent: Forward passes of the finished parts.
    """

    def __init__(self, total: float, progress: Progress = silent) -> None:
        self._total = total
        self._progress = progress
        self.spent = 0.0

    @contextmanager
    def part(self, passes: float) -> Iterator[Progress]:
        """The progress callback of a part that costs ``passes`` forward passes."""

        def tell(done: float, of: float) -> None:
            share = min(1.0, done / of) if of > 0 else 1.0
            self._progress(min(self.spent + passes * share, self._total), self._total)

        yield tell
        self.spent += passes
        tell(0, 1)


def probabilities_of_images(
    task: Task, count: int, build: Callable[[int], Tensor], progress: Progress = silent
) -> NDArray[np.float64]:
    """Class probabilities of changed images, in batches that fit the memory.

    Args:
        task: The network and the image.
        count: How many images.
        build: Returns the image ``(C, *S)`` of an index on the task's device; it may be called
            again for the same index.
        progress: Called after each batch; may raise Cancelled.

    Returns:
        ``(count, K)`` in [0, 1].

    Raises:
        DeviceMemoryError: Memory is exhausted with a single image.
        Cancelled: Out of ``progress``.
    """
    network = task.network

    def compute(indices: range) -> Tensor:
        images = torch.stack([build(index) for index in indices])
        return network.probabilities(network(images).double()).cpu()

    found: list[Tensor] = []
    told = dataclasses.replace(task, progress=progress)
    with untouched(network), torch.no_grad():
        for _, probabilities in in_batches(
            told, count, _without_gradient(compute), gradient=False, total=float(count)
        ):
            found.append(probabilities)
    return torch.cat(found).numpy() if found else np.zeros((0, 0))


def _without_gradient(compute: Callable[[range], Tensor]) -> Callable[[range], Tensor]:
    """Disables gradients, which batches enable for methods and plain passes do not need."""

    def quietly(indices: range) -> Tensor:
        with torch.no_grad():
            return compute(indices)

    return quietly
