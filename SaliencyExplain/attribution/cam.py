"""Class activation maps: CAM, Grad-CAM and Grad-CAM++."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from SaliencyExplain.attribution.cells import CellGrid, FeatureMap
from SaliencyExplain.attribution.guard import plain, untouched
from SaliencyExplain.attribution.layers import (
    is_feature_map,
    looking,
    named_layers,
    require_open,
)
from SaliencyExplain.attribution.method import Method, Task, parameter
from SaliencyExplain.errors import InputError


@dataclass(frozen=True)
class _ActivationMap(Method):
    """A method that weighs the feature maps of layers."""

    layers: tuple[str, ...] = parameter(
        (), "Names of the layers; none: the last convolution that runs (for cam: what it needs)."
    )

    @abstractmethod
    def raw(self, task: Task) -> dict[str, FeatureMap]:
        """The maps on the layers' own grids, ``{layer: map}``, before upsampling."""

    def attribute(self, task: Task) -> dict[str, Tensor]:
        """See :meth:`Method.attribute`; keys are the layers' names."""
        total = self.forward_passes(task)
        maps = {name: cells.upsampled() for name, cells in self.raw(task).items()}
        task.progress(total, total)
        return maps


@dataclass(frozen=True)
class _GradientWeighted(_ActivationMap):
    """Weights that come from the gradient of the target's score."""

    @abstractmethod
    def weigh(self, features: Tensor, gradient: Tensor, score: Tensor) -> Tensor:
        """The channels' weights ``(C, 1)`` from features and gradient ``(C, voxels)``."""

    def raw(self, task: Task) -> dict[str, FeatureMap]:
        """The rectified maps before upsampling, equal to ``compute_map`` of MONAI.

        One forward pass and one backward pass serve all layers, and the backward pass
        ends at the earliest of them: its output is made the start of the graph.

        Raises:
            InputError: A layer does not exist, gives no feature map, or does not run.
        """
        image = plain(task.input)
        network = task.network
        if self.layers:
            chosen = named_layers(network, self.layers, self.name)
        else:
            require_open(network, self.name)
            chosen = {name: network.layer(name) for name in network.convolutions()}
            if not chosen:
                raise InputError(f"{self.name} needs a convolution, and the network has none.")
        features: dict[str, Tensor] = {}
        grid = CellGrid(image.shape[2:])

        def look(name: str, _given: Tensor, output: Tensor) -> Tensor | None:
            if not is_feature_map(output, image):
                if not self.layers:
                    return None
                raise InputError(
                    f"Layer '{name}' gives {tuple(output.shape)}, not a feature map with "
                    f"{image.ndim - 2} spatial axes; choose a convolution such as "
                    f"'{(network.convolutions() or ['none'])[-1]}'."
                )
            if not self.layers:
                # Of several convolutions only the last one counts, and only one that still
                # sees places (the gates of squeeze-and-excitation do not). Each one cuts the
                # graph, so that the backward pass ends at the last.
                if output[0, 0].numel() == 1:
                    return None
                features.clear()
                output = output.detach()
            if not output.requires_grad:
                output = output.detach().requires_grad_()
            features[name] = output
            # A copy, since a ReLU behind the layer may work in place.
            return output.clone()

        with untouched(network), torch.enable_grad():
            with grid.following(network.network), looking(chosen, look):
                score = network(image)[0, task.target]
            missing = [name for name in self.layers if name not in features]
            if missing or not features:
                named = f"Layer '{missing[0]}' did not run" if missing else "No convolution ran"
                raise InputError(f"{named} in a forward pass; choose another layer.")
            gradients = torch.autograd.grad(
                score, list(features.values()), allow_unused=True, materialize_grads=True
            )
        with torch.no_grad():
            found = {
                name: grid.place(self._map(feature[0], gradient[0], score))
                for (name, feature), gradient in zip(features.items(), gradients, strict=True)
            }
        return {name: found[name] for name in self.layers or found}

    def _map(self, features: Tensor, gradient: Tensor, score: Tensor) -> Tensor:
        weights = self.weigh(features.flatten(1), gradient.flatten(1), score)
        return (weights * features.flatten(1)).sum(0).relu().reshape(features.shape[1:])

    def forward_passes(self, task: Task) -> float:
        """One, and the share of the convolutions behind the earliest layer once more."""
        convolutions = task.network.convolutions()
        names = [name for name, _ in task.network.network.named_modules()]
        earliest = min((names.index(n) for n in self.layers if n in names), default=len(names))
        behind = sum(names.index(name) >= earliest for name in convolutions)
        return 1.0 + behind / max(1, len(convolutions))


