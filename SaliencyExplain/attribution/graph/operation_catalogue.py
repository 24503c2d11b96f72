"""The operations of networks: what each does to values and to positions.

One table for all that must know it: the rules of relevance and DeepLIFT, the layouts of feature
maps, incremental inference, and the search for feature layers. An operation has the same entry
whether it is written as a module or as a function.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache
from typing import Any

from torch import fx, nn


class Kind(Enum):
    """What an operation does to values."""

    #: Gives its input, converted to another type or device at most.
    IDENTITY = auto()
    #: Moves, copies, drops or concatenates elements.
    SHAPE = auto()
    #: A convolution or a dense layer: weights and a bias.
    LINEAR = auto()
    #: A mean or a sum over elements.
    MEAN = auto()
    #: The largest element of each window.
    MAXIMUM = auto()
    #: Sum or difference of two tensors.
    SUM = auto()
    #: Product of two tensors.
    PRODUCT = auto()
    #: Quotient of two tensors.
    QUOTIENT = auto()
    #: A tensor times or plus something that does not depend on the image.
    SCALE = auto()
    #: An activation function: element by element, 0 for 0.
    ACTIVATION = auto()
    #: An activation function: element by element, something else for 0.
    CURVE = auto()
    #: Element by element, and no activation function that relevance or DeepLIFT has a rule for.
    ELEMENTWISE = auto()
    #: Normalisation with fixed statistics.
    BATCH_NORMALISATION = auto()
    #: Normalisation with the statistics of the image itself.
    NORMALISATION = auto()
    #: Anything else.
    OTHER = auto()


#: Kinds of operations on one tensor whose output at a position is made of the input there.
POINTWISE_KINDS = (Kind.ACTIVATION, Kind.CURVE, Kind.ELEMENTWISE, Kind.SCALE, Kind.QUOTIENT)


class Positions(Enum):
    """Which input positions an output position is made of, and where it lies."""

    #: The same position of each input.
    SAME = auto()
    #: Several positions; each output lies where its input was.
    NORMALISED = auto()
    RESHAPED = auto()
    PERMUTED = auto()
    #: Positions along some axes are combined into one.
    REDUCED = auto()
    #: A part of the positions.
    TAKEN = auto()
    #: Several outputs, each a part of the positions.
    DIVIDED = auto()
    CONCATENATED = auto()
    STACKED = auto()
    PADDED = auto()
    FLIPPED = auto()
    CONVOLVED = auto()
    TRANSPOSED_CONVOLVED = auto()
    POOLED = auto()
    ADAPTIVELY_POOLED = auto()
    RESIZED = auto()
    #: All along the last axis; the other axes stay.
    LAST_AXIS = auto()
    #: A product of matrices or the like.
    MATRIX = auto()
    #: Anything else.
    OTHER = auto()


@dataclass(frozen=True)
class Family:
    """What is known of an operation.

    Attributes:
        kind: What it does to values.
        positions: What it does to positions.
        rectifies: Whether what is behind it is about 0 where a feature is absent. A sigmoid does
            not rectify: it is a gate or a probability.
    """

    kind: Kind
    positions: Positions
    rectifies: bool = False

    @property
    def is_convolution(self) -> bool:
        """Whether it is a convolution."""
        return self.positions in (Positions.CONVOLVED, Positions.TRANSPOSED_CONVOLVED)

    @property
    def has_weights(self) -> bool:
        """Whether it mixes channels with weights, as convolutions and linear layers do."""
        return self.is_convolution or self.positions in (Positions.LAST_AXIS, Positions.MATRIX)

    @property
    def keeps_features(self) -> bool:
        """Whether the tensor before serves as feature map as well: finer, or laid out otherwise."""
        return self.kind is Kind.IDENTITY or self.positions in (
            *(Positions.POOLED, Positions.ADAPTIVELY_POOLED, Positions.RESHAPED),
            *(Positions.PERMUTED, Positions.PADDED),
        )


_RECTIFYING = "relu relu6 leaky_relu prelu rrelu elu selu celu gelu silu mish hardswish swish"
_RECTIFYING += " memoryefficientswish"

#: Activation functions behind which an absent feature is about 0.
RECTIFIERS = frozenset([*_RECTIFYING.split(), "softplus", "threshold"])

#: The names of functions and of modules without capitals, number of axes and underscores.
_TABLE: dict[Positions, dict[Kind, str]] = {
    Positions.SAME: {
        Kind.ACTIVATION: _RECTIFYING + " hardtanh tanh softsign square",
        Kind.CURVE: "softplus sigmoid hardsigmoid logsigmoid exp",
        Kind.ELEMENTWISE: "threshold softshrink hardshrink tanhshrink expm1 log log1p sqrt rsqrt "
        "abs pow rpow clamp clip clamp_min clamp_max sin cos erf sign reciprocal nan_to_num logit",
        Kind.SCALE: "neg",
        Kind.SUM: "add radd iadd sub rsub isub subtract",
        Kind.PRODUCT: "mul rmul imul multiply",
        Kind.QUOTIENT: "div divide truediv itruediv true_divide rtruediv",
        Kind.IDENTITY: "clone detach contiguous identity to type type_as float double half "
        "bfloat16 cpu cuda data requires_grad alias dropout feature_dropout alpha_dropout "
        "feature_alpha_dropout",
        Kind.SHAPE: "expand expand_as broadcast_to",
        Kind.BATCH_NORMALISATION: "batch_norm",
        Kind.OTHER: "maximum minimum where lerp addcmul addcdiv masked_fill copy fill zero "
        "channel_shuffle",
    },
    Positions.NORMALISED: {
        Kind.NORMALISATION: "instance_norm group_norm layer_norm",
        Kind.OTHER: "softmax log_softmax rms_norm local_response_norm normalize setitem",
    },
    Positions.RESHAPED: {
        Kind.SHAPE: "reshape view flatten unflatten squeeze unsqueeze reshape_as view_as ravel"
    },
    Positions.PERMUTED: {
        Kind.SHAPE: "permute transpose swapaxes swapdims movedim moveaxis t T mT H adjoint"
    },
    Positions.TAKEN: {Kind.SHAPE: "getitem select narrow"},
    Positions.DIVIDED: {Kind.SHAPE: "chunk split split_with_sizes tensor_split unbind"},
    Positions.CONCATENATED: {Kind.SHAPE: "cat concat concatenate"},
    Positions.STACKED: {Kind.SHAPE: "stack"},
    Positions.PADDED: {Kind.SHAPE: "pad constantpad reflectionpad replicationpad circularpad"},
    Positions.FLIPPED: {Kind.SHAPE: "flip"},
    Positions.REDUCED: {
        Kind.MEAN: "mean sum",
        Kind.MAXIMUM: "amax",
        Kind.OTHER: "nanmean nansum amin max min logsumexp std var prod norm std_mean var_mean "
        "median all any argmax argmin vector_norm",
    },
    Positions.POOLED: {Kind.MEAN: "avg_pool", Kind.MAXIMUM: "max_pool", Kind.OTHER: "lp_pool"},
    Positions.ADAPTIVELY_POOLED: {
        Kind.MEAN: "adaptive_avg_pool",
        Kind.MAXIMUM: "adaptive_max_pool",
    },
    Positions.RESIZED: {Kind.OTHER: "interpolate upsample"},
    Positions.CONVOLVED: {Kind.LINEAR: "conv convolution mkldnn_convolution"},
    Positions.TRANSPOSED_CONVOLVED: {Kind.LINEAR: "conv_transpose"},
    Positions.LAST_AXIS: {
        Kind.LINEAR: "linear",
        # Of attention: the answer to a query lies where the query lies.
        Kind.OTHER: "lstm gru rnn_tanh rnn_relu scaled_dot_product_attention "
        "transformer_encoder_layer_fwd",
    },
    Positions.MATRIX: {
        Kind.OTHER: "matmul rmatmul mm bmm addmm baddbmm einsum bilinear "
        "multi_head_attention_forward"
    },
    Positions.OTHER: {Kind.SHAPE: "size dim getattr fliplr flipud roll rot90 tile"},
}

#: Where the classes come from whose names are known.
_LIBRARIES = ("torch.nn.modules.", "monai.networks.blocks.activation")

#: Functions behind ``+=`` and the like.
_IN_PLACE = ("iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow")


def _key(name: str) -> str:
    return re.sub(r"_with_indices|[123]d(?=_|$)|_", "", name)


_FAMILIES = {
    _key(name): Family(kind, positions, name in RECTIFIERS)
    for positions, kinds in _TABLE.items()
    for kind, names in kinds.items()
    for name in names.split()
}
_UNKNOWN = Family(Kind.OTHER, Positions.OTHER)


@cache
def family_of_function(name: str) -> Family:
    """The family of a function or method of this name, without underscores at its ends."""
    return _FAMILIES.get(_key(name), _UNKNOWN)


def family_of_class(module: type[nn.Module]) -> Family:
    """The family of a class of modules, or of the nearest known one that it is derived from."""
    bases = (base for base in module.__mro__ if base.__module__.startswith(_LIBRARIES))
    families = (family_of_function(base.__name__.lower()) for base in bases)
    return next((family for family in families if family is not _UNKNOWN), _UNKNOWN)


def family_of(node: fx.Node, module: nn.Module | None) -> Family:
    """The family of a node of a traced network; ``module``: its module, where it calls one."""
    if module is not None:
        return family_of_class(type(module))
    is_call = node.op in ("call_function", "call_method")
    return family_of_function(name_of(node)) if is_call else _UNKNOWN


def function_name(target: Any) -> str:
    """A function's or method's name without overload and without underscores at its ends."""
    return _written_name(target).strip("_")


def name_of(node: fx.Node) -> str:
    """The name of a node's function or method, without underscores at its ends."""
    return function_name(node.target)


