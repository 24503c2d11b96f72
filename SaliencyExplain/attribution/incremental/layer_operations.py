"""Operations made of torch's layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from SaliencyExplain.attribution.graph.kernels import Kernel, kernels_of_module
from SaliencyExplain.attribution.incremental.operations import (
    Batch,
    Local,
    Operation,
    Pointwise,
    Step,
    Windowed,
)
from SaliencyExplain.attribution.incremental.short_filter import KERNEL, ShortFilter, pays

_CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {2: F.conv2d, 3: F.conv3d}


@dataclass(eq=False)
class Convolution(Windowed):
    """A convolution that pads with zeros, before which values may be clamped.

    Attributes:
        weight: ``(out, in / groups, *kernel)``; of a packed one the shape alone.
        bias: ``(out,)`` or None.
        padding: As the layer has it, for the whole map.
        groups: Of channels.
        clamp: Lower and upper limit of each input channel, ``(1, in, 1, ...)``, or None.
        pool: An average pooling between the clamp and the convolution, which then has
            a kernel of one cell; ``kernels`` are the pooling's.
        relu: Whether a ReLU follows.
        packed: The weight in the form in which oneDNN computes, if it does; see :meth:`pack`.
        short: The same with fewer multiplications, where that is faster: with ``packed``
            beside it, for one thread only.
    """

    weight: Tensor
    bias: Tensor | None
    kernels: tuple[Kernel, ...]
    padding: tuple[int, ...] | str
    groups: int
    clamp: tuple[Tensor, Tensor] | None = None
    pool: Pool | None = None
    relu: bool = False
    packed: Tensor | None = None
    short: ShortFilter | None = None

    @classmethod
    def of(cls, layer: nn.Conv2d | nn.Conv3d) -> Convolution | None:
        """That of a layer, its weights shared; None: it does not pad with zeros."""
        if layer.padding_mode != "zeros":
            return None
        kernels = kernels_of_module(layer, len(layer.kernel_size))
        return cls(
            weight=layer.weight.detach(),
            bias=None if layer.bias is None else layer.bias.detach(),
            kernels=kernels,
            padding=(
                layer.padding
                if isinstance(layer.padding, str)
                else tuple(kernel.padding for kernel in kernels)
            ),
            groups=layer.groups,
        )

    @property
    def is_pointwise(self) -> bool:
        """Whether it looks at one cell only."""
        return self.groups == 1 and all(kernel == Kernel() for kernel in self.kernels)

    def cost(self, step: Step) -> float:
        """See :class:`Operation`."""
        return float(self.weight.numel())

    def whole(self, values: Tensor) -> Tensor:
        """See :class:`Windowed`."""
        return self._apply(values, self.padding)

    def inner(self, values: Tensor) -> Tensor:
        """See :class:`Windowed`."""
        return self._apply(values, 0)

    def _apply(self, values: Tensor, padding: Any) -> Tensor:
        if self.clamp is not None:
            values = torch.clamp(values, *self.clamp)
        if self.pool is not None:
            values = self.pool.inner(values)
        if self.short is not None and (self.packed is None or torch.get_num_threads() == 1):
            borders = padding or (0,) * len(self.kernels)
            return self.short(values, borders, self.bias, self.relu)
        if self.packed is not None:
            return self._packed(values, padding)
        if self.pool is not None or (
            self.is_pointwise and not any(kernel.padding for kernel in self.kernels)
        ):
            out = self._mix(values)
        else:
            out = self._convolve(values, padding)
        return out.relu_() if self.relu else out

    def pack(self, step: Step, memory_format: torch.memory_format) -> Convolution:
        """The same with its weight laid out for speed, for maps of that memory format.

        oneDNN would bring the weight into its own form at each call, which takes half of the
        time for a box of some 6^3 cells with 512 channels. It also does the ReLU while it
        writes, and a kernel of one cell a quarter faster than a product of matrices.
        """
        weight = self.weight.contiguous(memory_format=memory_format)
        if not _has_onednn(weight) or isinstance(self.padding, str):
            return replace(self, weight=weight)
        # Of the weight itself only the shape is needed then; it would be held twice.
        shape = torch.empty(weight.shape, device="meta")
        if math.prod(weight.shape[2:]) == 1:
            # The form for another size of the map can be ten times slower than none.
            return replace(self, weight=shape, packed=weight)
        stride, dilation = self._geometry()
        size, short = step.sources[0].size, None
        if self._is_short(step):
            short = ShortFilter.of(weight, stride, self.padding, dilation, size)
            if short.gains_shared:
                return replace(self, weight=shape, short=short)
        packed = torch.ops.mkldnn._reorder_convolution_weight(
            weight,
            list(self.padding),
            stride,
            dilation,
            self.groups,
            (1, weight.shape[1] * self.groups, *size),
        )
        return replace(self, weight=shape, packed=packed, short=short)

    def _is_short(self, step: Step) -> bool:
        """Whether sums before and after save more products than they cost."""
        along = self.kernels[0]
        if self.groups > 1 or along != Kernel(KERNEL, 1, along.padding, 1):
            return False
        return pays(self.weight.shape, step.size[0], along.padding)

    def _geometry(self) -> tuple[list[int], list[int]]:
        """Stride and dilation of the convolution itself."""
        if self.pool is not None:
            return [1] * len(self.kernels), [1] * len(self.kernels)
        return [k.stride for k in self.kernels], [k.dilation for k in self.kernels]

    def _packed(self, values: Tensor, padding: Any) -> Tensor:
        stride, dilation = self._geometry()
        return torch.ops.mkldnn._convolution_pointwise(
            values,
            self.packed,
            self.bias,
            list(padding) if padding and self.pool is None else [0] * len(stride),
            stride,
            dilation,
            self.groups,
            "relu" if self.relu else "none",
            [None],
            "",
        )

    def _mix(self, values: Tensor) -> Tensor:
        """A kernel of one cell is a product of matrices."""
        last = values.movedim(1, -1)
        flat = last.reshape(-1, last.shape[-1])
        weight = self.weight.flatten(1).T
        out = flat @ weight if self.bias is None else torch.addmm(self.bias, flat, weight)
        return out.reshape(*last.shape[:-1], -1).movedim(-1, 1)

    def _convolve(self, values: Tensor, padding: Any) -> Tensor:
        stride, dilation = self._geometry()
        convolve = _CONVOLUTIONS[len(self.kernels)]
        return convolve(values, self.weight, self.bias, stride, padding, dilation, self.groups)


@dataclass(eq=False)
class Pool(Windowed):
    """Maximum or average pooling.

    Attributes:
        pool: The function of torch.
        settings: Its arguments beside kernel and stride, for whole maps.
        inner_settings: Those for inputs that are cut out, padding included.
    """

    pool: Callable[..., Tensor]
    kernels: tuple[Kernel, ...]
    settings: dict[str, Any]
    inner_settings: dict[str, Any]
    fill: float = 0.0

    @classmethod
    def of_maximum(cls, layer: nn.MaxPool2d | nn.MaxPool3d, axes: int) -> Pool:
        """That of a layer of maximum pooling."""
        kernels = kernels_of_module(layer, axes)
        dilation = {"dilation": [kernel.dilation for kernel in kernels]}
        whole = {"padding": [kernel.padding for kernel in kernels], "ceil_mode": layer.ceil_mode}
        pool = F.max_pool2d if axes == 2 else F.max_pool3d
        return cls(pool, kernels, dilation | whole, dilation, fill=-np.inf)

    @classmethod
    def of_average(cls, layer: nn.AvgPool2d | nn.AvgPool3d, axes: int) -> Pool | None:
        """That of a layer of average pooling; None: its divisor depends on the place."""
        kernels = kernels_of_module(layer, axes)
        padding = [kernel.padding for kernel in kernels]
        if (any(padding) and not layer.count_include_pad) or layer.ceil_mode:
            return None
        divisor = {"divisor_override": layer.divisor_override}
        pool = F.avg_pool2d if axes == 2 else F.avg_pool3d
        return cls(pool, kernels, divisor | {"padding": padding}, divisor)

    @property
    def average(self) -> bool:
        """Whether it averages, which is linear."""
        return self.pool in (F.avg_pool2d, F.avg_pool3d)

    def whole(self, values: Tensor) -> Tensor:
        """See :class:`Windowed`."""
        return self._apply(values, self.settings)

    def inner(self, values: Tensor) -> Tensor:
        """See :class:`Windowed`."""
        if self.average and all(kernel.size == kernel.stride for kernel in self.kernels):
            return self._average(values)
        return self._apply(values, self.inner_settings)

    def _average(self, values: Tensor) -> Tensor:
        """Windows beside each other, summed axis by axis.

        torch's avg_pool3d copies maps with the channels last to another layout and back.
        """
        for axis, kernel in enumerate(self.kernels, start=2):
            cells = values.shape[axis] // kernel.size * kernel.size
            parts = [
                values[(slice(None),) * axis + (slice(start, cells, kernel.size),)]
                for start in range(kernel.size)
            ]
            values = sum(parts[2:], parts[0] + parts[1]) if len(parts) > 1 else parts[0]
        cells = math.prod(kernel.size for kernel in self.kernels)
        return values / (self.settings["divisor_override"] or cells)

    def _apply(self, values: Tensor, settings: dict[str, Any]) -> Tensor:
        sizes, strides = [k.size for k in self.kernels], [k.stride for k in self.kernels]
        return self.pool(values, sizes, strides, **settings)


@dataclass(eq=False)
class Pad(Windowed):
    """Padding with a constant.

    Attributes:
        padding: As ``torch.nn.functional.pad`` has it, the last axis first.
        kernels: Per axis the padding before the first cell.
        fill: The constant.
    """

    padding: tuple[int, ...]
    kernels: tuple[Kernel, ...]
    fill: float

    def whole(self, values: Tensor) -> Tensor:
        """See :class:`Windowed`."""
        return F.pad(values, self.padding, value=self.fill)

    def inner(self, values: Tensor) -> Tensor:
        """See :class:`Windowed`."""
        return values.clone()  # others may read the map that this was cut out of


@dataclass(eq=False)
class Normalisation(Local):
    """Batch normalisation with its running statistics, and a ReLU that may follow."""

    mean: Tensor
    variance: Tensor
    weight: Tensor | None
    bias: Tensor | None
    eps: float
    relu: bool = False

    def run(self, step: Step, batch: Batch) -> Tensor:
        """See :class:`Operation`."""
        values = batch.take(step.sources[0], batch.boxes(step))
        out = F.batch_norm(
            values, self.mean, self.variance, self.weight, self.bias, False, 0.0, self.eps
        )
        return out.relu_() if self.relu else out

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """The factor and the addend of each channel, in float64."""
        scale = (self.variance.double() + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight.detach().double()
        shift = -self.mean.double() * scale
        return scale, shift if self.bias is None else shift + self.bias.detach().double()


def _has_onednn(values: Tensor) -> bool:
    """Whether oneDNN, torch's library for convolutions on CPUs, takes these values."""
    return (
        values.device.type == "cpu"
        and values.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
        # Not documented, but what torch.compile makes of a convolution (torch 2.1 and later).
        and hasattr(torch.ops.mkldnn, "_reorder_convolution_weight")
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    )


