"""Networks with known answers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from Testing.networks import Linear


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.manual_seed(0)


@pytest.fixture
def detector() -> Callable[..., ScoreNetwork]:
    """A network whose class 1 has the value of one voxel as its score."""

    def make(shape: tuple[int, ...], place: tuple[int, ...]) -> ScoreNetwork:
        weights = torch.zeros(1, *shape)
        weights[(0, *place)] = 1.0
        return ScoreNetwork(Linear(weights), "none")

    return make


@pytest.fixture
def convolutional() -> Callable[..., ScoreNetwork]:
    """Two convolutions with batch norm, pooling and a linear layer; random, in eval mode."""

    def make(
        dims: int,
        channels: int = 1,
        *,
        activation: Callable[[], nn.Module] = nn.ReLU,
        one_logit: bool = False,
    ) -> ScoreNetwork:
        conv, norm = (nn.Conv2d, nn.BatchNorm2d) if dims == 2 else (nn.Conv3d, nn.BatchNorm3d)
        pool = nn.AdaptiveAvgPool2d if dims == 2 else nn.AdaptiveAvgPool3d
        first_norm = norm(6)
        nn.init.uniform_(first_norm.running_mean, -0.5, 0.5)
        nn.init.uniform_(first_norm.running_var, 0.5, 2.0)
        body = nn.Sequential(
            conv(channels, 6, 3, padding=1),
            first_norm,
            activation(),
            conv(6, 8, 3, padding=1),
            activation(),
            pool(2),
            nn.Flatten(),
            nn.Linear(8 * 2**dims, 1 if one_logit else 3),
        )
        return ScoreNetwork(body, "softmax", one_logit=one_logit).eval()

    return make
