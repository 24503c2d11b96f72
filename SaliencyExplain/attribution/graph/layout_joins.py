"""The layout of what several tensors are joined to."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from torch import Tensor

from SaliencyExplain.attribution.graph.layout_calls import Call
from SaliencyExplain.attribution.graph.tensor_layout import Axis, Layout, channels


def broadcast(call: Call, shape: tuple[int, ...]) -> Layout | None:
    """Position by position over all arguments; their axes are aligned at the last one."""
    layouts, constants = [], []
    given = call.args if call.function != "where" else call.args[1:]
    for one in (*given, *call.kwargs.values()):
        if isinstance(one, Tensor):
            if not call.depends(one):
                constants.append(one)
            elif (layout := call.layouts(one)) is not None:
                layouts.append(layout)
    layouts.sort(key=lambda layout: (layout.shape != shape, not layout.has_grid))
    if not layouts:
        return None
    if layouts[0].shape == shape:
        return _averaged(layouts[0], layouts[1:])
    axes = []
    for place in range(-len(shape), 0):
        size = shape[place]
        fit = [
            one.axes[place]
            for one in layouts
            if len(one.axes) >= -place and one.axes[place].length == size
        ]
        spatial = [axis for axis in fit if axis.carries_space]
        if not fit and size != 1 and not any(_has_size(one, place, size) for one in constants):
            return None
        axes.append(spatial[0] if spatial else fit[0] if fit else channels(size))
    first = layouts[0]
    counts = tuple(max(one.counts[n] for one in layouts) for n in range(len(first.counts)))
    if any(one.shows_other_part(first) for one in layouts[1:]):
        return None
    return Layout(tuple(axes), counts, first.scale, first.offset, cut=first.cut).settled()


def _has_size(tensor: Tensor, place: int, size: int) -> bool:
    return tensor.ndim >= -place and tensor.shape[place] == size


def _averaged(layout: Layout, others: Sequence[Layout]) -> Layout | None:
    """Where branches whose cells lie a part of a cell apart meet: in the middle.

    None where one of them is mirrored or transposed, or shows another part of the image.
    """
    for one in others:
        if one.shows_other_part(layout) or _is_transposed(one, layout):
            return None
        turned = any(a * b < 0 for a, b in zip(one.scale, layout.scale, strict=True))
        if turned and one.has_grid and one.axes == layout.axes:
            return None
    alike = [one for one in others if one.axes == layout.axes and one.scale == layout.scale]
    if all(one.offset == layout.offset for one in alike):
        return layout
    offsets = [layout.offset, *(one.offset for one in alike)]
    middle = tuple(math.fsum(along) / len(offsets) for along in zip(*offsets, strict=True))
    return dataclasses.replace(layout, offset=middle)


def _is_transposed(one: Layout, other: Layout) -> bool:
    """Whether along an axis of both tensors other spatial axes of the image lie."""
    pairs = [(one.whole(n), other.whole(n)) for n in range(min(len(one.axes), len(other.axes)))]
    same_rank = len(one.axes) == len(other.axes)
    return same_rank and any(a is not None and b is not None and a != b for a, b in pairs)


def concatenated(call: Call) -> Layout | None:
    """Along an axis that exists; None where parts of the image would lie in pieces."""
    tensors = list(call.argument(0, "tensors"))
    dim = call.argument(1, "dim", call.kwargs.get("axis", 0))
    axis = dim % tensors[0].ndim
    known = [(one, call.layouts(one)) for one in tensors if call.depends(one)]
    layouts = [layout for _, layout in known if layout is not None]
    grids = [one for one in layouts if one.axes[axis].carries_space]
    if not grids:
        if not layouts:
            return None
        first = max(layouts, key=lambda one: one.has_grid)
        merged = _averaged(first, [one for one in layouts if one is not first])
        if merged is None:
            return None
        return merged.replaced(axis, channels(sum(one.shape[axis] for one in tensors)))
    if len(grids) > 1:
        # Space in pieces.
        return None
    (grid,) = grids
    place = next(n for n, one in enumerate(tensors) if call.layouts(one) is grid)
    before = sum(one.shape[axis] for one in tensors[:place])
    after = sum(one.shape[axis] for one in tensors[place + 1 :])
    old = grid.axes[axis]
    return grid.replaced(axis, Axis(old.runs, old.before + before, old.after + after))


def product(call: Call, shape: tuple[int, ...]) -> Layout | None:
    """Of two matrices: its rows are those of the first, its columns those of the second.

    Where both carry space (queries times keys), the rows do: an answer is where its query is.
    """
    one, other = call.argument(0, "input"), call.argument(1, "other", call.kwargs.get("mat2"))
    rows = call.layouts(one) if call.depends(one) else None
    columns = call.layouts(other) if call.depends(other) else None
    if (call.depends(one) and rows is None) or (call.depends(other) and columns is None):
        return None
    if rows is not None and len(rows.axes) == len(shape):
        kept = rows.replaced(len(shape) - 1, channels(shape[-1]))
        if (kept is not None and max(kept.counts) > 0) or columns is None:
            return kept
    if columns is not None and len(columns.axes) == len(shape):
        return columns.replaced(len(shape) - 2, channels(shape[-2]))
    return None


def summed(call: Call, shape: tuple[int, ...]) -> Layout | None:
    """Of ``einsum``: each letter of the output is an axis of one that is given."""
    sides = str(call.args[0]).replace(" ", "").split("->")
    operands = list(call.args[1] if isinstance(call.args[1], (list, tuple)) else call.args[1:])
    if len(sides) != 2 or "." in sides[0]:
        return None
    found: dict[str, Axis] = {}
    layouts = []
    for letters, one in zip(sides[0].split(","), operands, strict=True):
        if not call.depends(one):
            continue
        layout = call.layouts(one)
        if layout is None:
            return None
        layouts.append(layout)
        for letter, axis in zip(letters, layout.axes, strict=True):
            if letter not in found or not found[letter].carries_space:
                found[letter] = axis
    axes: list[Axis] = []
    for letter, size in zip(sides[1], shape, strict=True):
        axis = found.get(letter, channels(size))
        taken = {(run.space, run.step) for old in axes for run in old.runs if run.space is not None}
        # Queries times keys: an answer is where its query is.
        twice = any((run.space, run.step) in taken for run in axis.runs)
        axes.append(channels(size) if twice else axis)
    first = max(layouts, key=lambda one: one.has_grid)
    return Layout(tuple(axes), first.counts, first.scale, first.offset, cut=first.cut).settled()


def stacked(call: Call) -> Layout | None:
    """Along a new axis."""
    tensors = list(call.argument(0, "tensors"))
    layouts = [call.layouts(one) for one in tensors if call.depends(one)]
    known = [one for one in layouts if one is not None]
    if not known:
        return None
    axis = call.argument(1, "dim", 0) % (tensors[0].ndim + 1)
    merged = _averaged(known[0], known[1:])
    if merged is None:
        return None
    axes = (*merged.axes[:axis], channels(len(tensors)), *merged.axes[axis:])
    return dataclasses.replace(merged, axes=axes)
