"""The network is the user's: methods work on it and leave it as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from monai.data import MetaTensor
from torch import Tensor, nn


@contextmanager
def untouched(network: nn.Module) -> Iterator[None]:
    """Freezes the network for an attribution and restores it, come what may.

    Inside, the network is in eval mode, no parameter asks for a gradient (saves the
    third of a backward pass that would compute them) and cuDNN picks only algorithms
    that give the same result each time. Afterwards, also after an error or a cancel,
    training flags and ``requires_grad`` are what they were; ``.grad`` is never touched.

    The flag is set rather than ``eval()`` called: modules of exported programs refuse
    ``eval()``.
    """
    training = [module for module in network.modules() if module.training]
    wanted = [parameter for parameter in network.parameters() if parameter.requires_grad]
    deterministic = torch.backends.cudnn.deterministic
    try:
        torch.backends.cudnn.deterministic = True
        for module in training:
            module.training = False
        for parameter in wanted:
            parameter.requires_grad_(False)
        yield
    finally:
        torch.backends.cudnn.deterministic = deterministic
        for module in training:
            module.training = True
        for parameter in wanted:
            parameter.requires_grad_(True)


def plain(image: Tensor) -> Tensor:
    """The image as a plain tensor: MetaTensor's bookkeeping runs at each operation."""
    return (image.as_tensor() if isinstance(image, MetaTensor) else image).detach()
