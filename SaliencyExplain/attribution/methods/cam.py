"""Class activation maps: CAM, Grad-CAM and Grad-CAM++."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from SaliencyExplain.attribution.graph.feature_map_grid import FeatureMap
from SaliencyExplain.attribution.graph.layer_outputs import named_layers
from SaliencyExplain.attribution.method import Method
from SaliencyExplain.attribution.network.score_network import CONVOLUTIONS
from SaliencyExplain.attribution.passes.map_upsampling import upsampled_maps
from SaliencyExplain.attribution.passes.pass_spec import PassSpec
from SaliencyExplain.attribution.passes.shared_pass import layers_of, passed, wanted_layers
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.specification.parameters import parameter


@dataclass(frozen=True)
class ActivationMap(Method):
    """A method whose map is a weighted sum of a layer's feature maps."""

    lower_precision: ClassVar[bool] = True

    layers: tuple[str, ...] = parameter(
        (), "Names of the layers; without one, the last feature maps on every path to the scores."
    )

    @abstractmethod
    def raw(self, task: Task) -> dict[str, FeatureMap]:
        """The maps on the layers' own grids, ``{layer: map}``, before upsampling."""

    def attribute(self, task: Task) -> dict[str, Tensor]:
        """See :meth:`Method.attribute`; keys are the layers' names."""
        total = self.forward_passes(task)
        maps = upsampled_maps(task, self.raw(task))
        task.progress(total, total)
        return maps

    def shares(self, task: Task) -> PassSpec:
        """Features and gradients of the layers.

        Raises:
            InputError: A layer does not exist, or the network's layers are not accessible.
        """
        return wanted_layers(task, self.layers, self.name)


@dataclass(frozen=True)
class _GradientWeighted(ActivationMap):
    """Class activation maps weighted by the gradient of the target's score."""

    @abstractmethod
    def weigh(self, features: Tensor, gradient: Tensor, score: Tensor) -> Tensor:
        """The channels' weights ``(C, 1)`` from features and gradient ``(C, voxels)``."""

    def raw(self, task: Task) -> dict[str, FeatureMap]:
        """The rectified maps before upsampling, equal to ``compute_map`` of MONAI.

        All layers, and other methods that share the passes, use one forward pass and one
        backward pass, which ends at the earliest layer.

        Raises:
            InputError: A layer does not exist, is not run, or its output is not a feature map.
        """
        wanted = self.shares(task)
        given = passed(task, wanted)
        score = given.scores[task.target]
        return {
            name: FeatureMap.total(
                [part.place(self._map(part.features, part.slope, score)) for part in parts],
                rectified=True,
            )
            for name, parts in layers_of(given, wanted, task).items()
        }

    def _map(self, features: Tensor, gradient: Tensor, score: Tensor) -> Tensor:
        weights = self.weigh(features.flatten(1), gradient.flatten(1), score)
        return (weights * features.flatten(1)).sum(0).reshape(features.shape[1:])

    def forward_passes(self, task: Task) -> float:
        """One, plus the share of the convolutions after the earliest layer."""
        if not self.layers:
            return 1.0
        modules = dict(task.network.network.named_modules())
        places = [n for n, name in enumerate(modules) if name in self.layers]
        earliest = min(places, default=len(modules))
        convolutions = [n for n, m in enumerate(modules.values()) if isinstance(m, CONVOLUTIONS)]
        behind = sum(place >= earliest for place in convolutions)
        return 1.0 + behind / max(1, len(convolutions))


