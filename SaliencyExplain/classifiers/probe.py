"""One forward pass that shows whether a network is a classifier, and of how many classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from SaliencyExplain.attribution.network import ScoreNetwork
from SaliencyExplain.errors import ClassifierError, ErrorCode

# Inputs to try where no size is declared: too small ones vanish in the pooling, too large
# ones cost seconds; torchvision's networks were made for 224.
_SIZES = {2: (64, 224, 128, 32, 299, 28), 3: (64, 96, 32, 128)}


def probe(
    network: nn.Module, channels: int, spatial_dims: int, size: tuple[int, ...] | None
) -> tuple[Tensor, tuple[int, ...]]:
    """Scores of a network for one noise image.

    Args:
        network: Any network, in eval mode.
        channels: Channels of the input.
        spatial_dims: 2 or 3.
        size: Voxels along each axis where known; else some usual sizes are tried.

    Returns:
        The scores ``(1, K)`` and the size that went in.

    Raises:
        ClassifierError: The network takes no such input, or gives no class scores.
    """
    tries = [size] if size else [(edge,) * spatial_dims for edge in _SIZES[spatial_dims]]
    generator = torch.Generator().manual_seed(0)
    first_error = ""
    for edges in tries:
        noise = torch.randn((1, channels, *edges), generator=generator)
        try:
            with torch.no_grad():
                return ScoreNetwork(network)(noise), edges
        except (RuntimeError, ValueError, TypeError, AssertionError, IndexError) as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            # TorchScript puts its traceback first and the error last.
            script = bool(lines) and lines[0].startswith("The following operation failed")
            message = lines[-1 if script else 0] if lines else type(error).__name__
            first_error = first_error or message
    raise ClassifierError(
        ErrorCode.MODEL_INPUT,
        f"The network cannot take an image of {channels} channel{'s' if channels > 1 else ''} and "
        f"{'x'.join(map(str, tries[0]))} voxels: {first_error[:300]}",
    )


def gives_probabilities(scores: Tensor) -> bool:
    """Whether scores already are the output of a softmax over two classes or more."""
    values = scores.double()
    return bool(
        values.shape[1] > 1
        and (values >= 0).all()
        and torch.allclose(values.sum(dim=1), torch.ones(len(values)).double(), atol=1e-5)
    )


def convolution_dims(network: nn.Module) -> int | None:
    """2 or 3 where the network's convolutions say which images it takes."""
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            return 3
        if isinstance(module, nn.Conv2d):
            return 2
    return None
