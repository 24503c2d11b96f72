"""Small networks that several tests use."""

from __future__ import annotations

import functools

import torch
from monai.networks import nets
from torch import Tensor, nn

#: Edge in voxels of the images that :func:`monai_network` builds for.
SIDE = 32

#: The kinds of classification network that MONAI has, as :func:`monai_network` names them.
MONAI_NETWORKS = (
    "DenseNet",
    "ResNet",
    "SENet",
    "EfficientNet",
    "ViT",
    "Classifier",
    "Regressor",
    "Discriminator",
    "Critic",
)


class Linear(nn.Module):
    """Class 1 has the score <weights, image>, class 0 has 0."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, images: Tensor) -> Tensor:
        score = (images * self.weights).flatten(1).sum(1)
        return torch.stack([torch.zeros_like(score), score], dim=1)


def monai_network(name: str, dims: int) -> nn.Module:
    """A small network of MONAI with random weights; it reads one channel.

    Args:
        name: One of :data:`MONAI_NETWORKS`.
        dims: 2 or 3.
    """
    if name == "DenseNet":
        return nets.DenseNet(dims, 1, 3, init_features=8, growth_rate=4, block_config=(2, 2))
    if name == "ResNet":
        return nets.ResNet(
            "basic",
            (1, 1, 1, 1),
            (4, 8, 8, 8),
            spatial_dims=dims,
            n_input_channels=1,
            num_classes=3,
        )
    if name == "SENet":
        return nets.SENet(
            dims,
            1,
            nets.senet.SEResNetBottleneck,
            layers=(1, 1, 1, 1),
            groups=1,
            reduction=16,
            inplanes=64,
            num_classes=3,
        )
    if name == "EfficientNet":
        return nets.EfficientNet(
            ["r1_k3_s11_e1_i32_o16_se0.25", "r1_k3_s22_e2_i16_o32_se0.25"],
            spatial_dims=dims,
            in_channels=1,
            num_classes=3,
            width_coefficient=0.5,
            image_size=SIDE,
        )
    if name == "ViT":
        return nets.ViT(
            1,
            (SIDE,) * dims,
            (8,) * dims,
            hidden_size=24,
            mlp_dim=32,
            num_layers=2,
            num_heads=3,
            classification=True,
            num_classes=3,
            spatial_dims=dims,
            post_activation="x",
        )
    kinds = {
        "Classifier": functools.partial(nets.Classifier, (1, *(SIDE,) * dims), 3),
        "Regressor": functools.partial(nets.Regressor, (1, *(SIDE,) * dims), 3),
        "Discriminator": functools.partial(nets.Discriminator, (1, *(SIDE,) * dims)),
        "Critic": functools.partial(nets.Critic, (1, *(SIDE,) * dims)),
    }
    return kinds[name](channels=(4, 8), strides=(2, 2))


def trained(network: nn.Module) -> nn.Module:
    """Gives batch normalisations statistics as training leaves them, some factors negative."""
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.normal_(0.7, 0.6)
            module.bias.data.normal_(0, 0.3)
    return network.eval()