def overwrites(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a node writes its output into its first input."""
    if module is not None:
        return bool(getattr(module, "inplace", False))
    name = _written_name(node.target)
    is_in_place = name.endswith("_") and not name.endswith("__")
    return bool(node.kwargs.get("inplace")) or is_in_place or name in _IN_PLACE


def kind_of(node: fx.Node, module: nn.Module | None, carriers: int) -> Kind:
    """The kind of a node, of whose inputs ``carriers`` depend on the image."""
    kind = family_of(node, module).kind
    if module is not None:
        return kind
    if kind in (Kind.SUM, Kind.PRODUCT) and carriers != 2:
        is_square = len(node.args) > 1 and node.args[0] is node.args[1] and kind is Kind.PRODUCT
        return Kind.ACTIVATION if is_square else Kind.SCALE
    if kind is Kind.QUOTIENT:
        is_divided = carriers == 1 and isinstance(node.args[0], fx.Node)
        by_number = len(node.args) > 1 and isinstance(node.args[1], (int, float))
        return Kind.SCALE if is_divided and by_number else kind
    if kind is Kind.LINEAR and carriers > 1:
        return Kind.OTHER  # weights that depend on the image
    return kind


def _written_name(target: Any) -> str:
    if isinstance(target, str):
        return target
    return str(getattr(target, "__name__", target)).partition(".")[0]
