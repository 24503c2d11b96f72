"""Carries only the changed boxes through a network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from SaliencyExplain.attribution.graph.kernels import Kernel
from SaliencyExplain.attribution.incremental.boxes import Boxes, Integers, Interval
from SaliencyExplain.attribution.incremental.cutting import cut, cut_unchanged
from SaliencyExplain.attribution.incremental.operations import (
    Concat,
    Image,
    Local,
    Step,
)

#: Share of the map from which on a box is computed as the whole map: then the copies to
#: cut it out cost more than the cells that are left out.
FULL_SHARE = 0.8


@dataclass(frozen=True)
class Costs:
    """What a device takes beside multiplications.

    Attributes:
        step: What a step costs however small it is, in multiplications.
        together: Windows in boxes of one size, at most: as many as are in a batch.
    """

    step: float
    together: int


_CPU = Costs(step=1.2e7, together=8)  # some 100 microseconds of two cores

#: A GPU waits for some four launches in a step, in which it could do 5e8 multiplications:
#: estimated from data sheets, not measured.
_GPU = Costs(step=5e8, together=128)

#: A layer of a whole pass, as a share of a step: it has one or two of them.
_LAYER_COST = 0.4


class Schedule:
    """Which boxes of which feature maps a changed box of the image can reach.

    Along an axis the first cell that a box reaches depends on its first voxel alone, and
    the last on its last voxel: one table for each axis serves boxes of any size anywhere.

    Args:
        steps: The network's operations, in order, the image first.
        smallest: Voxels per axis of the smallest boxes that will be asked for.
        device: On which they run.

    Attributes:
        costs: Of the device.
    """

    def __init__(
        self, steps: Sequence[Step], smallest: Sequence[int], device: torch.device
    ) -> None:
        self.steps = steps
        self.costs = _CPU if device.type == "cpu" else _GPU
        reached: dict[Step, list[Interval]] = {}
        for step in steps:
            if not step.is_map:
                continue
            found: list[Interval] | None = None
            if isinstance(step.operation, Image):
                found = [Interval(np.arange(size), np.arange(1, size + 1)) for size in step.size]
            elif all(source in reached for source in step.sources):
                found = step.operation.affected([reached[s] for s in step.sources], step.size)
            reached[step] = found or [
                Interval(np.zeros(size, dtype=np.int64), np.full(size, cells))
                for size, cells in zip(steps[0].size, step.size, strict=True)
            ]
        self._maps = [step for step in steps if step.is_map]
        row = {step: number for number, step in enumerate(self._maps)}
        self._sizes = np.array([step.size for step in self._maps])
        self._costs = np.array([step.operation.cost(step) for step in self._maps])
        axes = range(len(steps[0].size))
        self._first = [
            np.stack([reached[step][axis].first for step in self._maps]) for axis in axes
        ]
        self._last = [np.stack([reached[step][axis].last for step in self._maps]) for axis in axes]
        chained = chains(steps)
        self._chain_end = {step: end for end, members in chained.items() for step in members}
        self._chained = [[row[step] for step in members] for members in chained.values()]
        self.users: dict[Step, int] = {}
        for step in steps:
            for source in step.sources:
                self.users[source] = self.users.get(source, 0) + 1
        self._cuts = self._possible_cuts()
        self.kept = {step for step in self._maps if self._is_kept(step, row[step], smallest)}

    def boxes(self, corners: Integers, window: Sequence[int] | Integers) -> dict[Step, Boxes]:
        """The boxes of every feature map for a batch of changed boxes of the image.

        Args:
            corners: Their first voxels, ``(batch, axes)``.
            window: Their voxels per axis.
        """
        first, shapes, full = self._reached(corners, window)
        found = {}
        for row, (step, shape, whole) in enumerate(
            zip(self._maps, shapes.tolist(), full.tolist(), strict=True)
        ):
            found[step] = Boxes(first[row], tuple(shape), full=whole)
        return found

    def share(self, corners: Integers, window: Sequence[int]) -> float:
        """Multiplications for these boxes, as a share of those for whole images."""
        shapes = self._reached(corners, window)[1]
        whole = float(self._costs @ self._sizes.prod(axis=1))
        return float(self._costs @ shapes.prod(axis=1)) / whole if whole else 1.0

    def cost(self, corners: Integers, window: Integers) -> float:
        """Multiplications for a batch of these boxes, and what its steps cost anyhow.

        The steps after the last box that is no whole map are left out of the latter: they
        are those of all batches together.
        """
        _, shapes, full = self._reached(corners, window)
        own = np.flatnonzero(~full)
        work = len(corners) * float(self._costs @ shapes.prod(axis=1))
        return work + self.costs.step * (own[-1] + 1 if len(own) else 0)

    def outweighs_steps(self, corners: Integers, window: Sequence[int]) -> bool:
        """Whether a batch of these boxes is more work than going through the steps once more."""
        # Neighbours in a batch have boxes of like size.
        _, shapes, _ = self._reached(corners[:1], window)
        work = len(corners) * float(self._costs @ shapes.prod(axis=1))
        return work > self.costs.step * len(self._maps)

    def gain(self, corners: Integers, window: Sequence[int]) -> float:
        """How many times less a batch of these boxes costs than whole passes of that many."""
        _, shapes, _ = self._reached(corners, window)
        own = len(corners) * float(self._costs @ shapes.prod(axis=1))
        whole = len(corners) * float(self._costs @ self._sizes.prod(axis=1))
        anyhow = self.costs.step * len(self._maps)
        return (whole + _LAYER_COST * anyhow) / (own + anyhow)

    def cut(self, runs: Sequence[dict[Step, Boxes]]) -> int:
        """Number of the step from which on all boxes are whole maps, so that runs can join.

        Returns:
            The number of steps, where they cannot.
        """
        first = 0
        for number, step in enumerate(self.steps):
            if step.is_map and not all(boxes[step].full for boxes in runs):
                first = number + 1
        return next((cut for cut in self._cuts if cut >= first), len(self.steps))

    def extent(self, axis: int, starts: Integers, width: int) -> NDArray[np.float64]:
        """For starts along an axis how much of the maps they reach, added up."""
        reached = self._last[axis][:, starts + width - 1] - self._first[axis][:, starts]
        return (reached / self._sizes[:, axis, None]).sum(axis=0)

    def chain_end(self, step: Step) -> Step:
        """The last concatenation that extends this one, or itself."""
        return self._chain_end[step]

    def kept_cells(self) -> int:
        """Numbers in the maps that are kept, those of a chain counted once."""
        rooms = {self._chain_end.get(step, step) for step in self.kept}
        return sum(math.prod(step.shape) for step in rooms)

    def _reached(
        self, corners: Integers, window: Sequence[int] | Integers
    ) -> tuple[Integers, Integers, NDArray[np.bool_]]:
        """First cells (maps, batch, axes), shapes (maps, axes), and which are whole maps."""
        first = np.stack([table[:, corners[:, axis]] for axis, table in enumerate(self._first)], -1)
        ends = corners + np.asarray(window) - 1
        last = np.stack([table[:, ends[:, axis]] for axis, table in enumerate(self._last)], -1)
        # A change that no kernel meets (cells left over at the border, or between strides)
        # changes nothing: any one cell holds it.
        last = np.maximum(last, first + 1)
        # All concatenations of a chain live in one buffer, so they have the same boxes.
        for rows in self._chained:
            first[rows] = first[rows].min(axis=0)
            last[rows] = last[rows].max(axis=0)
        shapes = (last - first).max(axis=1)
        shares = shapes.prod(axis=1) / self._sizes.prod(axis=1)
        full = shares >= FULL_SHARE
        full[0] = shares[0] == 1  # the image comes as it is
        shapes[full] = self._sizes[full]
        return np.minimum(first, (self._sizes - shapes)[:, None]), shapes, full

    def _possible_cuts(self) -> list[int]:
        """Numbers of steps before which all that later steps read are feature maps."""
        last_user = {source: n for n, step in enumerate(self.steps) for source in step.sources}
        others = [
            (number, last_user.get(step, number))
            for number, step in enumerate(self.steps)
            if not step.is_map
        ]
        return [
            cut
            for cut in range(1, len(self.steps))
            if not any(made < cut <= used for made, used in others)
        ]

    def _is_kept(self, step: Step, row: int, smallest: Sequence[int]) -> bool:
        """Whether a box of another map may need more of this one than what changed."""
        always_full = True
        for axis, (width, size) in enumerate(zip(smallest, step.size, strict=True)):
            first, last = self._first[axis][row], self._last[axis][row]
            starts = len(first) - width + 1
            always_full &= bool((first[:starts] == 0).all() and (last[width - 1 :] == size).all())
        users = [user for user in self.steps if step in user.sources]
        return not always_full and not all(_reads_no_more(user, step) for user in users)


def chains(steps: Sequence[Step]) -> dict[Step, list[Step]]:
    """Concatenations of which each begins with the one before, by the last of them."""
    extended: dict[Step, Step] = {}
    for step in steps:
        if isinstance(step.operation, Concat):
            start = step.sources[0]
            if isinstance(start.operation, Concat) and start not in extended:
                extended[start] = step
    found: dict[Step, list[Step]] = {}
    for step in steps:
        if isinstance(step.operation, Concat):
            end = step
            while end in extended:
                end = extended[end]
            found.setdefault(end, []).append(step)
    return found


def _reads_no_more(user: Step, step: Step) -> bool:
    """Whether a step's user never reads more of it than the boxes that changed."""
    if isinstance(user.operation, Concat):
        return user.sources[0] is step and isinstance(step.operation, Concat)
    return (
        isinstance(user.operation, Local)
        and len(user.sources) == 1
        and all(kernel == Kernel() for kernel in user.operation.spread(len(step.size)))
    )


