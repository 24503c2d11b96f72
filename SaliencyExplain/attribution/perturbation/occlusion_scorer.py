"""Scores of an image with a window covered, computed incrementally where that is faster."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from SaliencyExplain.attribution.incremental.box_scorer import BoxScorer
from SaliencyExplain.attribution.incremental.boxes import inside
from SaliencyExplain.attribution.incremental.inference import IncrementalInference
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.attribution.perturbation.infill import Infill
from SaliencyExplain.attribution.perturbation.occlusion_windows import Windows

_LOG = logging.getLogger(__name__)

#: Tracing, the maps of the unchanged image and the check take some five forward passes;
#: fewer passes saved than this are not worth them.
_PASSES_WORTHWHILE = 10.0

#: Share of the multiplications from which on cutting and copying eat up what is saved.
_LARGEST_SHARE = 0.75

#: Expected gain below which a GPU runs whole passes: the estimate is a rough one.
_LEAST_GAIN = 1.2

#: Windows on which the incremental way is compared with whole passes: as many as take at most
#: this share of the work, but one at the least, or all of them where the network has operations
#: on feature maps whose influence is not known to be local (window attention, rolls, turns).
_CHECK_SHARE, _CHECKS = 0.02, 4


class OcclusionScorer:
    """Scores of an image with windows of a grid covered, one at a time.

    Windows are named by their index in their grid (:class:`Windows`).

    Args:
        task: The network, in eval mode, which is not changed as long as this lives, and how
            much memory the maps of the image and the packed weights may take.
        windows: The windows; they cover what ``infill`` fills.
        infill: What covers, and the image.
        chosen: Which windows will be asked for.
    """

    def __init__(self, task: Task, windows: Windows, infill: Infill, chosen: Sequence[int]) -> None:
        self._image, self._windows, self._infill = infill.image, windows, infill
        self._chosen = windows.corners(np.asarray(chosen, dtype=np.int64))
        self._scorer = BoxScorer(task.network, infill.image)
        self._original: Tensor | None = None
        self._open(task.memory_bytes)

    @property
    def share(self) -> float:
        """Multiplications of a covered image, as a share of a forward pass."""
        return self._scorer.share

    def original(self) -> Tensor:
        """Scores ``(1, K)`` of the image as it is."""
        if self._original is None:
            self._original = self._scorer.plain(self._chosen[:0], [], originals=1)
        return self._original

    def arranged(self, windows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The same windows in an order that is good for batches."""
        inference = self._scorer.inference
        if inference is None:
            return windows
        # Neighbours in the batch have boxes of like shape, so that few are enlarged.
        return windows[inference.ranks(self._windows.corners(windows), self._windows.window)]

    def scores(self, windows: NDArray[np.int64], channel: int | None = None) -> Tensor:
        """Scores ``(batch, K)`` of the image with each of these windows covered.

        Args:
            windows: Their indices.
            channel: The one that is covered; None: all.
        """
        corners = self._windows.corners(windows)
        return self._scorer.scores(corners, self._contents(corners, channel))

    def plain_scores(self, windows: NDArray[np.int64], channel: int | None = None) -> Tensor:
        """The same by whole forward passes."""
        corners = self._windows.corners(windows)
        return self._scorer.plain(corners, self._contents(corners, channel))

    def _contents(self, corners: NDArray[np.int64], channel: int | None = None) -> Tensor:
        """What covers windows, ``(batch, C, *window)``."""
        window = self._windows.window
        contents = self._infill.boxes(corners, window)
        if channel is None:
            return contents
        kept = torch.stack([self._image[0][inside(corner, window)] for corner in corners.tolist()])
        kept[:, channel] = contents[:, channel]
        return kept

    def _open(self, memory_bytes: float) -> None:
        """Starts incremental computation, if it is faster and agrees with whole passes."""
        if len(self._chosen) < _PASSES_WORTHWHILE:
            return
        window = self._windows.window
        reason = self._scorer.open(
            self._chosen, window, memory_bytes, self._hindrance, self._checks, self.original
        )
        if reason:
            _LOG.info("Occlusion runs whole forward passes, window by window: %s.", reason)
            return
        _LOG.debug("Occlusion computes %.0f %% of each forward pass.", 100 * self.share)

    def _hindrance(self, inference: IncrementalInference, share: float) -> str:
        """Why incremental computation is not faster; empty if it is.

        Decided by counting operations: with a time measurement the last bits of a map would depend
        on the load.
        """
        if share > _LARGEST_SHARE or len(self._chosen) * (1 - share) < _PASSES_WORTHWHILE:
            return f"a window reaches {share:.0%} of the network"
        if self._image.device.type != "cpu":
            gain = inference.gain(self._chosen, self._windows.window)
            if gain <= _LEAST_GAIN:
                return "the network is too small to keep the GPU busy"
        return ""

    def _checks(
        self, inference: IncrementalInference, share: float
    ) -> tuple[NDArray[np.int64], Tensor]:
        """Windows to compare: the middle one, the first and last, one between."""
        count = len(self._chosen)
        affordable = int(_CHECK_SHARE * count * share)
        number = _CHECKS if inference.has_other_operations else min(max(1, affordable), _CHECKS)
        places = [count // 2, 0, count - 1, count // 4][:number]
        corners = self._chosen[sorted(set(places))]
        return corners, self._contents(corners)
