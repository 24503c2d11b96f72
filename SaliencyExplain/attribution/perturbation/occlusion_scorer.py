"""Scores of an image with a window covered: incrementally where that pays, else plainly."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from SaliencyExplain.attribution.incremental.boxes import inside
from SaliencyExplain.attribution.incremental.incremental_failures import reason_of
from SaliencyExplain.attribution.incremental.inference import IncrementalInference
from SaliencyExplain.attribution.passes.batches import is_out_of_memory, memory_left
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.attribution.perturbation.infill import Filling
from SaliencyExplain.attribution.perturbation.occlusion_windows import Windows

_LOG = logging.getLogger(__name__)

#: Tracing, the maps of the unchanged image and the check take some five forward passes;
#: fewer passes saved than this are not worth them.
_PASSES_WORTHWHILE = 10.0

#: Share of the multiplications from which on cutting and copying eat up what is saved.
_LARGEST_SHARE = 0.75

#: Expected gain below which a GPU runs whole passes: the estimate is a rough one.
_LEAST_GAIN = 1.2

#: Difference of the scores, in their largest size, that rounding explains.
_ROUNDING = 1e-4

#: Windows on which the incremental way is compared with whole passes: as many as take at most
#: this share of the work, but one at the least, or all of them where the network has operations
#: on feature maps whose influence is not known to be local (window attention, rolls, turns).
_CHECK_SHARE, _CHECKS = 0.02, 4

#: Share of the free memory that the maps of the unchanged image and the weights may take.
_MEMORY_SHARE = 0.4


class CoveredWindows:
    """An image and the windows that are covered in it, one at a time.

    Windows are named by their index in their grid (:class:`Windows`).

    Args:
        task: The network, in eval mode, which is not changed as long as this lives, and how
            much memory the maps of the image and the packed weights may take.
        windows: The windows; they cover what ``filling`` fills.
        filling: What covers, and the image.
        chosen: Which windows will be asked for.

    Attributes:
        share: Multiplications of a covered image, as a share of a forward pass.
    """

    def __init__(
        self, task: Task, windows: Windows, filling: Filling, chosen: Sequence[int]
    ) -> None:
        self._network = task.network
        self._image = filling.image
        self._windows = windows
        self._filling = filling
        self._memory = memory_left(self._image.device, task.memory_bytes) * _MEMORY_SHARE
        self._chosen = windows.corners(np.asarray(chosen, dtype=np.int64))
        self.share = 1.0
        self._together = 0
        self._incremental = self._open()

    def original(self) -> Tensor:
        """Scores ``(1, K)`` of the image as it is."""
        if self._incremental is None:
            return self._plain(1, self._chosen[:0])
        return self._original

    def arranged(self, windows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The same windows in an order that is good for batches."""
        if self._incremental is None:
            return windows
        # Neighbours in the batch have boxes of like shape, so that few are enlarged.
        corners = self._windows.corners(windows)
        return windows[self._incremental.ranks(corners, self._windows.window)]

    def scores(self, windows: NDArray[np.int64], channel: int | None = None) -> Tensor:
        """Scores ``(batch, K)`` of the image with each of these windows covered.

        Args:
            windows: Their indices.
            channel: The one that is covered; None: all.
        """
        if self._incremental is None:
            return self.plain_scores(windows, channel)
        corners = self._windows.corners(windows)
        contents = self._contents(corners, channel)
        try:
            return self._incremental.scores(corners, contents, self._together)
        except Exception as error:
            # A smaller batch may fit into the memory: that is for the caller to try.
            if is_out_of_memory(error) and len(windows) > 1:
                raise
            reason = reason_of(error)
        _LOG.warning("Occlusion goes on with whole forward passes: %s.", reason)
        most = max(1, round(len(windows) * self.share))
        self._incremental, self.share = None, 1.0
        parts = range(0, len(windows), most)
        return torch.cat([self.plain_scores(windows[n : n + most], channel) for n in parts])

    def plain_scores(self, windows: NDArray[np.int64], channel: int | None = None) -> Tensor:
        """The same by whole forward passes."""
        return self._plain(0, self._windows.corners(windows), channel)

    def _plain(self, images: int, corners: NDArray[np.int64], channel: int | None = None) -> Tensor:
        batch = self._image.repeat(images + len(corners), *[1] * (self._image.ndim - 1))
        if len(corners):
            contents = self._contents(corners, channel)
            for image, corner, content in zip(
                batch[images:], corners.tolist(), contents, strict=True
            ):
                image[inside(corner, self._windows.window)] = content
        with torch.no_grad():
            return self._network(batch)

    def _contents(self, corners: NDArray[np.int64], channel: int | None) -> Tensor:
        """What covers windows, ``(batch, C, *window)``."""
        contents = self._filling.boxes(corners, self._windows.window)
        if channel is None:
            return contents
        window = self._windows.window
        kept = torch.stack([self._image[0][inside(corner, window)] for corner in corners.tolist()])
        kept[:, channel] = contents[:, channel]
        return kept

    def _open(self) -> IncrementalInference | None:
        """The incremental way, if it is open, pays, and agrees with the plain one."""
        if len(self._chosen) < _PASSES_WORTHWHILE:
            return None
        failure = None
        try:
            inference = IncrementalInference(
                self._network, self._image, self._windows.window, memory=self._memory
            )
            self.share = inference.share(self._chosen, self._windows.window)
            saved = len(self._chosen) * (1 - self.share)
            if self.share > _LARGEST_SHARE or saved < _PASSES_WORTHWHILE:
                failure = f"a window reaches {self.share:.0%} of the network"
            elif not self._pays(inference):
                failure = "the network is so small that the GPU would wait for its steps"
            elif not self._agrees(inference):
                failure = "the traced network gives other scores"
        except Exception as error:  # noqa: BLE001 - whatever fails, whole passes give the answer
            failure = reason_of(error)
        if failure:
            self.share = 1.0
            _LOG.info("Occlusion runs whole forward passes, window by window: %s.", failure)
            return None
        self._together = inference.together(self._chosen, self._windows.window)
        _LOG.debug("Occlusion computes %.0f %% of each forward pass.", 100 * self.share)
        return inference

    def _pays(self, inference: IncrementalInference) -> bool:
        """Whether the steps of a GPU are large enough.

        By counting: a measurement that decides would make the last bits of a map depend on
        the load.
        """
        if self._image.device.type == "cpu":
            return True
        return inference.gain(self._chosen, self._windows.window) > _LEAST_GAIN

    def _agrees(self, inference: IncrementalInference) -> bool:
        """Whether image and some covered windows have the scores of plain forward passes."""
        self._original = self._plain(1, self._chosen[:0])
        corners = self._checked(inference)
        covered = self._plain(0, corners)
        tolerance = _ROUNDING * float(torch.cat([self._original, covered]).abs().max())
        differences = (
            inference.scores_unchanged - self._original,
            inference.scores(corners, self._contents(corners, None)) - covered,
        )
        return all(float(difference.abs().max()) <= tolerance for difference in differences)

    def _checked(self, inference: IncrementalInference) -> NDArray[np.int64]:
        """Corners of the windows to compare: the middle one, the first and last, one between."""
        count = len(self._chosen)
        affordable = int(_CHECK_SHARE * count * self.share)
        number = _CHECKS if inference.has_other_operations else min(max(1, affordable), _CHECKS)
        places = [count // 2, 0, count - 1, count // 4][:number]
        return self._chosen[sorted(set(places))]
