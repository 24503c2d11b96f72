"""What each function of torch does to the layout of its tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from SaliencyExplain.attribution.graph.layout_calls import Call
from SaliencyExplain.attribution.graph.layout_joins import (
    broadcast,
    concatenated,
    product,
    stacked,
    summed,
)
from SaliencyExplain.attribution.graph.layout_windows import convolved, pooled, resized
from SaliencyExplain.attribution.graph.operation_catalogue import Positions, family_of_function
from SaliencyExplain.attribution.graph.tensor_layout import Axis, Layout, channels


def layouts_after(call: Call, outputs: Sequence[Tensor]) -> list[Layout | None]:
    """The layouts of a function's outputs; None where it is not known.

    One that does not have the tensor's shape is dropped: then a rule does not fit.
    """
    try:
        found = _layouts(call, outputs)
    except (IndexError, TypeError, ValueError, AttributeError, KeyError):
        # Arguments of another form than the rules know.
        found = [None] * len(outputs)
    return [
        layout if layout is not None and layout.shape == tuple(output.shape) else None
        for layout, output in zip(found, outputs, strict=True)
    ]


def _layouts(call: Call, outputs: Sequence[Tensor]) -> list[Layout | None]:
    if family_of_function(call.function).positions is Positions.DIVIDED:
        return _divided(call, outputs)
    shape = tuple(outputs[0].shape)
    return [_layout(call, shape), *[None] * (len(outputs) - 1)]


def _layout(call: Call, shape: tuple[int, ...]) -> Layout | None:
    positions = family_of_function(call.function).positions
    match positions:
        case Positions.SAME:
            return broadcast(call, shape)
        case Positions.CONCATENATED:
            return concatenated(call)
        case Positions.STACKED:
            return stacked(call)
        case Positions.MATRIX:
            return _matrix(call, shape)
    layout = call.first
    if layout is None:
        return None
    match positions:
        case Positions.NORMALISED:
            return layout
        case Positions.RESHAPED:
            return layout.reshaped(shape)
        case Positions.PERMUTED:
            return _permuted(call, layout)
        case Positions.REDUCED:
            return _reduced(call, layout, shape)
        case Positions.LAST_AXIS:
            return layout.replaced(len(layout.axes) - 1, channels(shape[-1]))
        case Positions.TAKEN:
            return _taken(call, layout)
        case Positions.PADDED:
            return _padded(call, layout)
        case Positions.FLIPPED:
            return _flipped(call, layout)
        case Positions.CONVOLVED | Positions.TRANSPOSED_CONVOLVED:
            return convolved(call, positions, layout, shape)
        case Positions.POOLED:
            return pooled(call, layout, shape)
        case Positions.ADAPTIVELY_POOLED | Positions.RESIZED:
            return resized(call, layout, shape)
    return None


def _matrix(call: Call, shape: tuple[int, ...]) -> Layout | None:
    name, layout = call.function, call.first
    if name in ("matmul", "bmm") and len(shape) > 1:
        return product(call, shape)
    if name == "einsum":
        return summed(call, shape)
    if name == "multi_head_attention_forward":
        return layout
    if layout is not None and name == "mm" and not call.depends(call.argument(1, "mat2")):
        return layout.replaced(len(layout.axes) - 1, channels(shape[-1]))
    return None


def _taken(call: Call, layout: Layout) -> Layout | None:
    if call.function == "getitem":
        return _indexed(layout, call.args[1])
    axis = _axis(call.argument(1, "dim"), layout)
    if call.function == "select":
        return layout.selected(axis, call.argument(2, "index"))
    start = int(call.argument(2, "start"))
    return layout.sliced(axis, start, start + int(call.argument(3, "length")), 1)


def _divided(call: Call, outputs: Sequence[Tensor]) -> list[Layout | None]:
    layout = call.first
    if layout is None:
        return [None] * len(outputs)
    if call.function == "unbind":
        axis = _axis(call.argument(1, "dim", 0), layout)
        return [layout.selected(axis, index) for index in range(len(outputs))]
    axis = _axis(call.argument(2, "dim", 0), layout)
    found, start = [], 0
    for output in outputs:
        stop = start + output.shape[axis]
        found.append(layout.sliced(axis, start, stop, 1))
        start = stop
    return found


def _permuted(call: Call, layout: Layout) -> Layout | None:
    name, count = call.function, len(layout.axes)
    order = list(range(count))
    if name == "permute":
        given: Sequence[Any] = call.args[1:] or (call.kwargs["dims"],)
        if isinstance(given[0], Sequence):
            given = given[0]
        return layout.permuted([int(axis) % count for axis in given])
    if name in ("movedim", "moveaxis"):
        source = _several(call.argument(1, "source"), count)
        target = _several(call.argument(2, "destination"), count)
        order = [axis for axis in order if axis not in source]
        for axis, place in sorted(zip(source, target, strict=True), key=lambda pair: pair[1]):
            order.insert(place, axis)
        return layout.permuted(order)
    if name in ("transpose", "swapaxes", "swapdims"):
        one = _axis(call.argument(1, "dim0", call.kwargs.get("axis0")), layout)
        other = _axis(call.argument(2, "dim1", call.kwargs.get("axis1")), layout)
    else:
        one, other = count - 2, count - 1
    order[one], order[other] = order[other], order[one]
    return layout.permuted(order)


def _reduced(call: Call, layout: Layout, shape: tuple[int, ...]) -> Layout | None:
    dim = call.argument(1, "dim", call.kwargs.get("axis"))
    count = len(layout.axes)
    if call.function == "norm":
        dim = call.argument(2, "dim")
    if isinstance(dim, Tensor):
        return None
    axes = list(range(count)) if dim is None else _several(dim, count)
    keep = len(shape) == count
    changed: Layout | None = layout
    for axis in sorted(axes, reverse=True):
        if changed is not None:
            changed = changed.replaced(axis, channels(1) if keep else None)
    return changed


def _indexed(layout: Layout, index: Any) -> Layout | None:
    given = list(index) if isinstance(index, tuple) else [index]
    missing = len(layout.axes) - sum(one is not None and one is not Ellipsis for one in given)
    if Ellipsis in [one for one in given if not isinstance(one, Tensor)]:
        place = next(n for n, one in enumerate(given) if one is Ellipsis)
        given[place : place + 1] = [slice(None)] * missing
    changed: Layout | None = layout
    axis = 0
    for one in given:
        if changed is None:
            return None
        if one is None:
            axes = (*changed.axes[:axis], Axis(), *changed.axes[axis:])
            changed = dataclasses.replace(changed, axes=axes)
            axis += 1
        elif isinstance(one, slice):
            changed = changed.sliced(axis, *one.indices(changed.axes[axis].length))
            axis += 1
        elif isinstance(one, int) and not isinstance(one, bool):
            changed = changed.selected(axis, one)
        else:
            return None
    return changed


def _padded(call: Call, layout: Layout) -> Layout | None:
    pad = list(call.argument(1, "pad"))
    changed: Layout | None = layout
    for n in range(0, len(pad), 2):
        axis = len(layout.axes) - 1 - n // 2
        if changed is not None and (pad[n] or pad[n + 1]):
            space, length = changed.whole(axis), changed.axes[axis].length + pad[n] + pad[n + 1]
            changed = changed.moved(axis, length, 1.0, -float(pad[n]))
            if changed is not None and space is not None:
                scale = changed.scale[space]
                changed = changed.with_cut(space, scale, -pad[n], -pad[n + 1])
    return changed


def _flipped(call: Call, layout: Layout) -> Layout | None:
    dims = call.args[1] if len(call.args) == 2 else call.args[1:] or call.kwargs["dims"]
    changed: Layout | None = layout
    for axis in _several(dims, len(layout.axes)):
        if changed is not None and changed.axes[axis].carries_space:
            size = changed.axes[axis].length
            changed = changed.moved(axis, size, -1.0, size - 1.0)
    return changed


def _axis(dim: Any, layout: Layout) -> int:
    return int(dim) % len(layout.axes)


def _several(dims: Any, count: int) -> list[int]:
    return [int(dim) % count for dim in (dims if isinstance(dims, Sequence) else (dims,))]
