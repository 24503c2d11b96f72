"""A segmentation network as a function from an image to one score per class, and voxel by voxel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from SaliencyExplain.attribution.network.network_outputs import scores_in
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.errors import ClassifierError, ErrorCode


class RegionMean(nn.Module):
    """The mean of each class's logit over a fixed region: ``(B, C, *S) -> (B, K)``.

    Args:
        network: Gives logits ``(B, K, *S)``, by themselves or among other outputs. It is shared
            and not copied.
        output: Path of the logits in what the network returns, as
            :func:`~SaliencyExplain.attribution.network.network_outputs.outputs_by_path` has it.
        axes: Spatial axes, 2 or 3.
        region: ``(*S)``, true where the mean is taken, with at least one voxel; None: everywhere,
            for images of any size.
    """

    weights: Tensor | None

    def __init__(
        self, network: nn.Module, output: str, axes: int, region: Tensor | None = None
    ) -> None:
        super().__init__()
        self.network = network
        self.output = output
        self.spatial = tuple(range(2, 2 + axes))
        weights = None if region is None else region.float() / region.sum()
        self.register_buffer("weights", weights)

    def forward(self, images: Tensor) -> Tensor:
        """Scores ``(B, K)``."""
        logits: Tensor = scores_in(self.network(images), self.output)
        if self.weights is None:
            return logits.mean(dim=self.spatial)
        return (logits * self.weights).sum(dim=self.spatial)


class VoxelScores(ScoreNetwork):
    """The scores of a segmentation network at each voxel: ``(B, C, *S) -> (B, K, *S)``.

    Args:
        scores: A network whose ``network`` is a :class:`RegionMean`; it is computed in the same
            way, with the same weights.
    """

    def __init__(self, scores: ScoreNetwork) -> None:
        mean = scores.network
        if not isinstance(mean, RegionMean):
            raise TypeError(f"{type(mean).__name__} is no RegionMean")
        super().__init__(
            _Logits(mean),
            scores.activation,
            one_logit=scores.one_logit,
            output="",
            independent=scores.independent,
            confined=scores.confined,
        )
        self.repeatability = scores.repeatability
        self.examined = scores.examined

    def checked(self, scores: Any, count: int) -> Tensor:
        """Scores ``(B, K, *S)`` from the network's output.

        Raises:
            ClassifierError: It is not one map per class.
        """
        if not isinstance(scores, Tensor) or scores.ndim < 4 or len(scores) != count:
            raise ClassifierError(
                ErrorCode.MODEL_OUTPUT,
                "The network returns no map of each class for this image, as a segmentation "
                "network does.",
            )
        if not self.one_logit:
            return scores
        other = 1 - scores if self.activation == "none" else -scores
        return torch.cat([other, scores], dim=1)


class _Logits(nn.Module):
    """The logits of the network in a :class:`RegionMean`, under the same names of layers."""

    def __init__(self, mean: RegionMean) -> None:
        super().__init__()
        self.network = mean.network
        self.output = mean.output

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = scores_in(self.network(images), self.output)
        return logits
