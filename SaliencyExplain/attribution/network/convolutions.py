"""Faster convolutions and batch norms of frozen networks on a CPU.

Equal to torch's but for rounding. Four things cost most of a gradient there:

* For a single image whose map is small torch leaves oneDNN, its library for convolutions,
  for one that copies the input and is up to six times slower in 3D
  (``ConvParams::use_mkldnn`` in ATen/native/Convolution.cpp), forward and backward.
* oneDNN computes channels by the sixteen. The gradient of an image with one channel, of
  which the first layer has many and large kernels, wastes fifteen of them: a third of the
  whole gradient of MONAI's ResNet18.
* torch keeps each layer's input for the weights' gradient, which is not needed.
* For the same reason it sums over the input and the gradient of each batch norm: a tenth of
  DenseNet121's gradient in 2D.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_CONVOLUTIONS: dict[Callable[..., Any], int] = {functional.conv2d: 2, functional.conv3d: 3}

#: Numbers in an input without its last axis up to which torch takes no oneDNN.
_SMALL = 20480

#: Output channels up to which the copies that torch makes instead cost more than the
#: product of matrices that follows (256 at 8^3 cells: 26 ms against 16; 512 at 4^3: 15, 24).
_FEW_OUTPUTS = 256

#: Images from which on what Python adds to the short layers of a 2D network is less than what
#: its batch norms gain (4: a tenth less time; 1: a twentieth more).
_IMAGES_IN_2D = 4

#: Channels that oneDNN computes at once.
_LANES = 16

#: Multiplications that blocks must save for their rearranging to pay.
_SAVED = 2.0

Ints = tuple[int, ...]


@contextmanager
def frozen_convolutions(network: nn.Module, images: Tensor) -> Iterator[None]:
    """Lets a network compute its convolutions in the ways that are best for these images.

    Within :class:`FrozenConvolutions` each function of torch costs some microseconds, which
    for the many short layers of a 2D network are a tenth of a forward pass. For few images
    only its first layer gains, and only where the gradient of the image is wanted.

    Args:
        network: Whose layers run.
        images: ``(B, C, *S)``; those of other devices than the CPU have no need of it.
    """
    backward = torch.is_grad_enabled() and images.requires_grad
    if images.device.type != "cpu" or (images.ndim == 4 and not backward):
        yield
    elif images.ndim != 4 or len(images) >= _IMAGES_IN_2D:
        with FrozenConvolutions():
            yield
    else:
        layers = [
            layer
            for layer in network.modules()
            if type(layer) is nn.Conv2d and _gains(layer, images.shape[1])
        ]
        try:
            for layer in layers:
                layer.__dict__["_conv_forward"] = partial(_convolve_layer, layer)
            yield
        finally:
            for layer in layers:
                layer.__dict__.pop("_conv_forward", None)


def _gains(layer: nn.Conv2d, channels: int) -> bool:
    return (
        layer.in_channels == channels
        and layer.padding_mode == "zeros"
        and _block_pays(channels, layer.kernel_size, _each(layer.stride, 2))
    )


def _convolve_layer(
    layer: nn.Conv2d, values: Tensor, weight: Tensor, bias: Tensor | None
) -> Tensor:
    settings = (layer.stride, layer.padding, layer.dilation, layer.groups)
    return _convolve(functional.conv2d, values, weight, bias, *settings)


class FrozenConvolutions(TorchFunctionMode):
    """Computes each convolution and batch norm that runs meanwhile in the best way for it.

    Those of other devices and types, of weights that ask for a gradient, with padding in
    words or within ``torch.autocast`` run as they are.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _CONVOLUTIONS:
            return _convolve(func, *args, **kwargs)
        if func is functional.batch_norm:
            return _normalise(*args, **kwargs)
        return func(*args, **kwargs)


