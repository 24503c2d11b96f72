"""Networks made of a library's, which its own arguments do not offer; bundles name them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


def with_input_channels(network: nn.Module, layer: str, channels: int) -> nn.Module:
    """Replaces a network's first convolution by one of another number of input channels.

    Args:
        network: Which is changed, such as one of torchvision, all of which take three channels.
        layer: Dotted name of the convolution.
        channels: How many channels its input has.

    Returns:
        The same network.

    Raises:
        ValueError: The layer is not a convolution over all channels of its input.
    """
    old = network.get_submodule(layer)
    if not isinstance(old, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) or old.groups != 1:
        raise ValueError(f"{layer} is not a convolution over all channels of its input")
    kind: Any = type(old)
    new = kind(
        channels,
        old.out_channels,
        old.kernel_size,
        stride=old.stride,
        padding=old.padding,
        dilation=old.dilation,
        bias=old.bias is not None,
        padding_mode=old.padding_mode,
    )
    parent, _, name = layer.rpartition(".")
    setattr(network.get_submodule(parent), name, new)
    return network


class MeanOfScores(nn.Module):
    """The mean of what several networks return, such as those of a cross-validation.

    Args:
        members: Each returns a tensor, all of the same shape.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        """The mean of the members' outputs for images ``(B, C, *S)``."""
        return torch.stack([member(images) for member in self.members]).mean(dim=0)


def mean_of(networks: Sequence[nn.Module]) -> MeanOfScores:
    """An ensemble whose scores are the mean of its members' scores.

    Raises:
        ValueError: There is no member.
    """
    if not networks:
        raise ValueError("an ensemble needs at least one network")
    return MeanOfScores(networks)
