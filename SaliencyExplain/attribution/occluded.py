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

    Args:
        network: The network, in eval mode, which is not changed as long as this lives.
        image: ``(1, C, *S)``.
        window: Voxels per axis.
        starts: First voxels of the windows, one tuple per axis.
        fill: What covers, per channel ``(C, 1, ...)``; None: each window's own mean.
        chosen: Which windows are asked for, as indices with the last axis running fastest.

    Attributes:
        order: The same, as they are numbered here.
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
        grid = tuple(len(first) for first in starts)
        self.order = np.asarray(chosen, dtype=np.int64)
        self._places = np.stack(np.unravel_index(self.order, grid), axis=-1)
        self._incremental = self._open()
        if self._incremental is not None:
            # Neighbours in the batch have boxes of like shape, so that few are enlarged.
            ranks = self._incremental.ranks(self._places)
            self.order, self._places = self.order[ranks], self._places[ranks]

    def scores(self, numbers: range) -> Tensor:
        """Scores ``(batch, K)`` of the image as it is (number 0) and its covered versions.

        Args:
            numbers: 0, and from 1 on the windows as they are in ``order``.
        """
        images = int(numbers.start == 0)
        places = self._places[numbers.start - 1 + images : numbers.stop - 1]
        if self._incremental is None:
            return self.plain_scores(numbers)
        scores = [self._original] * images
        if len(places):
            contents = torch.cat([self._content(place) for place in places])
            scores.append(self._incremental.scores(places, contents))
        return torch.cat(scores)

    def plain_scores(self, numbers: range) -> Tensor:
        """The same by whole forward passes."""
        images = int(numbers.start == 0)
        return self._plain(images, self._places[numbers.start - 1 + images : numbers.stop - 1])

    def _plain(self, images: int, places: NDArray[np.int64]) -> Tensor:
        batch = self._image.repeat(images + len(places), *[1] * (self._image.ndim - 1))
        for image, place in zip(batch[images:], places, strict=True):
            image[self._inside(place)] = self._content(place)[0]
        with torch.no_grad():
            return self._network(batch)

    def _inside(self, place: NDArray[np.int64]) -> tuple[slice, ...]:
        corner = [first[index] for first, index in zip(self._starts, place, strict=True)]
        spatial = (slice(n, n + size) for n, size in zip(corner, self._window, strict=True))
        return (slice(None), *spatial)

    def _content(self, place: NDArray[np.int64]) -> Tensor:
        """What covers a window, ``(1, C, *window)``."""
        box = self._image[0][self._inside(place)]
        fill = self._fill
        if fill is None:
            fill = box.mean(dim=tuple(range(1, box.ndim)), keepdim=True)
        return fill.expand_as(box)[None]

    def _open(self) -> IncrementalInference | None:
        """The incremental way, if it is open, pays, and agrees with the plain one."""
        self.share = 1.0
        if len(self._places) < _PASSES_WORTHWHILE:
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
                self._starts,
                memory=free_memory(self._image.device) * _MEMORY_SHARE,
            )
            self.share = inference.share(self._places)
            saved = len(self._places) * (1 - self.share)
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
        self._original = self._plain(1, self._places[:0])
        place = self._places[[len(self._places) // 2]]
        covered = self._plain(0, place)
        tolerance = _ROUNDING * float(torch.stack([self._original, covered]).abs().max())
        differences = (
            inference.scores_unchanged - self._original,
            inference.scores(place, self._content(place[0])) - covered,
        )
        return all(float(difference.abs().max()) <= tolerance for difference in differences)
