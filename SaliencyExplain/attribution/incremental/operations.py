"""What a network is made of, each computed for a box of its output alone.

An operation knows two things: which of its outputs a changed input can reach
(``affected``), and how to compute a box of its output from the boxes of its inputs
(``run``). What a box needs beyond what changed is taken from the maps of the unchanged
image. Where a box is the whole map the operation runs as the network itself would.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from SaliencyExplain.attribution.graph.kernels import Kernel
from SaliencyExplain.attribution.incremental.boxes import Boxes, Interval


@dataclass(eq=False)
class Step:
    """One operation of a network, with what it is applied to.

    Attributes:
        operation: What is computed.
        sources: The steps whose outputs it takes.
        shape: Shape of its output for the unchanged image, ``(1, C, *s)``; empty where
            the output is no tensor.
        is_map: Whether the output is a feature map, with as many axes as the image.
    """

    operation: Operation = field(repr=False)
    sources: tuple[Step, ...] = field(repr=False)
    shape: tuple[int, ...]
    is_map: bool

    @property
    def size(self) -> tuple[int, ...]:
        """Cells of the output per axis."""
        return self.shape[2:]


class Batch(Protocol):
    """What an operation can ask while a batch of changed images is computed."""

    count: int

    def boxes(self, step: Step) -> Boxes:
        """The boxes of a step's output that may differ from the unchanged image's."""

    def value(self, step: Step) -> Any:
        """A step's output as it was computed: for its boxes, or the whole."""

    def take(self, step: Step, boxes: Boxes, fill: float = 0.0) -> Tensor:
        """A step's output in any boxes, ``fill`` beyond the map; not to be written to."""

    def own(self, step: Step, boxes: Boxes) -> Tensor | None:
        """A step's output in these boxes if nobody else will read it: it may be overwritten."""

    def unchanged(self, step: Step) -> Tensor:
        """A step's output for the unchanged image."""

    def unchanged_in(self, step: Step, boxes: Boxes) -> Tensor:
        """That in boxes within the map; not to be written to."""

    def chain(self, step: Step) -> Tensor:
        """Room for the output of a concatenation, those that extend it included."""


class Operation(ABC):
    """See the module."""

    def affected(
        self, changed: Sequence[Sequence[Interval]], sizes: Sequence[int]
    ) -> list[Interval] | None:
        """Per axis the outputs that changed inputs reach; None: all of them.

        Args:
            changed: For each source and axis the changed cells.
            sizes: Cells of the output per axis.
        """
        return None

    @abstractmethod
    def run(self, step: Step, batch: Batch) -> Any:
        """The output of ``step``, in its boxes."""

    def cost(self, step: Step) -> float:
        """Multiplications for one cell of the output."""
        return float(step.shape[1]) if step.is_map else 0.0


class Local(Operation):
    """An operation whose output at a cell is made of its inputs near that cell."""

    def spread(self, axes: int) -> Sequence[Kernel]:
        """The kernel by which a change spreads, per axis."""
        return (Kernel(),) * axes

    def affected(
        self, changed: Sequence[Sequence[Interval]], sizes: Sequence[int]
    ) -> list[Interval] | None:
        """Every source spreads alike, and what any of them reaches is affected."""
        reached: list[Interval] = []
        for axis, (kernel, size) in enumerate(zip(self.spread(len(sizes)), sizes, strict=True)):
            interval = changed[0][axis].affected(kernel, size)
            for source in changed[1:]:
                interval = interval.union(source[axis].affected(kernel, size))
            reached.append(interval)
        return reached


class Image(Local):
    """The input itself; its boxes are the windows."""

    def run(self, step: Step, batch: Batch) -> Any:
        """Is given at the start."""
        raise AssertionError("the image is given, not computed")


