"""The same network in fewer and smaller steps.

All of it is exact but for rounding: the scores differ by some 1e-6 of their size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from SaliencyExplain.attribution.incremental.layer_operations import (
    Convolution,
    Normalisation,
    Pool,
)
from SaliencyExplain.attribution.incremental.operations import Pointwise, Step

#: Where the limit of a clamp is larger than this, the normalisation is not folded into it:
#: what is subtracted again would cost more digits than are left.
_LARGEST_LIMIT = 1e3


def fold(steps: Sequence[Step]) -> list[Step]:
    """Folds normalisations and activations into convolutions; shares no step with ``steps``.

    Args:
        steps: What :func:`network_steps` gave.
    """
    copies: dict[Step, Step] = {}
    for step in steps:
        sources = tuple(copies[source] for source in step.sources)
        copies[step] = Step(step.operation, sources, step.shape, step.is_map)
    folded = list(copies.values())
    for rule in (_normalisation_into_convolution, _relu_into_layer, _relu_into_clamp, _pool_first):
        folded = _apply(rule, folded)
    return folded


def pack(steps: Sequence[Step], memory_format: torch.memory_format) -> None:
    """Lays the convolutions' weights out for speed, in a copy of each.

    Args:
        steps: What :func:`fold` gave.
        memory_format: Of the weights: channels last or contiguous.
    """
    for step in steps:
        if isinstance(step.operation, Convolution):
            step.operation = step.operation.pack(step, memory_format)


def weight_bytes(steps: Sequence[Step], network: nn.Module) -> int:
    """What the steps' weights take beside those of the network, which some steps share."""
    weights = (*network.parameters(), *network.buffers())
    own = {tensor.untyped_storage().data_ptr() for tensor in weights}
    packed, plain = 0, {}
    for tensor in (tensor for step in steps for tensor in _tensors(step.operation)):
        if tensor.is_mkldnn:
            # oneDNN rounds channels up to its vectors' length; such a tensor has no storage.
            packed += int(torch.ops.mkldnn._nbytes(tensor))
        elif not tensor.is_meta:
            plain[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    return packed + sum(size for place, size in plain.items() if place not in own)


def _tensors(held: Any) -> Iterator[Tensor]:
    """The tensors of an operation, those of its parts included."""
    if isinstance(held, Tensor):
        yield held
    elif isinstance(held, tuple):
        for one in held:
            yield from _tensors(one)
    elif is_dataclass(held):
        for field in fields(held):
            yield from _tensors(getattr(held, field.name))


#: Looks at a step and the only step that uses it. Where it can, it makes one step do the
#: work of both (or exchanges them), the other's operation being None.
Rule = Callable[[Step, Step], bool]


def _apply(rule: Rule, steps: list[Step]) -> list[Step]:
    """Applies a rule wherever a step has one user and that no other source."""
    users: dict[Step, list[Step]] = {}
    for step in steps:
        for source in step.sources:
            users.setdefault(source, []).append(step)
    gone: dict[Step, Step] = {}
    for step in steps:
        using = users.get(step, [])
        if step in gone or len(using) != 1 or len(using[0].sources) != 1:
            continue
        if rule(step, using[0]):
            gone[using[0]] = step
            # Further rules see the user's users as this step's.
            users[step] = users.get(using[0], [])
    for step in steps:
        step.sources = tuple(_stand_in(source, gone) for source in step.sources)
    return [step for step in steps if step not in gone]


def _stand_in(step: Step, gone: dict[Step, Step]) -> Step:
    while step in gone:
        step = gone[step]
    return step


def _normalisation_into_convolution(step: Step, user: Step) -> bool:
    """W x + b, then s y + t: (s W) x + (s b + t)."""
    convolution, norm = step.operation, user.operation
    if not isinstance(convolution, Convolution) or not isinstance(norm, Normalisation):
        return False
    scale, shift = norm.scale_and_shift()
    weight = convolution.weight.double() * _column(scale, convolution.weight.ndim)
    if convolution.bias is not None:
        shift = shift + convolution.bias.double() * scale
    dtype = convolution.weight.dtype
    step.operation = replace(
        convolution, weight=weight.to(dtype), bias=shift.to(dtype), relu=norm.relu
    )
    return True


def _relu_into_layer(step: Step, user: Step) -> bool:
    """A ReLU done in place on what a convolution or normalisation has just written."""
    operation = step.operation
    if not isinstance(operation, (Convolution, Normalisation)) or operation.relu:
        return False
    if not isinstance(user.operation, Pointwise) or user.operation.function is not torch.relu:
        return False
    step.operation = replace(operation, relu=True)
    return True


def _relu_into_clamp(step: Step, user: Step) -> bool:
    """ReLU(s x + t), then W y + b with a kernel of one cell, as DenseNet has it.

    ReLU(s x + t) is s max(x, -t/s) + t for s > 0 and s min(x, -t/s) + t for s < 0. The
    factor and the addend go into the convolution, and of two passes over the many
    channels of a dense block one is left: the clamp.
    """
    norm, convolution = step.operation, user.operation
    if not isinstance(norm, Normalisation) or not norm.relu:
        return False
    if not isinstance(convolution, Convolution) or not convolution.is_pointwise:
        return False
    if convolution.clamp is not None or any(kernel.padding for kernel in convolution.kernels):
        return False
    scale, shift = norm.scale_and_shift()
    limit = -shift / scale
    if not bool((limit.abs() < _LARGEST_LIMIT).all()):
        return False
    infinite = torch.full_like(limit, torch.inf)
    low = torch.where(scale > 0, limit, -infinite)
    high = torch.where(scale > 0, infinite, limit)
    weight = convolution.weight.double()
    flat = weight.flatten(1)
    bias = flat @ shift
    if convolution.bias is not None:
        bias = bias + convolution.bias.double()
    dtype, axes = convolution.weight.dtype, weight.ndim - 2
    step.operation = replace(
        convolution,
        weight=(flat * scale).reshape(weight.shape).to(dtype),
        bias=bias.to(dtype),
        clamp=(_channels(low, axes).to(dtype), _channels(high, axes).to(dtype)),
    )
    step.shape = user.shape
    return True


def _pool_first(step: Step, user: Step) -> bool:
    """Averages before a convolution with a kernel of one cell, not after it.

    Both are linear, so they change places; an average over 2^3 cells leaves an eighth
    of the convolution.
    """
    convolution, pool = step.operation, user.operation
    if not isinstance(convolution, Convolution) or not isinstance(pool, Pool) or not pool.average:
        return False
    if not convolution.is_pointwise or convolution.relu or convolution.pool is not None:
        return False
    if any(kernel.padding for kernel in pool.kernels) or pool.settings["divisor_override"]:
        return False
    step.operation = replace(convolution, pool=pool, kernels=pool.kernels)
    step.shape = user.shape
    return True


def _column(values: Tensor, axes: int) -> Tensor:
    return values.reshape(-1, *[1] * (axes - 1))


def _channels(values: Tensor, axes: int) -> Tensor:
    return values.reshape(1, -1, *[1] * axes)