class Run:
    """One batch of changed images on its way through the network (see ``Batch``)."""

    def __init__(
        self,
        schedule: Schedule,
        boxes: dict[Step, Boxes],
        count: int,
        kept: dict[Step, Tensor],
        memory_format: torch.memory_format,
        *,
        keep: bool = False,
    ) -> None:
        self.count = count
        self._schedule = schedule
        self._boxes = boxes
        self._kept = kept
        self._format = memory_format
        self._values: dict[Step, Any] = {}
        self._rooms: dict[Step, Tensor] = {}
        self._keep = keep
        self._next = 0
        self._left = dict(schedule.users)

    @classmethod
    def joined(cls, runs: Sequence[Run]) -> Run:
        """Goes on with several runs as one batch, where :meth:`Schedule.cut` says so."""
        one = runs[0]
        whole = sum(run.count for run in runs)
        boxes = {step: Boxes.whole(whole, step.size) for step in one._boxes}
        run = cls(one._schedule, boxes, whole, one._kept, one._format)
        run._next, run._left = one._next, dict(one._left)
        for step in one._values:
            parts = [part.take(step, Boxes.whole(part.count, step.size)) for part in runs]
            run._values[step] = torch.cat(parts).contiguous(memory_format=one._format)
        return run

    def scores(self, image: Tensor) -> Any:
        """The last step's output for the image's boxes, ``(batch, C, *window)``."""
        self.advance(1, image)
        return self.advance(len(self._schedule.steps))

    def advance(self, stop: int, value: Any = None) -> Any:
        """Runs the steps before ``stop`` that have not run yet; gives the last one's output.

        Args:
            stop: Number of a step.
            value: The image's boxes, where the first step is among them.
        """
        for step in self._schedule.steps[self._next : stop]:
            if not isinstance(step.operation, Image):
                value = step.operation.run(step, self)
            self._values[step] = value
            if self._keep and step in self._schedule.kept:
                self._kept[step] = value
            for source in set(step.sources):
                self._left[source] -= step.sources.count(source)
                if not self._left[source]:
                    del self._values[source]
                    if isinstance(source.operation, Concat):
                        self._release(source)
        self._next = stop
        return value

    def boxes(self, step: Step) -> Boxes:
        """See ``Batch``."""
        return self._boxes[step]

    def value(self, step: Step) -> Any:
        """See ``Batch``."""
        return self._values[step]

    def unchanged(self, step: Step) -> Tensor:
        """See ``Batch``."""
        return self._kept[step]

    def unchanged_in(self, step: Step, boxes: Boxes) -> Tensor:
        """See ``Batch``."""
        return cut_unchanged(self._kept[step], boxes)

    def own(self, step: Step, boxes: Boxes) -> Tensor | None:
        """See ``Batch``."""
        held = isinstance(step.operation, (Concat, Image)) or not isinstance(step.operation, Local)
        held = held or (self._keep and step in self._schedule.kept)
        if held or self._schedule.users[step] > 1 or not boxes.same(self._boxes[step]):
            return None
        return self._values[step]

    def take(self, step: Step, boxes: Boxes, fill: float = 0.0) -> Tensor:
        """See ``Batch``."""
        value, kept = self._values[step], self._kept.get(step)
        return cut(value, self._boxes[step], kept, boxes, step.size, fill)

    def chain(self, step: Step) -> Tensor:
        """See ``Batch``."""
        end = self._schedule.chain_end(step)
        if end not in self._rooms:
            like = self._values[step.sources[0]]
            self._rooms[end] = torch.empty(
                (self.count, end.shape[1], *self._boxes[end].shape),
                dtype=like.dtype,
                device=like.device,
                memory_format=self._format,
            )
        return self._rooms[end]

    def _release(self, step: Step) -> None:
        if self._schedule.chain_end(step) is step:
            self._rooms.pop(step, None)  # a joined run has no room for what came before it
