"""Carries only the changed boxes through a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from SaliencyExplain.attribution.incremental.boxes import Boxes, Integers, Interval, Reach, overlap
from SaliencyExplain.attribution.incremental.operations import (
    Concat,
    Image,
    Local,
    Step,
)

#: Share of the map from which on a box is computed as the whole map: then the copies to
#: cut it out cost more than the cells that are left out.
FULL_SHARE = 0.8

_EVERY = (slice(None),)


class Schedule:
    """Which boxes of which feature maps a set of windows can reach.

    Args:
        steps: The network's operations, in order, the image first.
        window: Voxels per axis.
        starts: The windows' first voxels, one tuple per axis.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        window: tuple[int, ...],
        starts: tuple[tuple[int, ...], ...],
    ) -> None:
        self.steps = steps
        self.window = window
        self._chains = chains(steps)
        reached: dict[Step, list[Interval]] = {}
        for step in steps:
            if not step.is_map:
                continue
            found: list[Interval] | None = None
            if isinstance(step.operation, Image):
                found = [
                    Interval(np.asarray(first), np.asarray(first) + size)
                    for first, size in zip(starts, window, strict=True)
                ]
            elif all(source in reached for source in step.sources):
                found = step.operation.affected([reached[s] for s in step.sources], step.size)
            reached[step] = found or [
                Interval(np.zeros(len(first), dtype=np.int64), np.full(len(first), size))
                for first, size in zip(starts, step.size, strict=True)
            ]
        maps = [step for step in steps if step.is_map]
        self._row = {step: row for row, step in enumerate(maps)}
        axes = range(len(window))
        self._first = [np.stack([reached[step][axis].first for step in maps]) for axis in axes]
        self._last = [np.stack([reached[step][axis].last for step in maps]) for axis in axes]
        self.kept = {step for step in maps if self._is_kept(step)}

    def boxes(self, windows: Integers) -> dict[Step, Boxes]:
        """The boxes of every feature map for a batch of windows.

        Args:
            windows: Index of the start along each axis, ``(batch, axes)``.
        """
        axes = range(windows.shape[1])
        first = np.stack([self._first[axis][:, windows[:, axis]] for axis in axes], axis=-1)
        last = np.stack([self._last[axis][:, windows[:, axis]] for axis in axes], axis=-1)
        found = {}
        for step, row in self._row.items():
            boxes = Boxes.around(first[row], last[row], step.size)
            if not boxes.full and not isinstance(step.operation, Image):
                share = np.prod(boxes.shape) / np.prod(step.size)
                if share >= FULL_SHARE:
                    boxes = Boxes.whole(len(windows), step.size)
            found[step] = boxes
        # All concatenations of a chain live in one buffer, so they have the same boxes.
        for end, members in self._chains.items():
            firsts = np.min([found[step].first for step in members], axis=0)
            lasts = np.max([found[step].first + found[step].shape for step in members], axis=0)
            common = Boxes.around(firsts, lasts, end.size)
            for step in members:
                found[step] = common
        return found

    def extent(self, axis: int) -> NDArray[np.float64]:
        """For each start along an axis how much of the maps it reaches, added up."""
        sizes = np.array([step.size[axis] for step in self._row])
        return ((self._last[axis] - self._first[axis]) / sizes[:, None]).sum(axis=0)

    def share(self, windows: Integers) -> float:
        """Multiplications for these windows, as a share of those for whole images."""
        plain = whole = 0.0
        boxes = self.boxes(windows)
        for step in self._row:
            cost = step.operation.cost(step)
            whole += cost * float(np.prod(step.size))
            plain += cost * float(np.prod(boxes[step].shape))
        return plain / whole if whole else 1.0

    def chain_end(self, step: Step) -> Step:
        """The last concatenation that extends this one, or itself."""
        return next(end for end, members in self._chains.items() if step in members)

    def _is_kept(self, step: Step) -> bool:
        """Whether a box of another map may need more of this one than what changed."""
        row = self._row[step]
        always_full = all(
            (self._last[axis][row] - self._first[axis][row] == size).all()
            for axis, size in enumerate(step.size)
        )
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
        and all(reach == Reach() for reach in user.operation.reaches(len(step.size)))
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
        self._users: dict[Step, int] = {}
        for step in schedule.steps:
            for source in step.sources:
                self._users[source] = self._users.get(source, 0) + 1

    def scores(self, image: Tensor) -> Any:
        """The last step's output for the image's boxes, ``(batch, C, *window)``."""
        left = dict(self._users)
        for step in self._schedule.steps:
            if isinstance(step.operation, Image):
                value: Any = image
            else:
                value = step.operation.run(step, self)
            self._values[step] = value
            if self._keep and step in self._schedule.kept:
                self._kept[step] = value
            for source in set(step.sources):
                left[source] -= step.sources.count(source)
                if not left[source]:
                    del self._values[source]
                    if isinstance(source.operation, Concat):
                        self._release(source)
        return self._values[self._schedule.steps[-1]]

    def boxes(self, step: Step) -> Boxes:
        """See ``Batch``."""
        return self._boxes[step]

    def value(self, step: Step) -> Any:
        """See ``Batch``."""
        return self._values[step]

    def unchanged(self, step: Step) -> Tensor:
        """See ``Batch``."""
        return self._kept[step]

    def own(self, step: Step, boxes: Boxes) -> Tensor | None:
        """See ``Batch``."""
        held = isinstance(step.operation, (Concat, Image)) or not isinstance(step.operation, Local)
        held = held or (self._keep and step in self._schedule.kept)
        if held or self._users[step] > 1 or not boxes.same(self._boxes[step]):
            return None
        return self._values[step]

    def take(self, step: Step, boxes: Boxes, fill: float = 0.0) -> Tensor:
        """See ``Batch``."""
        mine = self._boxes[step]
        value = self._values[step]
        if boxes.same(mine):
            return value
        inside = boxes.slices_in(mine)
        if inside is not None:
            return value[_EVERY + _EVERY + inside]
        out = torch.empty(
            (self.count, step.shape[1], *boxes.shape),
            dtype=value.dtype,
            device=value.device,
            memory_format=self._format,
        )
        beyond = (boxes.first < 0) | (boxes.first + boxes.shape > np.asarray(step.size))
        if beyond.any():
            out.fill_(fill)
        self.into(out, step, boxes)
        return out

    def into(self, out: Tensor, step: Step, boxes: Boxes) -> None:
        """See ``Batch``."""
        mine = self._boxes[step]
        value = self._values[step]
        if boxes.same(mine):
            out.copy_(value)
            return
        covered = boxes.slices_in(mine)
        if covered is not None:
            out.copy_(value[_EVERY + _EVERY + covered])
            return
        offset = boxes.first - mine.first
        within = (offset >= 0) & (offset + boxes.shape <= np.asarray(mine.shape))
        for row in range(self.count):
            if not within[row].all():
                _copy(
                    out[row], boxes.first[row], self._kept[step][0], np.zeros_like(mine.first[row])
                )
        inside = mine.slices_in(boxes)
        if inside is not None:
            out[_EVERY + _EVERY + inside] = value
            return
        for row in range(self.count):
            _copy(out[row], boxes.first[row], value[row], mine.first[row])

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
            del self._rooms[step]


def _copy(out: Tensor, out_first: Integers, values: Tensor, first: Integers) -> None:
    """Copies what two boxes ``(C, *box)`` with these first cells have in common."""
    meets = overlap(out_first, out.shape[1:], first, values.shape[1:])
    if meets is not None:
        out[_EVERY + meets[0]] = values[_EVERY + meets[1]]
