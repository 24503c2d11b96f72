"""What convolutions, pooling and resizing do to the layout of a tensor."""

from __future__ import annotations

import re

from SaliencyExplain.attribution.graph.kernels import kernels_of_call
from SaliencyExplain.attribution.graph.layout_calls import Call
from SaliencyExplain.attribution.graph.operation_catalogue import Positions
from SaliencyExplain.attribution.graph.tensor_layout import Layout, channels


def convolved(
    call: Call, positions: Positions, layout: Layout, shape: tuple[int, ...]
) -> Layout | None:
    """After a convolution."""
    kernels = kernels_of_call(call, positions)
    channel = len(shape) - 1 - len(kernels)
    changed = layout.replaced(channel, channels(shape[channel]))
    is_transposed = positions is Positions.TRANSPOSED_CONVOLVED or (
        call.function == "convolution" and bool(call.argument(6, "transposed", False))
    )
    for axis, kernel in enumerate(kernels, start=channel + 1):
        if changed is None:
            return None
        step, shift = float(kernel.stride), kernel.first_centre
        if is_transposed:
            # The other way round: cells of the input from one output cell to the next.
            step, shift = 1 / kernel.stride, -kernel.first_centre / kernel.stride
        changed = changed.moved(axis, shape[axis], step, shift)
    return changed


def pooled(call: Call, layout: Layout, shape: tuple[int, ...]) -> Layout | None:
    """After pooling with a kernel."""
    kernels = kernels_of_call(call, Positions.POOLED)
    changed: Layout | None = layout
    for axis, kernel in enumerate(kernels, start=len(shape) - len(kernels)):
        if changed is None:
            return None
        if _is_global(layout, shape, len(kernels)):
            changed = changed.replaced(axis, channels(1))
        else:
            changed = changed.moved(axis, shape[axis], float(kernel.stride), kernel.first_centre)
    return changed


def resized(call: Call, layout: Layout, shape: tuple[int, ...]) -> Layout | None:
    """After pooling to a given size, or interpolation."""
    digits = re.findall(r"(\d)d", call.function)
    axes = int(digits[0]) if digits else len(shape) - 2
    corners = call.function == "interpolate" and bool(call.argument(4, "align_corners"))
    changed: Layout | None = layout
    for axis in range(len(shape) - axes, len(shape)):
        if changed is None:
            return None
        before, after = changed.axes[axis].length, shape[axis]
        if _is_global(layout, shape, axes):
            changed = changed.replaced(axis, channels(1))
        elif corners and after > 1:
            changed = changed.moved(axis, after, (before - 1) / (after - 1), 0.0)
        else:
            scale = before / after
            changed = changed.moved(axis, after, scale, (scale - 1) / 2)
    return changed


def _is_global(layout: Layout, shape: tuple[int, ...], axes: int) -> bool:
    """Whether nothing is left of the last axes' positions."""
    pooled_sizes = set(shape[len(shape) - axes :])
    return pooled_sizes == {1} and any(axis.length > 1 for axis in layout.axes[-axes:])
