"""Guided backpropagation: each ReLU passes back positive gradients only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from SaliencyExplain.attribution.graph.layer_outputs import require_open
from SaliencyExplain.attribution.graph.operation_catalogue import RECTIFIERS
from SaliencyExplain.attribution.methods.gradient import _Ruled, _Smoothed
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.errors import ErrorCode, InputError

_RELU = {functional.relu, torch.relu, Tensor.relu}
_RELU_IN_PLACE = {torch.relu_, Tensor.relu_}
_CLAMPS = {torch.clamp, torch.clip, Tensor.clamp, Tensor.clip, Tensor.clamp_, Tensor.clip_}
_CLAMPS_MIN = {torch.clamp_min, Tensor.clamp_min, Tensor.clamp_min_}

_SIGMOIDS = {torch.sigmoid, functional.sigmoid, Tensor.sigmoid}
_PRODUCTS = {torch.mul, torch.multiply, Tensor.mul, Tensor.mul_, Tensor.multiply}
_PRODUCTS |= {Tensor.__mul__, Tensor.__imul__, Tensor.__rmul__}

#: Activations that pass negative values or are smooth at zero: the rules of guided
#: backpropagation and of DeConvNet are not defined for them. (Sigmoid, tanh and softmax are
#: not rectifiers; their ordinary gradient is used.)
_OTHERS = {name.replace("_", "") for name in RECTIFIERS} - {"relu"} | {"hardtanh", "quickgelu"}

#: Names of other implementations of an activation: MemoryEfficientSwish (MONAI), SwishMe (timm).
_PREFIX, _SUFFIXES = "memoryefficient", ("me", "jit")


class _GuidedReLU(torch.autograd.Function):
    """Springenberg et al. 2015, figure 1: R_i = (f_i > 0) (R_{i+1} > 0) R_{i+1}."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        output = values.clamp(min=0)
        ctx.save_for_backward(output)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (output,) = ctx.saved_tensors
        return gradients[0].clamp(min=0) * (output > 0)


class _GuidedMode(TorchFunctionMode):
    """Replaces each ReLU that runs, whether it is a module, a function or in place."""

    def __init__(self, method: str, rule: type[torch.autograd.Function]) -> None:
        super().__init__()
        self.replaced = 0
        self._method = method
        self._rule = rule
        self._last_sigmoid: tuple[Any, Any] = (None, None)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _RELU or func in _RELU_IN_PLACE:
            self.replaced += 1
            values = args[0] if args else kwargs["input"]
            in_place = func in _RELU_IN_PLACE or kwargs.get("inplace", False) or len(args) > 1
            passed = self._rule.apply(values)
            # In place stays in place: a network may use the changed tensor and not the result.
            return values.copy_(passed) if in_place else passed
        if _is_hidden_relu(func, args, kwargs):
            raise _undefined("a ReLU written as clamp", self._method)
        name = getattr(func, "__name__", "").rstrip("_")
        if name.replace("_", "") in _OTHERS:
            raise _undefined(name, self._method)
        if func in _PRODUCTS and self._is_swish(args):
            raise _undefined("a SiLU written as a product", self._method)
        result = func(*args, **kwargs)
        if func in _SIGMOIDS and args:
            self._last_sigmoid = args[0], result
        return result

    def _is_swish(self, factors: tuple[Any, ...]) -> bool:
        """Whether the factors are a tensor and its own sigmoid."""
        given, gate = self._last_sigmoid
        self._last_sigmoid = (None, None)
        return gate is not None and any(
            one is given and other is gate for one, other in (factors[:2], factors[1::-1])
        )


def _is_hidden_relu(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> bool:
    if func in _CLAMPS or func in _CLAMPS_MIN:
        low = kwargs.get("min", args[1] if len(args) > 1 else None)
        return isinstance(low, (int, float)) and low == 0
    return False


def _undefined(activation: str, method: str) -> InputError:
    return InputError(
        ErrorCode.METHOD_NETWORK,
        f"{method}: it is defined for networks whose activations are ReLU only, and this network "
        f"uses {activation}. Use gradient, smoothgrad, integrated-gradients or gradcam instead.",
    )


def _is_other(kind: str) -> bool:
    """Whether a module's class is an activation for which no rule is defined."""
    plain_kind = kind.lower().removeprefix(_PREFIX)
    return plain_kind in _OTHERS or any(
        plain_kind.removesuffix(suffix) in _OTHERS for suffix in _SUFFIXES
    )


@contextmanager
def guided_relus(
    network: ScoreNetwork, method: str, rule: type[torch.autograd.Function] = _GuidedReLU
) -> Iterator[None]:
    """Replaces the gradient of each ReLU while the network runs.

    The function is replaced and not the module, so that all ReLUs are found, whatever their
    modules are called. (monai.visualize replaces modules whose name contains "relu"; it finds
    none in MONAI's ResNet, whose ReLUs are named ``act``.)

    Args:
        network: The network that runs.
        method: Name of the method, for the errors.
        rule: A ReLU with another gradient; by default that of guided backpropagation.

    Raises:
        InputError: The network's layers are not accessible, it has another activation, or it
            has no ReLU.
    """
    require_open(network, method)
    for module in network.network.modules():
        kind = type(module).__name__
        if _is_other(kind):
            raise _undefined(kind, method)
    with _GuidedMode(method, rule) as mode:
        yield
    if not mode.replaced:
        raise InputError(
            ErrorCode.METHOD_NETWORK,
            f"{method}: it changes the gradient of ReLUs, and this network runs none. "
            "Use gradient, smoothgrad, integrated-gradients or gradcam instead.",
        )


@dataclass(frozen=True)
class GuidedBackpropagation(_Ruled):
    """The gradient with the rule of guided backpropagation at each ReLU.

    The map shows edges in the image and depends little on the class and on the later layers
    (Adebayo et al. 2018). Interpret it only together with another method.
    """

    name: ClassVar[str] = "guided-backprop"
    family: ClassVar[str] = "gradient"
    title: ClassVar[str] = "Guided backpropagation"
    source: ClassVar[str] = (
        "Springenberg et al. 2015; absolute value of monai.visualize.GuidedBackpropGrad where "
        'that finds the ReLUs (by names with "relu")'
    )
    signed: ClassVar[bool] = False

    def _rules(self, task: Task) -> AbstractContextManager[None]:
        return guided_relus(task.network, self.name)


@dataclass(frozen=True)
class GuidedSmoothGrad(_Smoothed):
    """SmoothGrad with the rule of guided backpropagation at each ReLU."""

    name: ClassVar[str] = "guided-smoothgrad"
    family: ClassVar[str] = "gradient"
    title: ClassVar[str] = "Guided SmoothGrad"
    source: ClassVar[str] = (
        "Springenberg et al. 2015 with Smilkov et al. 2017; monai.visualize."
        "GuidedBackpropSmoothGrad times the root of the number of samples (with squared)"
    )
    signed: ClassVar[bool] = False

    def _rules(self, task: Task) -> AbstractContextManager[None]:
        return guided_relus(task.network, self.name)
