"""Looking into a network: what its layers gave, and where their cells lie in the image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from SaliencyExplain.attribution.graph.operation_catalogue import Positions, family_of_class
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.errors import ErrorCode, InputError


@contextmanager
def forward_hooks(
    layers: Mapping[str, nn.Module], hook_of: Callable[[str], Callable[..., Any]]
) -> Iterator[None]:
    """Calls ``hook_of(name)`` as a forward hook of each layer; the hooks are gone afterwards.

    A hook gets the layer, its inputs and its output; what it returns replaces the output.
    """
    with ExitStack() as stack:
        for name, module in layers.items():
            stack.callback(module.register_forward_hook(hook_of(name)).remove)
        yield


def named_layers(
    network: ScoreNetwork, names: tuple[str, ...], method: str
) -> dict[str, nn.Module]:
    """The layers of these names.

    Raises:
        InputError: No layer has that name, or the network's layers cannot be looked into.
    """
    require_open(network, method)
    return {name: network.layer(name) for name in names}


def require_open(network: ScoreNetwork, method: str) -> None:
    """Raises InputError where the network is compiled or exported and hides its layers."""
    kind = closed_kind(network.network)
    if kind:
        raise InputError(
            ErrorCode.LAYERS_HIDDEN,
            f"{method} looks into the layers, and a {kind} hides them. Use occlusion, gradient or "
            "smoothgrad, or give the classifier as a network with its weights (a MONAI bundle "
            "with models/model.pt).",
        )


def closed_kind(network: nn.Module) -> str:
    """What hides the layers: TorchScript, an exported program; empty where nothing does."""
    for module in network.modules():
        if isinstance(module, torch.jit.ScriptModule):
            return "TorchScript module"
        if isinstance(module, torch.fx.GraphModule) and any(
            isinstance(node.target, torch._ops.OpOverload) for node in module.graph.nodes
        ):
            return "torch.export program"
    return ""


def feature_layers(network: ScoreNetwork) -> dict[str, nn.Module]:
    """The convolutions and activation functions by name, in the order of their definition.

    Where a network has an activation function behind its last convolution, it matters to class
    activation methods: a feature map says where its feature is only once the negative values are
    cut off. On 12 phantoms each the mean AUROC of Grad-CAM++ is 0.997 in 2D and 0.994 in 3D
    behind the last ReLU of the shipped DenseNets, and 0.766 and 0.685 at the convolution
    before it; that of Grad-CAM 0.971 and 0.991, and 0.968 and 0.991.
    """
    found = {}
    for name, module in network.network.named_modules():
        family = family_of_class(type(module))
        if family.rectifies or family.positions is Positions.CONVOLVED:
            found[name] = module
    return found


def channel_count(network: ScoreNetwork, layers: tuple[str, ...]) -> dict[str, int]:
    """Channels of layers by the network's definition, without running it.

    A layer that does not say it itself has those of the last convolution or normalisation
    in it, else before it. That is an estimate, as is the last defined layer for the last
    that runs.

    Args:
        network: Need not let its layers be seen: then none are found.
        layers: Names; none: the last convolution or activation function that is defined.
    """
    modules = dict(network.network.named_modules())
    known = {
        name: int(width)
        for name, module in modules.items()
        for width in (getattr(module, "out_channels", getattr(module, "num_features", None)),)
        if isinstance(width, int)
    }
    counts = {}
    for layer in layers or tuple(feature_layers(network))[-1:]:
        names = list(modules)
        if layer in modules:
            inside = [name for name in known if name == layer or name.startswith(f"{layer}.")]
            before = [name for name in names[: names.index(layer)] if name in known]
            if inside or before:
                counts[layer] = known[(inside or before)[-1]]
    return counts
