"""Scores of an image with a box of it replaced: incrementally where that pays, else plainly."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from SaliencyExplain.attribution.graph.symbolic_trace import NotTraceable
from SaliencyExplain.attribution.incremental.boxes import Integers, inside
from SaliencyExplain.attribution.incremental.inference import IncrementalInference
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.attribution.passes.batches import is_out_of_memory, memory_left

_LOG = logging.getLogger(__name__)

#: Difference of the scores, in their largest size, that rounding explains.
_ROUNDING = 1e-4

#: Share of the free memory that the maps of the unchanged image and the weights may take.
_MEMORY_SHARE = 0.4

#: What stands in boxes, ``(C, *box)`` each: one tensor where all boxes have one size.
Contents = Tensor | Sequence[Tensor]


class BoxScorer:
    """Scores of an image with other content in one box at a time.

    Whole forward passes give them until :meth:`open` has found that the incremental way pays and
    agrees with them, and again after it has failed. One caller at a time, without gradients.

    Args:
        network: The network, in eval mode, which is not changed as long as this lives.
        image: The unchanged image, ``(1, C, *S)``, on the network's device.

    Attributes:
        share: Multiplications of a changed image, as a share of a forward pass.
        inference: The incremental way; None: whole passes run.
    """

    def __init__(self, network: ScoreNetwork, image: Tensor) -> None:
        self._network, self._image = network, image
        self._together = 0
        self.share = 1.0
        self.inference: IncrementalInference | None = None

    def open(
        self,
        corners: Integers,
        window: Sequence[int],
        memory_bytes: float,
        hindrance: Callable[[IncrementalInference, float], str],
        checks: Callable[[IncrementalInference, float], tuple[Integers, Contents]],
        original: Callable[[], Tensor] | None = None,
    ) -> str:
        """Keeps the maps of the unchanged image, where that pays and gives the same scores.

        Args:
            corners: First voxels of boxes like those that will be asked for.
            window: Voxels per axis of these boxes.
            memory_bytes: Most that the maps and the packed weights may take, beside the free
                memory.
            hindrance: Given the incremental way and the share of a forward pass that a box
                takes, says why it does not pay; empty: it does.
            checks: Given the same, boxes on which it is compared with whole passes.
            original: Gives the scores ``(1, K)`` of the unchanged image by a whole pass; asked
                for once the incremental way pays, and compared as well.

        Returns:
            Why whole passes run; empty: the incremental way is open.
        """
        memory = memory_left(self._image.device, memory_bytes) * _MEMORY_SHARE
        try:
            inference = IncrementalInference(self._network, self._image, window, memory=memory)
            share = inference.share(corners, window)
            reason = hindrance(inference, share)
            if not reason and not self._agrees(inference, *checks(inference, share), original):
                reason = "the traced network gives other scores"
        except Exception as error:  # noqa: BLE001 - whatever fails, whole passes give the answer
            reason = reason_of(error)
        if not reason:
            self.inference, self.share = inference, share
            self._together = inference.together(corners, window)
        return reason

    def scores(self, corners: Integers, contents: Contents) -> Tensor:
        """Scores ``(n, K)`` of the image, each time with one box replaced.

        Raises:
            RuntimeError, MemoryError: The memory does not suffice for several boxes at once.
        """
        if self.inference is None:
            return self.plain(corners, contents)
        try:
            return self._incremental(self.inference, corners, contents)
        except Exception as error:
            # A smaller batch may fit into the memory: that is for the caller to try.
            if is_out_of_memory(error) and len(corners) > 1:
                raise
            reason = reason_of(error)
        _LOG.warning("Whole forward passes run from here on: %s.", reason)
        most = max(1, round(len(corners) * self.share))
        self.inference, self.share = None, 1.0
        parts = (slice(start, start + most) for start in range(0, len(corners), most))
        return torch.cat([self.plain(corners[part], contents[part]) for part in parts])

    def plain(self, corners: Integers, contents: Contents, originals: int = 0) -> Tensor:
        """The same by one whole pass, behind so many copies of the unchanged image."""
        batch = self._image.repeat(originals + len(corners), *[1] * (self._image.ndim - 1))
        for image, corner, content in zip(
            batch[originals:], np.asarray(corners).tolist(), contents, strict=True
        ):
            image[inside(corner, content.shape[1:])] = content
        with torch.no_grad():
            return self._network(batch)

    def _incremental(
        self, inference: IncrementalInference, corners: Integers, contents: Contents
    ) -> Tensor:
        if isinstance(contents, Tensor):
            return inference.scores(corners, contents, self._together)
        return inference.scores_of([tuple(corner) for corner in corners.tolist()], contents)

    def _agrees(
        self,
        inference: IncrementalInference,
        corners: Integers,
        contents: Contents,
        original: Callable[[], Tensor] | None,
    ) -> bool:
        unchanged = None if original is None else original()
        expected = self.plain(corners, contents)
        differences = [self._incremental(inference, corners, contents) - expected]
        if unchanged is not None:
            differences.append(inference.scores_unchanged - unchanged)
            expected = torch.cat([unchanged, expected])
        tolerance = _ROUNDING * float(expected.abs().max())
        return all(float(difference.abs().max()) <= tolerance for difference in differences)


def reason_of(error: Exception) -> str:
    """Why whole passes run: short memory, an untraceable network, or the error itself."""
    if isinstance(error, NotTraceable):
        return str(error)
    if is_out_of_memory(error):
        return "memory is short"
    lines = str(error).strip().splitlines()
    kind = type(error).__name__
    return f"{kind}: {lines[0][:200]}" if lines else kind
