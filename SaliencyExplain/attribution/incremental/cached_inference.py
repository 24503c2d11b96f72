"""A network that has seen an image and answers at once what changes of it do."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from SaliencyExplain.attribution.incremental.box_scorer import BoxScorer, Contents
from SaliencyExplain.attribution.incremental.boxes import Integers
from SaliencyExplain.attribution.incremental.inference import IncrementalInference
from SaliencyExplain.attribution.network.frozen_network import plain, untouched
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.attribution.passes.batches import in_batches
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.progress import Progress, silent

_LOG = logging.getLogger(__name__)

#: Share of the multiplications that a change of one voxel may need; beyond it the maps of
#: the image are not worth their memory. With 0.82 (squeeze-excitation in 3D) three changes
#: still take half of the time of plain passes, as layers are folded and weights packed.
_LARGEST_SHARE = 0.9


@dataclass(frozen=True)
class Change:
    """Other content of a box of the image.

    Attributes:
        corner: First voxel per axis.
        content: ``(C, *box)``.
    """

    corner: tuple[int, ...]
    content: Tensor


class CachedImage:
    """Scores of an image with changes: incrementally where that pays, else whole passes.

    The maps of the unchanged image are computed once and serve every later change, of any
    box. That costs some three forward passes: tracing, the maps, a check against a plain
    pass. One caller at a time.

    Args:
        network: The network, in eval mode, on the image's device.
        image: The unchanged image, ``(1, C, *S)``.
        memory_bytes: Most that the batches, the maps and the weights that are packed for them
            may take, beside the free memory.
    """

    def __init__(
        self, network: ScoreNetwork, image: Tensor, memory_bytes: float = math.inf
    ) -> None:
        self._network = network
        self._memory_bytes = memory_bytes
        self._image = plain(image)
        self._scorer = BoxScorer(network, self._image)
        self._seen = _fingerprint(network)
        # For the few changes of a click; occlusion's batches of many windows are another matter.
        reason = "a GPU runs them in the time in which it would wait for the steps"
        if image.device.type == "cpu":
            middle = np.array([[size // 2 for size in image.shape[2:]]])
            voxel = (1,) * (image.ndim - 2)
            with untouched(network), torch.no_grad():
                reason = self._scorer.open(
                    middle, voxel, memory_bytes, self._hindrance, self._checks
                )
        if reason:
            _LOG.info("Whole forward passes run for each change: %s.", reason)

    @property
    def cached_bytes(self) -> int:
        """What the maps of the image and the packed weights take; 0: whole passes run."""
        return self._scorer.inference.cached_bytes if self._scorer.inference else 0

    @property
    def holds(self) -> bool:
        """Whether the network is still what it was; a write through ``.data`` is not seen."""
        return self._seen == _fingerprint(self._network)

    def scores(self, changes: Sequence[Change], progress: Progress = silent) -> Tensor:
        """Scores ``(len(changes), K)`` of the image, each time with one of the changes.

        Raises:
            DeviceMemoryError: The device's memory does not hold a single image.
            Cancelled: Out of ``progress``.
        """
        corners = np.array([change.corner for change in changes])
        contents = [change.content for change in changes]

        def compute(indices: range) -> Tensor:
            some = slice(indices.start, indices.stop)
            return self._scorer.scores(corners[some], contents[some])

        spacing = (1.0,) * (self._image.ndim - 2)
        task = Task(
            self._network,
            self._image,
            0,
            spacing,
            progress=progress,
            memory_bytes=self._memory_bytes,
        )
        with untouched(self._network), torch.no_grad():
            batches = in_batches(
                task, len(changes), compute, gradient=False, total=float(len(changes))
            )
            return torch.cat([scores for _, scores in batches])

    def _hindrance(self, inference: IncrementalInference, share: float) -> str:
        """Why the maps of the image are not worth their memory; empty: they are."""
        return f"a voxel reaches {share:.0%} of the network" if share > _LARGEST_SHARE else ""

    def _checks(self, inference: IncrementalInference, share: float) -> tuple[Integers, Contents]:
        """Changes to compare with whole passes: in the middle, and at two corners.

        The latter only where the influence of some operations is not known to be local.
        """
        sizes = self._image.shape[2:]
        box = [max(1, size // 8) for size in sizes]
        corners = [tuple(size // 2 - size // 16 for size in sizes)]
        if inference.has_other_operations:
            last = tuple(size - width for size, width in zip(sizes, box, strict=True))
            corners += [(0,) * len(sizes), last]
        content = self._image.new_zeros((self._image.shape[1], *box))
        return np.array(corners), [content] * len(corners)


def _fingerprint(network: ScoreNetwork) -> tuple[tuple[int, int], ...]:
    """Changes when weights are replaced, moved or written to (but through ``.data``)."""
    tensors = [*network.parameters(), *network.buffers()]
    hooks = sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) for module in network.modules()
    )
    return (
        (hooks, 0),
        *((t.data_ptr(), -1 if t.is_inference() else t._version) for t in tensors),
    )
