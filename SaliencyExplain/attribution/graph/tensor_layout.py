"""Which axes of a tensor inside a network carry the image's space, and where its cells lie.

Feature maps are channels first (convolutions), channels last (ConvNeXt, Swin), sequences of
tokens with class tokens in front (ViT), slices along the batch axis (a 2D network for each slice
of a volume) or windows of attention. A :class:`Layout` follows the axes through permutations and
reshapes, so that each of them can be brought to ``(C, *cells)``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

#: Per axis: voxels from cell to cell, and the voxel coordinate of the first cell's centre.
Placement = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Run:
    """Positions along an axis of a tensor, or a factor of them after a reshape.

    Attributes:
        space: The spatial axis of the image that they lie along; None: channels.
        size: How many.
        step: From one to the next, in cells of that spatial axis.
    """

    space: int | None
    size: int
    step: int = 1


@dataclass(frozen=True)
class Axis:
    """An axis of a tensor: its runs from major to minor, and tokens that have no place.

    Attributes:
        runs: The product of their sizes is the axis's length without the tokens.
        before: Tokens without a place in front, such as the class token.
        after: Those behind.
    """

    runs: tuple[Run, ...] = ()
    before: int = 0
    after: int = 0

    @property
    def cells(self) -> int:
        """Positions without the tokens."""
        return math.prod(run.size for run in self.runs)

    @property
    def length(self) -> int:
        """Positions in all."""
        return self.before + self.cells + self.after

    @property
    def has_tokens(self) -> bool:
        """Whether some of its positions have no place."""
        return self.before + self.after > 0

    @property
    def carries_space(self) -> bool:
        """Whether places of the image lie along it."""
        return any(run.space is not None for run in self.runs)


def channels(size: int) -> Axis:
    """An axis without space."""
    return Axis((Run(None, size),) if size != 1 else ())


@dataclass(frozen=True)
class Layout:
    """The axes of a tensor of one image, and the grid that its cells form.

    Attributes:
        axes: One for each axis of the tensor.
        counts: Cells along each spatial axis of the image; 0: that axis is pooled away.
        scale: Voxels from cell to cell, per spatial axis.
        offset: Voxel coordinate of the first cell's centre, per spatial axis.
        is_placeless: Whether it was taken from the tokens that have no place.
        cut: Voxels that slices took away in front and behind, per spatial axis; padding that
            was added counts below 0. Empty: none. Two tensors with other offsets and other
            cuts show different parts of the image.
    """

    axes: tuple[Axis, ...]
    counts: tuple[int, ...]
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    is_placeless: bool = False
    cut: tuple[tuple[float, float], ...] = ()

    @classmethod
    def channels_first(cls, shape: Sequence[int], placement: Placement) -> Layout:
        """That of ``(1, C, *cells)``."""
        spatial = tuple(Axis((Run(axis, size),)) for axis, size in enumerate(shape[2:]))
        return cls(
            (channels(shape[0]), channels(shape[1]), *spatial),
            tuple(shape[2:]),
            tuple(scale for scale, _ in placement),
            tuple(offset for _, offset in placement),
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor."""
        return tuple(axis.length for axis in self.axes)

    @property
    def has_grid(self) -> bool:
        """Whether all spatial axes are there, with more than one cell."""
        return min(self.counts) > 0 and math.prod(self.counts) > 1

    @property
    def has_tokens(self) -> bool:
        """Whether some positions have no place in the image."""
        return any(axis.has_tokens for axis in self.axes)

    @property
    def channels(self) -> int:
        """How many :meth:`features` has."""
        return math.prod(r.size for axis in self.axes for r in axis.runs if r.space is None)

    @property
    def placement(self) -> Placement:
        """Where the cells lie."""
        return tuple(zip(self.scale, self.offset, strict=True))

    @property
    def kind(self) -> str:
        """How the axes lie, in words."""
        if self.has_tokens or any(len(axis.runs) > 1 and axis.carries_space for axis in self.axes):
            return "tokens"
        if self.axes[0].carries_space:
            return "slice by slice"
        spatial = [n for n, axis in enumerate(self.axes) if axis.carries_space]
        return (
            "channels first" if spatial and spatial[-1] == len(self.axes) - 1 else "channels last"
        )

    def whole(self, axis: int) -> int | None:
        """The spatial axis that lies along an axis of the tensor as a whole; None: none does."""
        runs = self.axes[axis].runs
        if len(runs) != 1 or self.axes[axis].has_tokens or runs[0].space is None:
            return None
        return runs[0].space if runs[0].size == self.counts[runs[0].space] else None

    def features(self, values: Tensor) -> Tensor:
        """The tensor as ``(C, *cells)``; of tokens, those that have a place."""
        runs: list[Run] = []
        for number, axis in enumerate(self.axes):
            if axis.has_tokens:
                values = values.narrow(number, axis.before, axis.cells)
            runs += axis.runs
        order = [n for n, run in enumerate(runs) if run.space is None]
        for space in range(len(self.counts)):
            along = [n for n, run in enumerate(runs) if run.space == space]
            order += sorted(along, key=lambda n: -runs[n].step)
        values = values.reshape([run.size for run in runs]).permute(order)
        return values.reshape(-1, *self.counts)

    def tokens_without_place(self, values: Tensor) -> list[Tensor]:
        """What :meth:`features` leaves out."""
        found = []
        for number, axis in enumerate(self.axes):
            if axis.before:
                found.append(values.narrow(number, 0, axis.before))
            if axis.after:
                found.append(values.narrow(number, axis.before + axis.cells, axis.after))
        return found

    def replaced(self, axis: int, new: Axis | None) -> Layout | None:
        """With another axis in that place, or without it; space along the old one is gone."""
        axes = list(self.axes)
        axes[axis : axis + 1] = [] if new is None else [new]
        return dataclasses.replace(self, axes=tuple(axes)).settled()

    def settled(self) -> Layout | None:
        """The same with its cells counted anew; None where they form no grid any more."""
        counts, scale, offset = list(self.counts), list(self.scale), list(self.offset)
        finest: dict[int, int] = {}
        for space in range(len(counts)):
            runs = sorted(
                (run for axis in self.axes for run in axis.runs if run.space == space),
                key=lambda run: -run.step,
            )
            if not runs:
                counts[space] = 0
                continue
            steps = [run.step for run in runs if run.size > 1] or [counts[space]]
            covered = counts[space]
            for run in runs:
                if run.size > 1 and covered != run.step * run.size:
                    return None
                covered = run.step if run.size > 1 else covered
            finest[space] = steps[-1]
            counts[space] //= steps[-1]
            offset[space] += scale[space] * (steps[-1] - 1) / 2
            scale[space] *= steps[-1]
        axes = tuple(
            dataclasses.replace(
                axis,
                runs=tuple(
                    run
                    if run.space is None
                    else Run(run.space, run.size, max(1, run.step // finest[run.space]))
                    for run in axis.runs
                ),
            )
            for axis in self.axes
        )
        return dataclasses.replace(
            self, axes=axes, counts=tuple(counts), scale=tuple(scale), offset=tuple(offset)
        )

    def permuted(self, order: Sequence[int]) -> Layout:
        """With the tensor's axes in another order."""
        return dataclasses.replace(self, axes=tuple(self.axes[axis] for axis in order))

    def reshaped(self, shape: Sequence[int]) -> Layout | None:
        """After a reshape; None where it cuts a run in pieces that do not fit."""
        pieces: list[Run | Axis] = []
        for axis in self.axes:
            if axis.has_tokens:
                pieces.append(axis)
                continue
            for run in axis.runs:
                before = pieces[-1] if pieces else None
                joined = _joined(before, run) if isinstance(before, Run) else None
                pieces[len(pieces) - (joined is not None) :] = [joined or run]
        axes = []
        for size in shape:
            runs: list[Run] = []
            need = size
            while need > 1 or (size == 1 and not runs and pieces and _length(pieces[0]) == 1):
                if not pieces:
                    return None
                piece = pieces.pop(0)
                if isinstance(piece, Axis):
                    if runs or piece.length != need:
                        return None
                    axes.append(piece)
                    break
                if piece.size > need and piece.size % need == 0:
                    low = piece.size // need
                    pieces.insert(0, Run(piece.space, low, piece.step))
                    piece = Run(piece.space, need, piece.step * low)
                if need % piece.size:
                    return None
                runs.append(piece)
                need //= piece.size
            else:
                axes.append(Axis(tuple(runs)))
        left = [piece for piece in pieces if isinstance(piece, Run)]
        if len(left) < len(pieces) or any(piece.size > 1 for piece in left):
            return None
        if left:
            last = next((n for n in reversed(range(len(axes))) if not axes[n].has_tokens), None)
            if last is None:
                return None
            axes[last] = Axis((*axes[last].runs, *left))
        return dataclasses.replace(self, axes=tuple(axes))

    def moved(self, axis: int, cells: int, stride: float, shift: float) -> Layout | None:
        """After a window ran along an axis of the tensor, as in a convolution.

        Args:
            axis: Of the tensor.
            cells: Afterwards.
            stride: Cells from one of the new ones to the next.
            shift: Where the centre of the first new one lies, in cells.
        """
        if not self.axes[axis].carries_space:
            return self.replaced(axis, channels(cells))
        if (stride, shift, cells) == (1.0, 0.0, self.axes[axis].length):
            return self
        space = self.whole(axis)
        if space is None:
            return None
        return self._regridded(axis, space, cells, stride, shift)

    def sliced(self, axis: int, start: int, stop: int, step: int) -> Layout | None:
        """After ``[start:stop:step]`` along an axis of the tensor."""
        old = self.axes[axis]
        size = len(range(start, stop, step))
        if size == old.length:
            return self
        if not old.carries_space and not old.has_tokens:
            return self.replaced(axis, channels(size))
        if old.has_tokens:
            first, end = old.before, old.before + old.cells
            if step == 1 and (stop <= first or start >= end):
                placeless = dataclasses.replace(self, is_placeless=True)
                return placeless.replaced(axis, channels(size))
            if step == 1 and start <= first and stop >= end:
                return self.replaced(axis, Axis(old.runs, first - start, stop - end))
            return None
        space = self.whole(axis)
        if space is None or size == 0 or step < 1:
            return None
        changed = self._regridded(axis, space, size, step, start)
        last = range(start, stop, step)[-1]
        return changed.with_cut(space, self.scale[space], start, old.length - 1 - last)

    def with_cut(self, space: int, scale: float, before: int, after: int) -> Layout:
        """With cells taken away from the ends of a spatial axis; below 0: added.

        Args:
            space: The spatial axis.
            scale: Voxels from cell to cell where they were taken away.
            before: Cells in front.
            after: Cells behind.
        """
        cut = list(self.cut or [(0.0, 0.0)] * len(self.counts))
        # In a mirrored tensor what is in front lies behind in the image.
        low, high = (before, after) if scale > 0 else (after, before)
        cut[space] = (cut[space][0] + abs(scale) * low, cut[space][1] + abs(scale) * high)
        return dataclasses.replace(self, cut=tuple(cut))

    def shows_other_part(self, other: Layout) -> bool:
        """Whether the tensors are different crops of the image: their cells lie apart."""
        none = [(0.0, 0.0)] * len(self.counts)
        for n, (one, two) in enumerate(zip(self.cut or none, other.cut or none, strict=True)):
            if self.counts[n] != other.counts[n] or not self.counts[n]:
                continue
            scales = self.scale[n], other.scale[n]
            # A cell's difference is that of a finite difference or of a patch taken apart.
            most = max(map(abs, scales)) * (1 + 1e-6)
            far = (self.counts[n] - 1) * (scales[0] - scales[1])
            start = self.offset[n] - other.offset[n]
            is_apart = max(abs(start), abs(start + far)) > most
            if is_apart and max(abs(a - b) for a, b in zip(one, two, strict=True)) > most:
                return True
        return False

    def selected(self, axis: int, index: int) -> Layout | None:
        """After ``[index]`` along an axis of the tensor."""
        old = self.axes[axis]
        index %= old.length
        placeless = old.has_tokens and not old.before <= index < old.before + old.cells
        changed = dataclasses.replace(self, is_placeless=self.is_placeless or placeless)
        return changed.replaced(axis, None)

    def _regridded(self, axis: int, space: int, cells: int, stride: float, shift: float) -> Layout:
        def change(values: Sequence[float], find: Callable[[float], float]) -> tuple[float, ...]:
            return tuple(find(v) if n == space else v for n, v in enumerate(values))

        scale = self.scale[space]
        axes = tuple(
            Axis((Run(space, cells),)) if n == axis else old for n, old in enumerate(self.axes)
        )
        return Layout(
            axes,
            tuple(cells if n == space else count for n, count in enumerate(self.counts)),
            change(self.scale, lambda old: old * stride),
            change(self.offset, lambda old: old + scale * shift),
            cut=self.cut,
        )


def _length(piece: Run | Axis) -> int:
    return piece.length if isinstance(piece, Axis) else piece.size


def _joined(major: Run, minor: Run) -> Run | None:
    """Two runs that lie beside each other in memory as one; None: they are none."""
    if major.space != minor.space:
        return None
    if major.space is None or major.step == minor.step * minor.size:
        return Run(major.space, major.size * minor.size, minor.step)
    return None