@dataclass(frozen=True)
class GradCAM(_GradientWeighted):
    """Gradient-weighted class activation map; only positive evidence for the class (ReLU)."""

    name: ClassVar[str] = "gradcam"
    family: ClassVar[str] = "class activation"
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
    """Grad-CAM++: weights for each position, for several instances of one class in an image."""

    name: ClassVar[str] = "gradcam++"
    family: ClassVar[str] = "class activation"
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
class CAM(ActivationMap):
    """Class activation map of networks that end in a mean over space and a linear layer.

    The map's mean plus the linear layer's bias is exactly the score.
    """

    name: ClassVar[str] = "cam"
    explains_probabilities: ClassVar[bool] = False
    explains_regions: ClassVar[bool] = False
    family: ClassVar[str] = "class activation"
    title: ClassVar[str] = "CAM"
    source: ClassVar[str] = (
        "Zhou et al. 2016, equation 2; monai.visualize.CAM.compute_map without the bias"
    )
    signed: ClassVar[bool] = True

    layers: tuple[str, ...] = parameter(
        (), "Names of the layers; without one, the layer whose mean the last linear layer takes."
    )

    def raw(self, task: Task) -> dict[str, FeatureMap]:
        """The signed maps before upsampling.

        Raises:
            InputError: The network is not of that form, or the mean of the layer is not the
                linear layer's input; the message names the layers that can be used.
        """
        network, wanted = task.network, self.shares(task)
        given = passed(task, wanted)
        kind = type(network.network).__name__
        name, pooled, output = given.end or ("", given.scores, given.scores)
        last = network.network.get_submodule(name)
        if not isinstance(last, nn.Linear) or not _is_score(output, given.scores, task):
            raise InputError(
                ErrorCode.METHOD_NETWORK,
                f"{kind}: cam needs a network that ends in a linear layer, and this one does not. "
                "Use gradcam instead.",
            )
        found = layers_of(given, wanted, task)
        if given.name not in found:
            found = {**found, given.name: given.target}
        fit = {
            name: parts[0]
            for name, parts in found.items()
            if len(parts) == 1
            and pooled.ndim == 2
            and len(parts[0].features) == pooled.shape[1]
            and _equal(parts[0].features.flatten(1).mean(dim=1), pooled[0], task.precision)
        }
        if given.name not in fit:
            raise InputError(
                ErrorCode.METHOD_NETWORK,
                f"{kind}: cam needs a network whose last feature map (of more than one cell) is "
                "averaged over space and is then the input of the last linear layer, and this "
                "network is not built so. Use gradcam instead.",
            )
        for name in self.layers:
            if name not in fit:
                raise InputError(
                    ErrorCode.LAYER_UNSUITABLE,
                    f"Layer '{name}': cam cannot use it, because its mean over space is not the "
                    f"input of the last linear layer. Use one of these layers: {', '.join(fit)}.",
                )
        weights = last.weight.detach()
        # The score of the second class of two is the one logit, that of the first its negative.
        rows = torch.stack([-weights[0], weights[0]]) if network.one_logit else weights
        combined = network.target_weights(task.target, len(rows))
        weight = torch.stack([factor * rows[index] for index, factor in combined]).sum(dim=0)
        return {
            name: fit[name].place(torch.tensordot(weight, fit[name].features, dims=1))
            for name in self.layers or (given.name,)
        }

    def shares(self, task: Task) -> PassSpec:
        """The input of the last linear layer, and the last feature maps.

        Raises:
            InputError: A layer does not exist, or the network's layers are not accessible.
        """
        named_layers(task.network, self.layers, self.name)
        return PassSpec(self.layers, last=True, ends=True)

    def forward_passes(self, task: Task) -> float:
        """One."""
        return 1.0


def _is_score(output: Tensor, scores: Tensor, task: Task) -> bool:
    """Whether a linear layer's output is what the network returns."""
    scores = task.network.class_scores(scores[None])[0]
    if task.network.one_logit:
        scores = scores[1:]
    return output.numel() == len(scores) and _equal(output.flatten(), scores, task.precision)


def _equal(means: Tensor, pooled: Tensor, precision: str) -> bool:
    # Pooling and mean add in different orders, hence 1e-5 of the largest value. bfloat16 has 8
    # bits of precision.
    rounding = 1e-5 if precision == "float32" else 2**-7
    return bool((means - pooled).abs().max() <= rounding * pooled.abs().max())
