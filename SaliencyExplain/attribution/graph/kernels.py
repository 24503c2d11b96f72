"""The windows of convolutions, pooling and padding: which input cells an output cell is made of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.padding import _ConstantPadNd

from SaliencyExplain.attribution.graph.layout_calls import Call
from SaliencyExplain.attribution.graph.operation_catalogue import Positions


@dataclass(frozen=True)
class Kernel:
    """A window along one axis.

    Attributes:
        size: Cells that it reads.
        stride: Input cells from one window to the next.
        padding: Cells before the input.
        dilation: Input cells from one cell that it reads to the next.
    """

    size: int = 1
    stride: int = 1
    padding: int = 0
    dilation: int = 1

    @property
    def span(self) -> int:
        """From its first cell to its last one."""
        return self.dilation * (self.size - 1)

    @property
    def first_centre(self) -> float:
        """The centre of the first window, in cells of the input."""
        return self.span / 2 - self.padding


def kernels_of_module(module: nn.Module, axes: int) -> tuple[Kernel, ...]:
    """Per axis the kernel of a convolution, of pooling or of padding with a constant."""
    layer: Any = module
    if isinstance(module, _ConstantPadNd):
        # The last axis first, and its front and back.
        return tuple(Kernel(padding=int(before)) for before in layer.padding[::2][::-1])
    stride = layer.kernel_size if layer.stride is None else layer.stride
    return _kernels(axes, layer.kernel_size, stride, layer.padding, getattr(layer, "dilation", 1))


def kernels_of_call(call: Call, positions: Positions) -> tuple[Kernel, ...]:
    """Per axis the kernel of a call of a convolution or of pooling."""
    name = call.function
    if positions is Positions.POOLED:
        first = 2 if name.startswith("lp") else 1
        size = call.argument(first, "kernel_size")
        stride = call.argument(first + 1, "stride")
        padding = 0 if name.startswith("lp") else call.argument(3, "padding", 0)
        dilation = call.argument(4, "dilation", 1) if name.startswith("max") else 1
        stride = size if stride is None or stride in ([], ()) else stride
        return _kernels(int(re.findall(r"(\d)d", name)[0]), size, stride, padding, dilation)
    size = tuple(call.argument(1, "weight").shape[2:])
    stride_at, padding_at = (4, 3) if name == "mkldnn_convolution" else (3, 4)
    return _kernels(
        len(size),
        size,
        call.argument(stride_at, "stride", 1),
        call.argument(padding_at, "padding", 0),
        call.argument(7 if positions is Positions.TRANSPOSED_CONVOLVED else 5, "dilation", 1),
    )


def _kernels(axes: int, size: Any, stride: Any, padding: Any, dilation: Any) -> tuple[Kernel, ...]:
    before = 0 if isinstance(padding, str) else padding
    settings = (per_axis(setting, axes) for setting in (size, stride, before, dilation))
    kernels = [Kernel(*setting) for setting in zip(*settings, strict=True)]
    if padding == "same":
        return tuple(Kernel(k.size, k.stride, k.span // 2, k.dilation) for k in kernels)
    return tuple(kernels)


def per_axis(setting: int | Sequence[int], axes: int) -> tuple[int, ...]:
    """A setting of a layer, given once or for each axis, for each axis."""
    if isinstance(setting, int):
        return (setting,) * axes
    return tuple(int(one) for one in (setting if len(setting) > 1 else [setting[0]] * axes))
