"""Scores of an image with a window covered: incrementally where that pays, else plainly."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from SaliencyExplain.attribution.batches import free_memory, is_out_of_memory
from SaliencyExplain.attribution.incremental.inference import IncrementalInference
from SaliencyExplain.attribution.incremental.tracing import NotTraceable
from SaliencyExplain.attribution.network import ScoreNetwork

_LOG = logging.getLogger(__name__)

#: Tracing, the maps of the unchanged image and the check take some five forward passes;
#: fewer passes saved than this are not worth them.
_PASSES_WORTHWHILE = 10.0

#: Share of the multiplications from which on cutting and copying eat up what is saved.
_LARGEST_SHARE = 0.75

#: Difference of the scores, in their largest size, that rounding explains.
_ROUNDING = 1e-4

#: Share of the free memory that the maps of the unchanged image may take.
_MEMORY_SHARE = 0.4


class CoveredWindows:
    """An image and the windows that are covered in it, one at a time.

    Windows are named by their index in the grid of their starts, the last axis running
    fastest.

    Args:
        network: The network, in eval mode, which is not changed as long as this lives.
        image: ``(1, C, *S)``.
        window: Voxels per axis.
        starts: First voxels of the windows, one tuple per axis.
        fill: What covers, per channel ``(C, 1, ...)``; None: each window's own mean.
        chosen: Which windows will be asked for.

    Attributes:
        share: Multiplications of a covered image, as a share of a forward pass.
    """

    def __init__(
        self,
        network: ScoreNetwork,
        image: Tensor,
        window: tuple[int, ...],
        starts: tuple[tuple[int, ...], ...],
        fill: Tensor | None,
        chosen: Sequence[int],
    ) -> None:
        self._network = network
        self._image = image
        self._window = window
        self._starts = starts
        self._fill = fill
        self._chosen = self._corners(np.asarray(chosen, dtype=np.int64))
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
        return windows[self._incremental.ranks(self._corners(windows), self._window)]

    def scores(self, windows: NDArray[np.int64]) -> Tensor:
        """Scores ``(batch, K)`` of the image with each of these windows covered."""
        if self._incremental is None:
            return self.plain_scores(windows)
        corners = self._corners(windows)
        contents = torch.cat([self._content(corner) for corner in corners])
        return self._incremental.scores(corners, contents)

    def plain_scores(self, windows: NDArray[np.int64]) -> Tensor:
        """The same by whole forward passes."""
        return self._plain(0, self._corners(windows))

    def _corners(self, windows: NDArray[np.int64]) -> NDArray[np.int64]:
        """First voxels of windows, ``(batch, axes)``."""
        places = np.unravel_index(windows, tuple(len(first) for first in self._starts))
        columns = [np.asarray(first)[at] for first, at in zip(self._starts, places, strict=True)]
        return np.stack(columns, axis=-1)

    def _plain(self, images: int, corners: NDArray[np.int64]) -> Tensor:
        batch = self._image.repeat(images + len(corners), *[1] * (self._image.ndim - 1))
        for image, corner in zip(batch[images:], corners, strict=True):
            image[self._inside(corner)] = self._content(corner)[0]
        with torch.no_grad():
            return self._network(batch)

    def _inside(self, corner: NDArray[np.int64]) -> tuple[slice, ...]:
        first = zip(corner.tolist(), self._window, strict=True)
        return (slice(None), *(slice(n, n + size) for n, size in first))

    def _content(self, corner: NDArray[np.int64]) -> Tensor:
        """What covers a window, ``(1, C, *window)``."""
        box = self._image[0][self._inside(corner)]
        fill = self._fill
        if fill is None:
            fill = box.mean(dim=tuple(range(1, box.ndim)), keepdim=True)
        return fill.expand_as(box)[None]

    def _open(self) -> IncrementalInference | None:
        """The incremental way, if it is open, pays, and agrees with the plain one."""
        self.share = 1.0
        if len(self._chosen) < _PASSES_WORTHWHILE:
            return None
        if self._image.device.type != "cpu":
            # Boxes are cut and copied window by window: on a GPU that launches more small
            # kernels than it saves (Nakandala et al. 2019 found the same). A measurement
            # that decides instead would make the last bits of a map depend on the load.
            _LOG.info("Occlusion runs whole forward passes on a GPU.")
            return None
        failure = None
        try:
            inference = IncrementalInference(
                self._network,
                self._image,
                self._window,
                memory=free_memory(self._image.device) * _MEMORY_SHARE,
            )
            self.share = inference.share(self._chosen, self._window)
            saved = len(self._chosen) * (1 - self.share)
            if self.share > _LARGEST_SHARE or saved < _PASSES_WORTHWHILE:
                failure = f"a window reaches {self.share:.0%} of the network"
            elif not self._agrees(inference):
                failure = "the traced network gives other scores"
        except NotTraceable as error:
            failure = str(error)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            failure = "memory is short"
        if failure:
            _LOG.info("Occlusion runs whole forward passes, window by window: %s.", failure)
            return None
        _LOG.debug("Occlusion computes %.0f %% of each forward pass.", 100 * self.share)
        return inference

    def _agrees(self, inference: IncrementalInference) -> bool:
        """Whether image and one covered window have the scores of a plain forward pass."""
        self._original = self._plain(1, self._chosen[:0])
        corner = self._chosen[[len(self._chosen) // 2]]
        covered = self._plain(0, corner)
        tolerance = _ROUNDING * float(torch.stack([self._original, covered]).abs().max())
        differences = (
            inference.scores_unchanged - self._original,
            inference.scores(corner, self._content(corner[0])) - covered,
        )
        return all(float(difference.abs().max()) <= tolerance for difference in differences)
