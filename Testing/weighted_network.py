"""A small 2D classifier whose scores depend on place, value and channel of every voxel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from SaliencyExplain.models.wrapping import wrap

CLASSES = ["a", "b", "c"]
TRUE = {
    "orientation": "LP", "size": [24, 20], "fit": "resize", "intensity": "window:0,255",
    "activation": "softmax",
}  # fmt: skip


class Weighted(nn.Module):
    """Scores that depend on place, value and channel of every voxel."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, 4, 5, stride=2)
        self.last = nn.LazyLinear(3)

    def forward(self, images):
        return self.last(torch.relu(self.convolution(images)).flatten(1))


def network(channels: int = 1) -> nn.Module:
    torch.manual_seed(4)
    made = Weighted(channels)
    made(torch.zeros(1, channels, 24, 20))
    return made.eval()


CODE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(1, 4, 5, stride=2)
        self.last = nn.Linear(4 * 10 * 8, 3)

    def forward(self, images):
        return self.last(torch.relu(self.convolution(images)).flatten(1))
"""


def write_weighted(folder: Path, **changes: Any) -> Path:
    """Writes a bundle of the network, which needs trust, with other settings than the true ones."""
    file = folder / "net.py"
    file.write_text(CODE)
    words = {**TRUE, **changes}
    return wrap(
        f"{file}:Net", network().state_dict(), CLASSES, folder / "bundle", trust=True, **words
    )
