"""Scores of images that differ from one image in a window."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from SaliencyExplain.attribution.incremental.boxes import Boxes, Integers
from SaliencyExplain.attribution.incremental.engine import Run, Schedule
from SaliencyExplain.attribution.incremental.folding import fold
from SaliencyExplain.attribution.incremental.operations import Step
from SaliencyExplain.attribution.incremental.tracing import NotTraceable, trace
from SaliencyExplain.attribution.network import ScoreNetwork

_CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}


class IncrementalInference:
    """A network that has seen an image and tells what a change of a window does.

    Holds for the network as it is now: whoever changes its weights makes a new one.

    Args:
        network: The network, in eval mode.
        image: The unchanged image, ``(1, C, *S)``.
        window: Voxels per axis of the windows.
        starts: First voxels of the windows, one tuple per axis.
        memory: Bytes that the maps of the unchanged image may take.

    Raises:
        NotTraceable: The network cannot be taken apart, or the memory does not suffice.
    """

    def __init__(
        self,
        network: ScoreNetwork,
        image: Tensor,
        window: tuple[int, ...],
        starts: tuple[tuple[int, ...], ...],
        memory: float = math.inf,
    ) -> None:
        self._network = network
        self._format = _CHANNELS_LAST[image.ndim - 2]
        steps = fold(trace(network.network, image), self._format)
        self._schedule = Schedule(steps, window, starts)
        need = sum(math.prod(step.shape) for step in self._schedule.kept) * image.element_size()
        if need > memory:
            raise NotTraceable(f"{need / 2**20:.0f} MiB for the maps of the image are not free")
        self._kept: dict[Step, Tensor] = {}
        whole = {step: Boxes.whole(1, step.size) for step in steps if step.is_map}
        with torch.no_grad():
            run = Run(self._schedule, whole, 1, self._kept, self._format, keep=True)
            self.scores_unchanged = self._finish(
                run.scores(image.contiguous(memory_format=self._format)), 1
            )

    def scores(self, windows: Integers, contents: Tensor) -> Tensor:
        """Scores ``(batch, K)`` of the image with these windows replaced.

        Args:
            windows: For each image the index of its window's start along each axis,
                ``(batch, axes)``.
            contents: What is put there, ``(batch, C, *window)``.
        """
        boxes = self._schedule.boxes(windows)
        with torch.no_grad():
            run = Run(self._schedule, boxes, len(windows), self._kept, self._format)
            return self._finish(
                run.scores(contents.contiguous(memory_format=self._format)), len(windows)
            )

    def share(self, windows: Integers) -> float:
        """Multiplications for these windows, as a share of those for whole images."""
        # Every tenth or so: windows beside each other differ little.
        some = windows[:: max(1, len(windows) // 50)]
        return float(np.mean([self._schedule.share(window[None]) for window in some]))

    def ranks(self, windows: Integers) -> Integers:
        """An order of windows in which those beside each other have boxes alike.

        Along each axis the starts are ranked by how far they reach; then the windows
        follow a Z-curve (Morton 1966) through these ranks, so that a batch of eight is
        two by two by two ranks wide and its largest box little larger than the others.
        """
        ranks = [
            np.argsort(np.argsort(self._schedule.extent(axis), kind="stable"))[windows[:, axis]]
            for axis in range(windows.shape[1])
        ]
        code = np.zeros(len(windows), dtype=np.int64)
        for bit in range(20):
            for axis, rank in enumerate(ranks):
                code |= ((rank >> bit) & 1) << (bit * len(ranks) + axis)
        return np.argsort(code, kind="stable")

    def _finish(self, scores: Tensor, count: int) -> Tensor:
        return self._network.checked(scores, count)
