"""What convolutions, pooling and resizing do to the layout of a tensor."""

from __future__ import annotations

import re
from typing import Any

from SaliencyExplain.attribution.graph.layout_calls import (
    ADAPTIVE,
    CONVOLUTION,
    POOLING,
    TRANSPOSED,
    Call,
)
from SaliencyExplain.attribution.graph.tensor_layout import Layout, channels


def windowed(call: Call, name: str, layout: Layout, shape: tuple[int, ...]) -> Layout | None:
    """After a convolution, pooling or resizing; None for any other function."""
    axes = len(shape) - 2
    if ADAPTIVE.fullmatch(name) or name in ("interpolate", "upsample"):
        digits = re.findall(r"(\d)d", name)
        axes = int(digits[0]) if digits else axes
        corners = bool(call.argument(4, "align_corners")) and name == "interpolate"
        return _resized(layout, shape, axes, corners=corners)
    if TRANSPOSED.fullmatch(name) or CONVOLUTION.fullmatch(name):
        weight = call.argument(1, "weight")
        axes, kernel = weight.ndim - 2, tuple(weight.shape[2:])
        places = (4, 3) if name == "mkldnn_convolution" else (3, 4)
        stride = call.argument(places[0], "stride", 1)
        padding = call.argument(places[1], "padding", 0)
        is_transposed = bool(TRANSPOSED.fullmatch(name)) or (
            name == "convolution" and bool(call.argument(6, "transposed", False))
        )
        dilation = call.argument(7 if TRANSPOSED.fullmatch(name) else 5, "dilation", 1)
        changed = layout.replaced(len(shape) - 1 - axes, channels(shape[len(shape) - 1 - axes]))
    elif POOLING.fullmatch(name):
        first = 1 if not name.startswith("lp") else 2
        axes = int(re.findall(r"(\d)d", name)[0])
        kernel = _each(call.argument(first, "kernel_size"), axes)
        stride = call.argument(first + 1, "stride")
        stride = kernel if stride is None or stride == [] or stride == () else stride
        padding = 0 if name.startswith("lp") else call.argument(3, "padding", 0)
        dilation = call.argument(4, "dilation", 1) if name.startswith("max") else 1
        is_transposed, changed = False, layout
    else:
        return None
    for n in range(axes):
        if changed is None:
            return None
        axis = len(shape) - axes + n
        step, shift = _window_step(
            kernel[n], _at(stride, n), _at(dilation, n), _at(padding, n), transposed=is_transposed
        )
        if POOLING.fullmatch(name) and _is_global(layout, shape, axes):
            changed = changed.replaced(axis, channels(1))
        else:
            changed = changed.moved(axis, shape[axis], step, shift)
    return changed


def _is_global(layout: Layout, shape: tuple[int, ...], axes: int) -> bool:
    """Whether nothing is left of the last axes' places."""
    pooled = set(shape[len(shape) - axes :]) == {1}
    return pooled and any(axis.length > 1 for axis in layout.axes[len(shape) - axes :])


def _window_step(
    kernel: int,
    stride: float,
    dilation: float,
    padding: float | str,
    *,
    transposed: bool = False,
) -> tuple[float, float]:
    """Stride and centre of the first output cell, in cells of the input, along an axis."""
    reach = dilation * (kernel - 1)
    if isinstance(padding, str):
        return 1.0, reach / 2 - (0 if padding == "valid" else reach // 2)
    if transposed:
        return 1 / stride, (padding - reach / 2) / stride
    return float(stride), reach / 2 - padding


def _resized(layout: Layout, shape: tuple[int, ...], axes: int, *, corners: bool) -> Layout | None:
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


def _each(setting: Any, axes: int) -> tuple[int, ...]:
    return tuple(_at(setting, n) for n in range(axes))


def _at(setting: Any, axis: int) -> Any:
    if isinstance(setting, (str, int, float)):
        return setting
    return setting[axis] if len(setting) > 1 else setting[0]