def operation_of(layer: nn.Module, axes: int) -> Operation | None:
    """The operation of a layer in eval mode; None: it is none that works near a cell only."""
    if isinstance(layer, (nn.Conv2d, nn.Conv3d)):
        return Convolution.of(layer)
    if isinstance(layer, (nn.BatchNorm2d, nn.BatchNorm3d)):
        if layer.running_mean is None or layer.running_var is None:
            return None
        weight = None if layer.weight is None else layer.weight.detach()
        bias = None if layer.bias is None else layer.bias.detach()
        return Normalisation(layer.running_mean, layer.running_var, weight, bias, layer.eps)
    if isinstance(layer, (nn.MaxPool2d, nn.MaxPool3d)):
        return None if layer.return_indices else Pool.of_maximum(layer, axes)
    if isinstance(layer, (nn.AvgPool2d, nn.AvgPool3d)):
        return Pool.of_average(layer, axes)
    if isinstance(layer, (nn.ConstantPad2d, nn.ConstantPad3d)):
        padding = tuple(int(p) for p in layer.padding)
        return Pad(padding, kernels_of_module(layer, axes), float(layer.value))
    return None


#: By name, activation functions and how to compute them in place.
_IN_PLACE: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "relu": (torch.relu, torch.relu_),
    "sigmoid": (torch.sigmoid, torch.sigmoid_),
    "tanh": (torch.tanh, torch.tanh_),
    "silu": (F.silu, partial(F.silu, inplace=True)),
}


def pointwise(name: str, function: Callable[[Tensor], Tensor]) -> Pointwise:
    """The operation of a function that works cell by cell and leaves its argument as it is."""
    return Pointwise(*_IN_PLACE.get(name, (function,)))
