"""Freezes the user's network during an attribution and restores it afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from monai.data import MetaTensor
from torch import Tensor, nn
from torch.backends import cudnn


@contextmanager
def untouched(network: nn.Module) -> Iterator[None]:
    """Freezes the network for an attribution and restores it, also after an error.

    Inside, the network is in eval mode, no parameter requires a gradient (this saves a third of a
    backward pass) and convolutions are exact (see
    :func:`exact_convolutions`). Afterwards, also after an error or a cancel, training
    flags and ``requires_grad`` are what they were; ``.grad`` is never touched.

    The flag is set rather than ``eval()`` called: modules of exported programs refuse
    ``eval()``.
    """
    modules = list(network.modules())
    training = [module for module in modules if module.training]
    # Of each module its own: torch's parameters() walks through the network once more.
    own = [parameter for module in modules for parameter in module._parameters.values()]
    wanted = [one for one in own if one is not None and one.requires_grad]
    try:
        for module in training:
            module.training = False
        for parameter in wanted:
            parameter.requires_grad_(False)
        with exact_convolutions():
            yield
    finally:
        for module in training:
            module.training = True
        for parameter in wanted:
            parameter.requires_grad_(True)


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """Lets a GPU compute float32 in float32, and the same each time.

    cuDNN takes TensorFloat-32 for convolutions unless told otherwise, with ten binary
    digits: an error of 1e-3, as large as the effect of a small occlusion window on a score. It may
    also choose algorithms whose sums depend on the order of threads.
    """
    # torch 2.9 and later have a setting for each kind of layer, and reading the common one
    # fails where the two differ.
    settings, name, exact = (
        (cudnn.conv, "fp32_precision", "ieee")
        if hasattr(cudnn, "conv")
        else (cudnn, "allow_tf32", False)
    )
    before = getattr(settings, name), cudnn.deterministic
    try:
        setattr(settings, name, exact)
        cudnn.deterministic = True
        yield
    finally:
        setattr(settings, name, before[0])
        cudnn.deterministic = before[1]


def plain(image: Tensor) -> Tensor:
    """The image as a plain tensor: MetaTensor's bookkeeping runs at each operation."""
    return (image.as_tensor() if isinstance(image, MetaTensor) else image).detach()
