"""A classifier that looks at one octant of the image, and an image for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Orientationd, Spacingd
from torch import Tensor, nn

from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.images.reading import to_image
from SaliencyExplain.models.classifier import Classifier

AFFINE = np.array(
    [[-2.0, 0.0, 0.0, 30.0], [0.0, 1.5, 0.0, -20.0], [0.0, 0.0, 3.0, 5.0], [0.0, 0.0, 0.0, 1.0]]
)


class CornerBrightness(nn.Module):
    """Class 1 speaks for intensity in the right, anterior, superior octant (RAS)."""

    def forward(self, images: Tensor) -> Tensor:
        half = [size // 2 for size in images.shape[2:]]
        octant = images[:, :, half[0] :, half[1] :, half[2] :].mean(dim=(1, 2, 3, 4))
        return torch.stack([torch.zeros_like(octant), octant], dim=1)


def corner_classifier(network: nn.Module | None = None, spacing: float = 2.0) -> Classifier:
    """A classifier of 3D images with one channel.

    Args:
        network: :class:`CornerBrightness` unless given.
        spacing: Edge of the voxels to which images are resampled, mm.
    """
    network = CornerBrightness() if network is None else network
    keys = ["image"]
    return Classifier(
        name="corner",
        classes=("other", "corner"),
        channels=("t1",),
        spatial_dims=3,
        network=ScoreNetwork(network.eval()),
        preprocessing=Compose(
            [
                Orientationd(keys, axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S"))),
                Spacingd(keys, pixdim=(spacing,) * 3, mode="bilinear"),
            ]
        ),
        identity="0" * 64,
        source=Path("corner"),
    )


def bright_image(affine: np.ndarray = AFFINE) -> MetaTensor:
    """Uniform noise between 0 and 1, 20 x 24 x 16 voxels."""
    values = np.random.default_rng(3).random((1, 20, 24, 16), dtype=np.float32)
    return to_image(values, affine, name="bright")