class Windowed(Local):
    """Convolution, pooling, padding: each output is made of a window of inputs.

    Attributes:
        kernels: Per axis the window.
        fill: What lies beyond the border.
    """

    kernels: tuple[Kernel, ...]
    fill: float = 0.0

    @abstractmethod
    def whole(self, values: Tensor) -> Tensor:
        """The whole map from the whole map."""

    @abstractmethod
    def inner(self, values: Tensor) -> Tensor:
        """Outputs from just the inputs that they need, borders included."""

    def spread(self, axes: int) -> Sequence[Kernel]:
        """Those of the window."""
        return self.kernels

    def run(self, step: Step, batch: Batch) -> Tensor:
        """See :class:`Operation`."""
        (source,) = step.sources
        boxes = batch.boxes(step)
        if boxes.full:
            return self.whole(batch.take(source, Boxes.whole(batch.count, source.size)))
        needed = boxes.inputs(self.kernels, source.size)
        return self.inner(batch.take(source, needed, self.fill))


@dataclass(eq=False)
class Pointwise(Local):
    """An activation or a normalisation with fixed statistics: cell by cell.

    Attributes:
        function: The function.
        in_place: The same, overwriting its argument; None: there is none.
    """

    function: Callable[[Tensor], Tensor]
    in_place: Callable[[Tensor], Tensor] | None = None

    def run(self, step: Step, batch: Batch) -> Tensor:
        """See :class:`Operation`; overwrites the input if nobody else reads it."""
        (source,) = step.sources
        if self.in_place is not None:
            own = batch.own(source, batch.boxes(step))
            if own is not None:
                return self.in_place(own)
        return self.function(batch.take(source, batch.boxes(step)))


@dataclass(eq=False)
class Combine(Local):
    """Sum, product and the like of two feature maps of the same shape."""

    function: Callable[[Tensor, Tensor], Tensor]

    def run(self, step: Step, batch: Batch) -> Tensor:
        """See :class:`Operation`; a sum overwrites its first term where it may."""
        boxes = batch.boxes(step)
        first, second = step.sources
        if self.function is torch.add and first is not second:
            for one, other in ((first, second), (second, first)):
                own = batch.own(one, boxes)
                if own is not None:
                    return own.add_(batch.take(other, boxes))
        return self.function(batch.take(first, boxes), batch.take(second, boxes))


class Concat(Local):
    """Channels of several maps beside each other.

    A dense block concatenates its features anew for each layer. Here all these
    concatenations are views of one buffer, into which each layer writes its channels
    once.
    """

    def run(self, step: Step, batch: Batch) -> Tensor:
        """See :class:`Operation`."""
        room = batch.chain(step)
        start = 0
        for source in step.sources:
            stop = start + source.shape[1]
            # What this one extends lies in the buffer already.
            extended = start == 0 and isinstance(source.operation, Concat)
            if not extended or batch.value(source).data_ptr() != room.data_ptr():
                room[:, start:stop] = batch.take(source, batch.boxes(step))
            start = stop
        return room[:, :start]


@dataclass(eq=False)
class GlobalMean(Operation):
    """Mean over all cells, by the difference that the box makes to the unchanged sum.

    Attributes:
        keep_axes: Whether the output is ``(B, C, 1, ...)`` rather than ``(B, C)``.
    """

    keep_axes: bool

    def run(self, step: Step, batch: Batch) -> Tensor:
        """See :class:`Operation`."""
        (source,) = step.sources
        boxes = batch.boxes(source)
        axes = tuple(range(2, len(source.shape)))
        now = batch.value(source)
        if boxes.full:
            return now.mean(axes, keepdim=self.keep_axes)
        before = batch.unchanged(source)
        sums = now.sum(axes) - batch.unchanged_in(source, boxes).sum(axes)
        mean = before.mean(axes) + sums / float(np.prod(source.size))
        return mean.reshape(*mean.shape, *[1] * len(axes)) if self.keep_axes else mean


@dataclass(eq=False)
class Call(Operation):
    """Anything else: computed of the whole maps, as the network does it.

    Attributes:
        function: Called with the sources' outputs.
        query: Whether only the shape of the source is asked for.
    """

    function: Callable[..., Any]
    query: bool = field(default=False)

    def run(self, step: Step, batch: Batch) -> Any:
        """See :class:`Operation`."""
        values = []
        for source in step.sources:
            if self.query and source.is_map:
                # A tensor of that shape without memory: the query must not gather a map.
                like = batch.value(source)
                values.append(like.new_empty(1).expand(batch.count, *source.shape[1:]))
            elif source.is_map:
                values.append(batch.take(source, Boxes.whole(batch.count, source.size)))
            else:
                values.append(batch.value(source))
        return self.function(*values)
