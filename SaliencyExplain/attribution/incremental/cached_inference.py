"""A network that has seen an image and answers at once what changes of it do."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from SaliencyExplain.attribution.incremental.boxes import inside
from SaliencyExplain.attribution.incremental.incremental_failures import reason_of
from SaliencyExplain.attribution.incremental.inference import IncrementalInference
from SaliencyExplain.attribution.network.frozen_network import plain, untouched
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.attribution.passes.batches import in_batches, is_out_of_memory, memory_left
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.progress import Progress, silent

_LOG = logging.getLogger(__name__)

#: Share of the multiplications that a change of one voxel may need; beyond it the maps of
#: the image are not worth their memory. With 0.82 (squeeze-excitation in 3D) three changes
#: still take half of the time of plain passes, as layers are folded and weights packed.
_LARGEST_SHARE = 0.9

#: Difference of the scores, in their largest size, that rounding explains.
_ROUNDING = 1e-4

#: Share of the free memory that the maps of the unchanged image and the weights may take.
_MEMORY_SHARE = 0.4


@dataclass(frozen=True)
class Change:
    """Other content of a box of the image.

    Attributes:
        corner: First voxel per axis.
        content: ``(C, *box)``.
    """

    corner: tuple[int, ...]
    content: Tensor

    @property
    def inside(self) -> tuple[slice, ...]:
        """The box in an image ``(C, *S)``."""
        return inside(self.corner, self.content.shape[1:])


class WarmImage:
    """Scores of an image with changes: incrementally where that pays, else whole passes.

    The maps of the unchanged image are computed once and serve every later change, of any
    box. That costs some three forward passes: tracing, the maps, a check against a plain
    pass. One caller at a time.

    Args:
        network: The network, in eval mode, on the image's device.
        image: The unchanged image, ``(1, C, *S)``.
        memory_bytes: Most that the batches, the maps and the weights that are packed for them
            may take, beside the free memory.

    Raises:
        DeviceMemoryError: The device's memory does not hold a single image.
    """

    def __init__(
        self, network: ScoreNetwork, image: Tensor, memory_bytes: float = math.inf
    ) -> None:
        self._network = network
        self._memory_bytes = memory_bytes
        self._image = plain(image)
        self._inference: IncrementalInference | None = None
        self._seen = _fingerprint(network)
        # For the few changes of a click; occlusion's batches of many windows are another matter.
        failure = "a GPU runs them in the time in which it would wait for the steps"
        if image.device.type == "cpu":
            with untouched(network):
                try:
                    failure = self._keep_maps()
                except Exception as error:  # noqa: BLE001 - whole passes give the answer as well
                    failure = reason_of(error)
        if failure:
            _LOG.info("Whole forward passes run for each change: %s.", failure)

    @property
    def kept_bytes(self) -> int:
        """What the maps of the image and the packed weights take; 0: whole passes run."""
        return self._inference.kept_bytes if self._inference else 0

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

        def compute(indices: range) -> Tensor:
            some = changes[indices.start : indices.stop]
            if self._inference is None:
                return self._plain(some)
            corners, contents = [c.corner for c in some], [c.content for c in some]
            try:
                return self._inference.scores_of(corners, contents)
            except Exception as error:
                # A smaller batch may fit into the memory: that is for the caller to try.
                if is_out_of_memory(error) and len(some) > 1:
                    raise
                reason = reason_of(error)
            _LOG.warning("Whole forward passes run from here on: %s.", reason)
            self._inference = None
            return self._plain(some)

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

    def _plain(self, changes: Sequence[Change]) -> Tensor:
        batch = self._image.repeat(len(changes), *[1] * (self._image.ndim - 1))
        for image, change in zip(batch, changes, strict=True):
            image[change.inside] = change.content
        return self._network(batch)

    def _keep_maps(self) -> str:
        """Keeps the maps of the image; or says why not."""
        sizes = self._image.shape[2:]
        inference = IncrementalInference(
            self._network,
            self._image,
            (1,) * len(sizes),
            memory=memory_left(self._image.device, self._memory_bytes) * _MEMORY_SHARE,
        )
        middle = np.array([[size // 2 for size in sizes]])
        share = inference.share(middle, (1,) * len(sizes))
        if share > _LARGEST_SHARE:
            return f"a voxel reaches {share:.0%} of the network"
        checks = self._checks(inference)
        expected = self.scores(checks)
        found = inference.scores_of([c.corner for c in checks], [c.content for c in checks])
        if not float((found - expected).abs().max()) <= _ROUNDING * float(expected.abs().max()):
            return "the traced network gives other scores"
        self._inference = inference
        return ""

    def _checks(self, inference: IncrementalInference) -> list[Change]:
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
        return [Change(corner, content) for corner in corners]


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