@dataclass(frozen=True)
class GradCAM(_GradientWeighted):
    """Gradient-weighted class activation map: only what speaks for the class (ReLU)."""

    name: ClassVar[str] = "gradcam"
    title: ClassVar[str] = "Grad-CAM"
    source: ClassVar[str] = (
        "Selvaraju et al. 2017, equations 1 and 2; monai.visualize.GradCAM.compute_map"
    )
    signed: ClassVar[bool] = False

    def weigh(self, features: Tensor, gradient: Tensor, score: Tensor) -> Tensor:
        """Equation 1: the gradient's mean over the feature map."""
        return gradient.mean(dim=1, keepdim=True)


@dataclass(frozen=True)
class GradCAMPlusPlus(_GradientWeighted):
    """Grad-CAM++: weights of places, for several instances of one class."""

    name: ClassVar[str] = "gradcam++"
    title: ClassVar[str] = "Grad-CAM++"
    source: ClassVar[str] = (
        "Chattopadhyay et al. 2018, equations 10, 11 and 19; monai.visualize.GradCAMpp.compute_map "
        "up to its factor exp(score) and its 1e-7 in the denominator"
    )
    signed: ClassVar[bool] = False

    def weigh(self, features: Tensor, gradient: Tensor, score: Tensor) -> Tensor:
        """Equations 10 and 19 without the factor exp(score), which overflows and only scales."""
        square = gradient.square()
        denominator = 2 * square + gradient**3 * features.sum(dim=1, keepdim=True)
        alpha = torch.where(denominator != 0, square / denominator, torch.zeros_like(square))
        return (alpha * gradient.relu()).sum(dim=1, keepdim=True)


@dataclass(frozen=True)
class CAM(_ActivationMap):
    """Class activation map of networks that end in a mean over space and a linear layer.

    The map's mean plus the linear layer's bias is the score, exactly: nothing is estimated.
    """

    name: ClassVar[str] = "cam"
    title: ClassVar[str] = "CAM"
    source: ClassVar[str] = (
        "Zhou et al. 2016, equation 2; monai.visualize.CAM.compute_map without the bias"
    )
    signed: ClassVar[bool] = True

    def raw(self, task: Task) -> dict[str, FeatureMap]:
        """The signed maps before upsampling.

        Raises:
            InputError: The network is not of that form, or the layer is not the one whose
                mean goes into the linear layer; the message names those that are.
        """
        image = plain(task.input)
        network = task.network
        named_layers(network, self.layers, self.name)
        modules = {name: module for name, module in network.network.named_modules() if name}
        linear = {name: m for name, m in modules.items() if isinstance(m, nn.Linear)}
        widths = {module.in_features for module in linear.values()}
        features: dict[str, Tensor] = {}
        ended: dict[str, Tensor] = {}
        grid = CellGrid(image.shape[2:])

        def look(name: str, given: Tensor, output: Tensor) -> None:
            if name in linear:
                ended.clear()
                ended[name] = given
            elif (
                is_feature_map(output, image)
                and output.shape[1] in widths
                and output[0, 0].numel() > 1
            ):
                # A copy, since a ReLU behind the layer may work in place.
                features[name] = output[0].clone()

        with (
            untouched(network),
            torch.no_grad(),
            grid.following(network.network),
            looking(modules, look),
        ):
            scores = network(image)
        classes = 1 if network.one_logit else scores.shape[1]
        kind = type(network.network).__name__
        last = linear[next(iter(ended))] if ended else None
        if last is None or last.out_features != classes or next(iter(ended.values())).ndim != 2:
            raise InputError(
                f"cam needs a network that ends in a linear layer; {kind} does not. "
                "Use gradcam instead."
            )
        pooled = next(iter(ended.values()))[0]
        fit = {
            name: values
            for name, values in features.items()
            if len(values) == len(pooled) and _equal(values.flatten(1).mean(dim=1), pooled)
        }
        if not fit:
            raise InputError(
                "cam needs a network whose last feature map is averaged over space (more than one "
                f"cell) and goes straight into the last linear layer; {kind} is not such a "
                "network. Use gradcam instead."
            )
        for name in self.layers:
            if name not in fit:
                raise InputError(
                    f"cam cannot use layer '{name}': its mean over space is not what goes into the "
                    f"last linear layer. Layers that would do: {', '.join(fit)}."
                )
        weights = last.weight.detach()
        weight = weights[0] * (2 * task.target - 1) if network.one_logit else weights[task.target]
        return {
            name: grid.place(torch.tensordot(weight, fit[name], dims=1))
            for name in self.layers or (next(iter(fit)),)
        }

    def forward_passes(self, task: Task) -> float:
        """One."""
        return 1.0


def _equal(means: Tensor, pooled: Tensor) -> bool:
    # The order of a sum differs between pooling and mean: 1e-5 of the largest value.
    return bool((means - pooled).abs().max() <= 1e-5 * pooled.abs().max())
