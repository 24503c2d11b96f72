"""What layers gave in one forward pass, and what the score's gradient there is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from SaliencyExplain.attribution.cells import CellGrid
from SaliencyExplain.attribution.guard import plain, untouched
from SaliencyExplain.attribution.layers import (
    feature_layers,
    is_feature_map,
    looking,
    named_layers,
    require_open,
    sees_places,
)
from SaliencyExplain.attribution.method import Task
from SaliencyExplain.attribution.network import ScoreNetwork
from SaliencyExplain.errors import InputError


@dataclass(frozen=True)
class Activations:
    """Feature maps of layers for one image.

    Attributes:
        features: ``{layer: (c, *s)}``, in the order in which they were named, else run.
        gradients: The same of the score's gradient; empty where none was asked for.
        score: The target's score.
        grid: Where the cells lie in the image.
    """

    features: dict[str, Tensor]
    gradients: dict[str, Tensor]
    score: Tensor
    grid: CellGrid


def activations(
    task: Task, layers: tuple[str, ...], method: str, *, every: bool = False, gradient: bool
) -> Activations:
    """Feature maps of the named layers, else of the last that still sees places.

    That is the last of :func:`feature_layers` that runs with more than one cell.

    One forward pass serves all layers, and where gradients are wanted one backward pass,
    which ends at the earliest of them.

    Args:
        task: Network, image and target.
        layers: Names of layers; none: see ``every``.
        method: Name of the method, for errors.
        every: Without names: all convolutions and activation functions that ran with more
            than one cell, instead of the last of them.
        gradient: Whether gradients are wanted.

    Raises:
        InputError: A layer does not exist, gives no feature map, or does not run; the
            network hides its layers, lets no gradient through, or has no convolution.
    """
    image, network = plain(task.input), task.network
    chosen = _chosen(network, layers, method)
    features: dict[str, Tensor] = {}
    grid = CellGrid(image.shape[2:])

    def look(name: str, _given: Tensor, output: Tensor) -> Tensor | None:
        if not is_feature_map(output, image):
            if not layers:
                return None
            raise InputError(
                f"Layer '{name}' gives {tuple(output.shape)}, not a feature map with "
                f"{image.ndim - 2} spatial axes; choose a convolution such as "
                f"'{(network.convolutions() or ['none'])[-1]}'."
            )
        if not layers and not sees_places(output, image):
            return None
        if not layers and not every:
            # Each one cuts the graph, so that the backward pass ends at the last.
            features.clear()
            output = output.detach()
        if gradient and not output.requires_grad:
            output = output.detach().requires_grad_()
        # Of a layer that runs again the last run counts, in its place.
        features.pop(name, None)
        features[name] = output
        # A copy, since a ReLU behind the layer may work in place.
        return output.clone()

    with untouched(network), torch.set_grad_enabled(gradient):
        with grid.following(network.network), looking(chosen, look):
            score = network(image)[0, task.target]
        missing = [name for name in layers if name not in features]
        if missing or not features:
            named = (
                f"Layer '{missing[0]}' did not run"
                if missing
                else "No convolution with more than one cell ran"
            )
            raise InputError(f"{named} in a forward pass; choose another layer.")
        found: tuple[Tensor, ...] = ()
        if gradient:
            found = torch.autograd.grad(
                score, list(features.values()), allow_unused=True, materialize_grads=True
            )
    order = layers or tuple(features)
    gradients = dict(zip(features, found, strict=False))
    return Activations(
        {name: features[name].detach()[0] for name in order},
        {name: gradients[name][0] for name in order if name in gradients},
        score.detach(),
        grid,
    )


def _chosen(network: ScoreNetwork, layers: tuple[str, ...], method: str) -> dict[str, nn.Module]:
    if layers:
        return named_layers(network, layers, method)
    require_open(network, method)
    if not network.convolutions():
        raise InputError(
            f"{method} weighs the feature maps of a convolution, and the network has none. Use "
            "occlusion, gradient, smoothgrad or integrated-gradients, or name the layers that "
            "give feature maps."
        )
    return feature_layers(network)


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
