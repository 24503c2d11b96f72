"""The task of a method: image, network, target and callbacks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.attribution.passes.pass_spec import PassResult, PassSpec
from SaliencyExplain.progress import Progress, silent

#: Called as ``publish(maps, share)`` with what :meth:`Method.attribute` would return if it
#: stopped now, and the share of the computation, in (0, 1], that is in it. Like a progress
#: callback it may raise :class:`SaliencyExplain.errors.Cancelled`.
Publish = Callable[[dict[str, Tensor], float], None]


#: Called as ``record(figures)`` with what a computation returns beside its map, such as the
#: values of regions with their confidence intervals: names of metrics to values that JSON can
#: hold. They go into the map's provenance; a later call adds to an earlier one.
Record = Callable[[Mapping[str, Any]], None]


#: Called as ``note(text)`` with one sentence for the user of the map, such as that it is zero
#: everywhere, or that the relevance is far from the score. Notes reach the
#: terminal, the panels and the map's provenance.
Note = Callable[[str], None]


#: Called as ``resolution(key, mm)`` with a map's key and the smallest size that the map resolves:
#: an occlusion window, the cell of a feature map. The map's peak is searched at that scale
#: (:mod:`SaliencyExplain.peak`). Methods that resolve voxels or regions do not call it.
Resolution = Callable[[str, float], None]


def unpublished(maps: dict[str, Tensor], share: float) -> None:
    """A publish callback that does nothing."""


def unnoted(text: str) -> None:
    """A note callback that does nothing."""


def unresolved(key: str, resolution_mm: float) -> None:
    """A resolution callback that does nothing."""


def unrecorded(figures: Mapping[str, Any]) -> None:
    """A record callback that does nothing."""


class PassProvider(Protocol):
    """Provides passes of an image that several methods share."""

    def passed(self, task: Task, wanted: PassSpec) -> PassResult:
        """What a method needs from the task's image, and possibly more."""
        ...


@dataclass(frozen=True)
class Task:
    """The input of a method: which voxels speak for this class of this image.

    Attributes:
        network: The classifier's network, in eval mode, on the input's device.
        input: The prepared image, ``(1, C, *S)``, float32, S of two or three axes.
        target: Index of the class, fixed for the whole computation; or of the further column of a
            network with a combination.
        spacing: Size of a voxel of ``input`` in millimetres, one number per axis of S.
        seed: Random seed; the same seed gives the same map.
        batch_size: Images per forward pass; None: chosen from the free memory.
        progress: Told after each batch; may raise ``Cancelled``.
        publish: Given the map as it grows, by methods that have ``parts``: a rising share,
            the last one 1 unless the deadline came first.
        deadline: Reading of ``time.perf_counter()`` from which on a method that has
            ``parts`` returns the best map it has, once it has one.
        memory_bytes: Most that batches, kept maps and weights packed for them may take, beside
            the free memory.
        precision: ``float32``, or ``bfloat16`` where gradient methods may compute in it.
        record: Called with metrics that a method computes beside its map.
        note: Called with notes for whoever looks at the map.
        resolution: Called with the resolution of a map, in mm, before it is published.
        regions: Label map ``(*S)`` of a given segmentation on the input's grid, int64 on the
            CPU: 0 outside of all segments, else 1 + index in ``region_names``, of several
            that overlap the last one; None: none was given.
        region_names: Names of the segments; one that fills no voxel has its name all the same.
        backgrounds: Prepared images ``(N, C, *S)`` that stand for "nothing in particular",
            float32 on the CPU; None: none were given.
        channels: Names of the input's channels; empty: they have none.
        shared: The pass that several methods on this image share; None: each has its own.
        length_unit: Unit of lengths in messages: ``mm``, or ``px`` if the image has no physical
            size and a pixel counts as one millimetre.
    """

    network: ScoreNetwork
    input: Tensor
    target: int
    spacing: tuple[float, ...]
    seed: int = 0
    batch_size: int | None = None
    progress: Progress = silent
    publish: Publish = unpublished
    deadline: float = math.inf
    memory_bytes: float = math.inf
    precision: str = "float32"
    record: Record = unrecorded
    note: Note = unnoted
    resolution: Resolution = unresolved
    regions: Tensor | None = None
    region_names: tuple[str, ...] = ()
    backgrounds: Tensor | None = None
    channels: tuple[str, ...] = ()
    shared: PassProvider | None = None
    length_unit: str = "mm"