def _convolve(
    func: Callable[..., Tensor],
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    axes = _CONVOLUTIONS[func]
    if isinstance(padding, str) or not _is_fit(axes, input, weight, bias):
        return func(input, weight, bias, stride, padding, dilation, groups)
    settings = (_each(stride, axes), _each(padding, axes), _each(dilation, axes), groups)
    if not (torch.is_grad_enabled() and input.requires_grad):
        return _forward(input, weight, bias, *settings)
    if axes == 2 and not _block_pays(input.shape[1], weight.shape[2:], settings[0]):
        # 2D layers are so short that what Python adds shows: 6 % of DenseNet121's gradient.
        return func(input, weight, bias, *settings)
    result: Tensor = _Convolution.apply(input, weight, bias, *settings)
    return result


def _normalise(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    settings = (running_mean, running_var, weight, bias)
    if (
        training
        or not (torch.is_grad_enabled() and input.requires_grad)
        or input.device.type != "cpu"
        or torch.is_autocast_enabled("cpu")
        or running_mean is None
        or any(values is not None and values.requires_grad for values in settings)
        or any(values is not None and values.dtype != input.dtype for values in settings)
    ):
        return functional.batch_norm(input, *settings, training, momentum, eps)
    result: Tensor = _Normalisation.apply(input, *settings, eps)
    return result


class _Normalisation(torch.autograd.Function):
    """A batch norm with its running statistics: a factor and an addend of each channel."""

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        mean: Tensor,
        variance: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
    ) -> Tensor:
        scale = torch.rsqrt(variance + eps)
        ctx.save_for_backward(scale if weight is None else scale * weight)
        return functional.batch_norm(values, mean, variance, weight, bias, False, 0.0, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (scale,) = ctx.saved_tensors
        (gradient,) = gradients
        return (gradient * scale.reshape(-1, *[1] * (gradient.ndim - 2)), *(None,) * 5)


def _is_fit(axes: int, values: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    return (
        values.ndim == axes + 2
        and values.device.type == "cpu"
        and values.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and not (weight.requires_grad and torch.is_grad_enabled())
        and not (bias is not None and bias.requires_grad and torch.is_grad_enabled())
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
    )


def _is_small(shape: Sequence[int], weight: Tensor) -> bool:
    """Whether torch would not take oneDNN, though it is better (in 2D both are alike)."""
    is_deep = len(shape) == 5 and weight[0, 0].numel() > 1
    return is_deep and shape[0] == 1 and math.prod(shape[:-1]) <= _SMALL


def _forward(
    values: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int,
) -> Tensor:
    if _is_small(values.shape, weight):
        return torch.mkldnn_convolution(values, weight, bias, padding, stride, dilation, groups)
    return torch.convolution(
        values, weight, bias, stride, padding, dilation, False, (0,) * len(stride), groups
    )


class _Convolution(torch.autograd.Function):
    """A convolution whose weights are fixed, so that its input need not be kept."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, weight: Tensor, bias: Tensor | None, *settings: Any
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.shape, ctx.settings = values.shape, settings
        return _forward(values, weight, bias, *settings)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        gradient = input_gradient(gradients[0], weight, tuple(ctx.shape), *ctx.settings)
        return (gradient, *(None,) * (2 + len(ctx.settings)))


def input_gradient(
    gradient: Tensor,
    weight: Tensor,
    shape: Ints,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int,
) -> Tensor:
    """The gradient of a convolution's input from that of its output.

    Args:
        gradient: Of the output, ``(B, out, *s)``.
        weight: ``(out, in / groups, *kernel)``.
        shape: Of the input, ``(B, in, *S)``.
        stride: Of the convolution, per axis, as the others.
        padding: See there.
        dilation: See there.
        groups: Of channels.

    Returns:
        ``(B, in, *S)``.
    """
    ones, kernel = (1,) * len(stride), weight.shape[2:]
    if groups == 1 and dilation == ones and _block_pays(shape[1], kernel, stride):
        return _in_blocks(gradient, weight, shape, stride, padding)
    rest = tuple(d * (k - 1) - p for k, p, d in zip(kernel, padding, dilation, strict=True))
    few = _is_small(shape, weight) and len(weight) <= _FEW_OUTPUTS
    if few and groups == 1 and stride == ones and min(rest) >= 0:
        # The convolution with the mirrored kernel.
        mirrored = weight.flip(*range(2, weight.ndim)).transpose(0, 1).contiguous()
        return torch.mkldnn_convolution(gradient, mirrored, None, rest, ones, dilation, 1)
    found: Tensor = torch.ops.aten.convolution_backward(
        gradient,
        weight.new_empty(1).expand(shape),
        weight,
        None,
        stride,
        padding,
        dilation,
        False,
        (0,) * len(stride),
        groups,
        (True, False, False),
    )[0]
    return found


def _block_pays(channels: int, kernel: Sequence[int], stride: Ints) -> bool:
    """Whether the channels are so few, and the kernels so large, that blocks save much."""
    if channels >= _LANES or any(k < s for k, s in zip(kernel, stride, strict=True)):
        return False
    block = _block(channels, stride)
    cells = math.prod(block)
    computed = math.ceil(channels * cells / _LANES) * _LANES / cells
    for k, s, b in zip(kernel, stride, block, strict=True):
        computed *= (k + b - 1) / s
    return _SAVED * computed <= _LANES * math.prod(
        k / s for k, s in zip(kernel, stride, strict=True)
    )


def _block(channels: int, stride: Ints) -> list[int]:
    """Voxels of a block per axis: a multiple of the stride, filling the lanes."""
    block = list(stride)
    while channels * math.prod(block) < _LANES:
        # The shortest axis, the last of equals: neighbours in memory.
        axis = min(range(len(block)), key=lambda a: (block[a] / stride[a], -a))
        block[axis] *= 2
    return block


def _in_blocks(
    gradient: Tensor, weight: Tensor, shape: Ints, stride: Ints, padding: Ints
) -> Tensor:
    """Few channels of many voxels as many channels of few blocks of voxels.

    Along an axis the input's voxel x = b q + r, with r the place in block q of b voxels,
    takes w[t] g[y] of all outputs y with x = s y + t - p, and y spans the same window
    relative to (b / s) q for each q: a convolution of g with the stride b / s, whose
    channels are the places r. With kernels of k voxels and blocks of b it multiplies
    (k + b - 1) / k times as much along an axis as is needed, instead of sixteen times.
    """
    kernel, axes = tuple(weight.shape[2:]), range(len(stride))
    block = _block(shape[1], stride)
    step = [block[a] // stride[a] for a in axes]
    blocks = [-(-shape[2 + a] // block[a]) for a in axes]
    low, span, taps = _taps(kernel, stride, padding, tuple(block))
    with_zero = functional.pad(weight.flatten(2), (0, 1))
    mixed = with_zero.index_select(2, taps).reshape(*weight.shape[:2], -1, *span)
    mixed = mixed.permute(1, 2, 0, *range(3, mixed.ndim)).reshape(-1, len(weight), *span)

    room = []
    for axis in reversed(axes):
        end = (blocks[axis] - 1) * step[axis] + span[axis] + low[axis]
        room += [-low[axis], end - gradient.shape[2 + axis]]
    convolve = functional.conv2d if len(stride) == 2 else functional.conv3d
    found = convolve(functional.pad(gradient, room), mixed, None, step)
    found = found.reshape(len(gradient), shape[1], *block, *blocks)
    order = [n for axis in axes for n in (2 + len(stride) + axis, 2 + axis)]
    found = found.permute(0, 1, *order)
    sizes = [count * size for count, size in zip(blocks, block, strict=True)]
    found = found.reshape(*shape[:2], *sizes)
    for axis, size in enumerate(shape[2:], start=2):
        found = found.narrow(axis, 0, size)
    return found.contiguous()


@cache
def _taps(
    kernel: Ints, stride: Ints, padding: Ints, block: Ints
) -> tuple[list[int], list[int], Tensor]:
    """Which weight each place of a block takes from each output in reach.

    Returns:
        Per axis the first output in reach of the first block and how many there are, and
        for each place and output the flat index of the weight; one beyond the last where
        there is none.
    """
    low, span = [], []
    within, flat = torch.tensor(True), torch.tensor(0)
    axes = len(kernel)
    for axis, (k, s, p, b) in enumerate(zip(kernel, stride, padding, block, strict=True)):
        low.append(-((k - 1 - p) // s))
        span.append((b - 1 + p) // s - low[-1] + 1)
        tap = torch.arange(b)[:, None] + p - s * (low[-1] + torch.arange(span[-1]))
        along = [1] * (2 * axes)
        along[axis], along[axes + axis] = tap.shape
        tap = tap.reshape(along)
        within = within & (tap >= 0) & (tap < k)
        flat = flat * k + tap
    return low, span, torch.where(within, flat, math.prod(kernel)).flatten()


def _each(setting: int | Sequence[int], axes: int) -> Ints:
    return (int(setting),) * axes if isinstance(setting, int) else tuple(int(n) for n in setting)
