"""Calls of torch's functions, and what kind of function each is."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from SaliencyExplain.attribution.graph.tensor_layout import Axis, Layout


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


#: Activation functions: what is behind them is rectified, about 0 where a feature is absent.
RECTIFIERS = words(
    "relu relu6 leaky_relu prelu rrelu elu selu celu gelu silu mish hardswish softplus threshold"
)
#: Position by position: an output at a place depends on the inputs at that place only.
POINTWISE = RECTIFIERS | words(
    "hardsigmoid hardtanh sigmoid logsigmoid tanh softsign softshrink hardshrink "
    "tanhshrink exp expm1 log log1p sqrt rsqrt square abs neg pow rpow clamp clip "
    "clamp_min clamp_max sin cos erf sign reciprocal nan_to_num logit add sub mul div "
    "true_divide multiply subtract divide truediv radd rsub rmul rtruediv iadd isub "
    "imul itruediv maximum minimum where lerp addcmul addcdiv masked_fill clone "
    "detach contiguous to type type_as float double half bfloat16 cpu cuda data "
    "requires_grad alias dropout dropout1d dropout2d dropout3d feature_dropout "
    "alpha_dropout feature_alpha_dropout batch_norm channel_shuffle expand expand_as "
    "broadcast_to copy fill zero"
)
#: The same places, but each output depends on several of them.
NORMALISING = words(
    "softmax log_softmax instance_norm group_norm layer_norm rms_norm local_response_norm normalize"
)
RESHAPING = words("reshape view flatten unflatten squeeze unsqueeze reshape_as view_as ravel")
PERMUTING = words("permute transpose swapaxes swapdims movedim moveaxis t T mT H adjoint")
REDUCING = words(
    "mean sum nanmean nansum amax amin max min logsumexp std var prod norm std_mean "
    "var_mean median all any argmax argmin vector_norm"
)
#: Take a part of the positions.
TAKING = words("getitem select narrow unbind split split_with_sizes chunk")
DIVIDING = frozenset(["chunk", "split", "split_with_sizes", "tensor_split", "unbind"])

CONVOLUTION = re.compile(r"conv[123]d|convolution|mkldnn_convolution")
TRANSPOSED = re.compile(r"conv_transpose[123]d")
POOLING = re.compile(r"(max|avg|lp)_pool[123]d(_with_indices)?")
ADAPTIVE = re.compile(r"adaptive_(max|avg)_pool[123]d(_with_indices)?")

#: Functions after which the tensor before serves as well: finer, or the same otherwise laid out.
_THINNING = re.compile(
    rf"({POOLING.pattern}|{ADAPTIVE.pattern}|dropout|dropout[123]d|feature_dropout|alpha_dropout|"
    "clone|detach|contiguous|alias|reshape|view|flatten|unflatten|squeeze|unsqueeze|permute|"
    "transpose|movedim|to|float|pad)"
)


@dataclass(frozen=True)
class Call:
    """A function that was called, as far as layouts go.

    Attributes:
        function: Its name without underscores at its ends.
        args: As given.
        kwargs: As given.
        layouts: Gives the layout of a tensor that the image reaches; None where it is not known.
        depends: Whether the image reaches a tensor.
    """

    function: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    layouts: Callable[[Tensor], Layout | None]
    depends: Callable[[Tensor], bool]

    def argument(self, place: int, name: str, default: Any = None) -> Any:
        """An argument given by its place or its name."""
        return self.args[place] if len(self.args) > place else self.kwargs.get(name, default)

    @property
    def first(self) -> Layout | None:
        """The layout of the first argument."""
        given = self.argument(0, "input")
        return self.layouts(given) if isinstance(given, Tensor) else None


def is_thinning(function: str) -> bool:
    """Whether it pools, drops, copies or lays out otherwise what it is given."""
    return _THINNING.fullmatch(function) is not None


def is_learnt(function: str) -> bool:
    """Whether it mixes with weights, as convolutions and linear layers do."""
    return is_convolution(function) or function in (
        *("linear", "matmul", "rmatmul", "mm", "bmm", "addmm", "baddbmm", "einsum", "bilinear"),
        *("multi_head_attention_forward", "scaled_dot_product_attention", "lstm", "gru"),
    )


def is_convolution(function: str) -> bool:
    """Whether it is a convolution."""
    return bool(CONVOLUTION.fullmatch(function) or TRANSPOSED.fullmatch(function))


def is_local(call: Call) -> bool:
    """Whether each output position depends on the input at that position only."""
    name = call.function
    if name in POINTWISE | RESHAPING | PERMUTING | DIVIDING or name in (
        *("getitem", "select", "narrow", "cat", "concat", "stack"),
    ):
        return True
    layout = call.first
    if layout is None:
        return False
    last = layout.axes[-1] if layout.axes else Axis()
    if name == "linear":
        return not (last.carries_space or last.has_tokens)
    if name in ("layer_norm", "rms_norm"):
        count = len(call.argument(1, "normalized_shape", ()))
        return not any(axis.carries_space or axis.has_tokens for axis in layout.axes[-count:])
    return False
