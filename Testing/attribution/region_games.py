"""Games whose players are regions, and pictures cut into regions, with answers that are known."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import nn

from SaliencyExplain.attribution.methods.kernel_shap import KernelShap
from SaliencyExplain.attribution.methods.lime import Lime
from SaliencyExplain.attribution.methods.shapley import Shapley
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from Testing.builders import observe

#: The methods that play them.
METHODS = (Shapley, KernelShap, Lime)


class Game(nn.Module):
    """One voxel for each player: 1 where it is there. Weights, and rewards of pairs."""

    def __init__(self, weights, pairs):
        super().__init__()
        self.register_buffer("weights", torch.as_tensor(weights, dtype=torch.float32))
        self.register_buffer("pairs", torch.as_tensor(pairs, dtype=torch.float32))

    def forward(self, images):
        there = images.flatten(1)
        score = there @ self.weights + ((there @ self.pairs) * there).sum(1)
        return torch.stack([torch.zeros_like(score), score], 1)

    def shapley(self):
        """Of a game of single and paired rewards: each pair's is shared by halves."""
        pairs = (self.pairs + self.pairs.T).numpy()
        return (
            self.weights.numpy()
            + np.diag(self.pairs)
            + 0.5 * (pairs - np.diag(np.diag(pairs))).sum(1)
        )


def random_game(players, seed=0):
    random = np.random.default_rng(seed)
    return Game(random.standard_normal(players), np.triu(random.standard_normal((players,) * 2), 1))


def game_task(task, game, **settings):
    """A player is a row of one voxel, and is gone where the voxel is 0."""
    players = len(game.weights)
    return task(
        ScoreNetwork(game, "none"),
        torch.ones(1, 1, players, 1),
        regions=torch.arange(1, players + 1).reshape(players, 1),
        region_names=tuple(f"player {n}" for n in range(players)),
        **settings,
    )


def played(method, job):
    """Values of the players, and the figures."""
    observed = observe(method, job)
    return observed.map, observed.figures


def of_regions(values, job):
    """In each voxel its region's whole value, as captum paints it."""
    _, place, sizes = job.regions.unique(return_inverse=True, return_counts=True)
    return values * sizes[place]


def segments(kind, **settings):
    return kind(regions="segments", fill="value", value=0.0, output="score", **settings)


def picture_task(task, dims, **settings):
    """A random network and blocks as segments, 8 in 2D and 8 in 3D, with a rest."""
    conv = (nn.Conv2d, nn.Conv3d)[dims - 2]
    network = nn.Sequential(conv(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6**dims, 3))
    labels = torch.zeros((8,) * dims, dtype=torch.int64)
    for number, corner in enumerate(itertools.product((0, 4), repeat=dims)):
        labels[tuple(slice(c, c + 3) for c in corner)] = number + 1
    count = 2**dims
    return task(
        ScoreNetwork(network, "none"),
        torch.randn(1, 2, *(8,) * dims),
        regions=labels,
        region_names=tuple(f"block {n}" for n in range(count)),
        **settings,
    )


class Cubed(Game):
    """A game in which all matter to all."""

    def forward(self, images):
        return super().forward(images) ** 3 / 10
