"""Which kind of operation a node of a traced network is."""

from __future__ import annotations

from enum import Enum, auto

from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm


class Kind(Enum):
    """What an operation does to the maps that it is given."""

    #: Moves, copies, drops or lays cells beside each other.
    SHAPE = auto()
    #: A convolution or a dense layer: weights and a bias.
    LINEAR = auto()
    #: A mean or a sum over cells.
    MEAN = auto()
    #: The largest cell of each window.
    MAXIMUM = auto()
    #: Sum or difference of two maps.
    SUM = auto()
    #: Product of two maps.
    PRODUCT = auto()
    #: A map times or plus something that the image does not reach.
    SCALE = auto()
    #: Cell by cell, 0 for 0.
    ACTIVATION = auto()
    #: Cell by cell, something else for 0.
    CURVE = auto()
    #: Normalisation with fixed statistics.
    BATCH_NORMALISATION = auto()
    #: Normalisation with the statistics of the image itself.
    NORMALISATION = auto()
    #: Anything else.
    OTHER = auto()


_MODULES: tuple[tuple[Kind, tuple[type[nn.Module], ...]], ...] = (
    (Kind.LINEAR, (_ConvNd, nn.Linear)),
    (Kind.BATCH_NORMALISATION, (_BatchNorm,)),
    (Kind.NORMALISATION, (_InstanceNorm, nn.GroupNorm, nn.LayerNorm)),
    (
        Kind.MEAN,
        (
            *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
            *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
        ),
    ),
    (
        Kind.MAXIMUM,
        (
            *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
            *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
        ),
    ),
    (
        Kind.ACTIVATION,
        (
            *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU),
            *(nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Hardtanh, nn.Tanh, nn.Softsign),
        ),
    ),
    (Kind.CURVE, (nn.Sigmoid, nn.Hardsigmoid, nn.Softplus, nn.LogSigmoid)),
    (
        Kind.SHAPE,
        (
            *(nn.Identity, nn.Flatten, nn.Unflatten),
            *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout),
            *(nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d),
            *(nn.ReplicationPad2d, nn.ReplicationPad3d, nn.ReflectionPad2d, nn.ReflectionPad3d),
        ),
    ),
)

_FUNCTIONS: dict[str, Kind] = {
    name: kind
    for kind, names in {
        Kind.SHAPE: "cat concat concatenate stack flatten view reshape permute transpose squeeze "
        "unsqueeze contiguous clone getitem chunk split narrow expand movedim pad dropout "
        "dropout2d dropout3d alpha_dropout size dim getattr flip fliplr flipud roll rot90 unbind "
        "tile swapaxes swapdims adjoint t unflatten reshape_as view_as expand_as identity",
        Kind.LINEAR: "conv2d conv3d linear",
        Kind.BATCH_NORMALISATION: "batch_norm",
        Kind.MEAN: "mean sum avg_pool2d avg_pool3d adaptive_avg_pool2d adaptive_avg_pool3d",
        Kind.MAXIMUM: "max_pool2d max_pool3d adaptive_max_pool2d adaptive_max_pool3d amax",
        Kind.ACTIVATION: "relu relu6 leaky_relu prelu elu celu selu gelu silu mish hardswish "
        "hardtanh tanh softsign square",
        Kind.CURVE: "sigmoid hardsigmoid softplus logsigmoid exp",
        Kind.SCALE: "neg",
    }.items()
    for name in names.split()
}
_OF_TWO = {
    "add": Kind.SUM,
    "iadd": Kind.SUM,
    "sub": Kind.SUM,
    "isub": Kind.SUM,
    "mul": Kind.PRODUCT,
    "imul": Kind.PRODUCT,
}

#: Functions behind ``+=`` and the like.
_IN_PLACE = ("iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow")


def name_of(node: fx.Node) -> str:
    """The name of a function or method, without the ``_`` of those that overwrite."""
    target = node.target
    name = target if isinstance(target, str) else str(getattr(target, "__name__", target))
    return name.removesuffix("_")


def overwrites(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a node writes its output into its first input."""
    if module is not None:
        return bool(getattr(module, "inplace", False))
    target = node.target
    name = target if isinstance(target, str) else str(getattr(target, "__name__", ""))
    return bool(node.kwargs.get("inplace")) or name.endswith("_") or name in _IN_PLACE


def kind_of(node: fx.Node, module: nn.Module | None, carriers: int) -> Kind:
    """The kind of a node, of whose inputs ``carriers`` depend on the image."""
    if module is not None:
        return next((kind for kind, types in _MODULES if isinstance(module, types)), Kind.OTHER)
    name = name_of(node)
    if name in _OF_TWO:
        if carriers == 2:
            return _OF_TWO[name]
        twice = len(node.args) > 1 and node.args[0] is node.args[1]
        return Kind.ACTIVATION if twice and _OF_TWO[name] is Kind.PRODUCT else Kind.SCALE
    if name in ("truediv", "div", "itruediv"):
        divided = carriers == 1 and isinstance(node.args[0], fx.Node)
        constant = len(node.args) > 1 and isinstance(node.args[1], (int, float))
        return Kind.SCALE if divided and constant else Kind.OTHER
    return _FUNCTIONS.get(name, Kind.OTHER)
