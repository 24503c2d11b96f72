"""One forward pass that shows whether a network takes images of a kind."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from SaliencyExplain.attribution.network.network_state import Snapshot
from SaliencyExplain.errors import ClassifierError, ErrorCode

# Inputs to try where no size is declared: too small ones vanish in the pooling, too large
# ones cost seconds; torchvision's networks were made for 224.
_SIZES = {2: (64, 224, 128, 32, 299, 28), 3: (64, 96, 32, 128)}


def probe(
    network: nn.Module, channels: int, spatial_dims: int, size: tuple[int, ...] | None
) -> tuple[Any, Tensor]:
    """What a network returns for one noise image.

    Args:
        network: Any network, in eval mode.
        channels: Channels of the input.
        spatial_dims: 2 or 3.
        size: Voxels along each axis where known; else some usual sizes are tried.

    Returns:
        What it returned, and the noise that went in, ``(1, C, *S)``.

    Raises:
        ClassifierError: The network takes no such input.
    """
    tries = [size] if size else [(edge,) * spatial_dims for edge in _SIZES[spatial_dims]]
    generator = torch.Generator().manual_seed(0)
    first_error = ""
    for edges in tries:
        noise = torch.randn((1, channels, *edges), generator=generator)
        snapshot = Snapshot(network)
        try:
            with torch.no_grad():
                # A copy: a network may write into its input.
                return network(noise.clone()), noise
        except (RuntimeError, ValueError, TypeError, AssertionError, IndexError) as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            # TorchScript puts its traceback first and the error last.
            script = bool(lines) and lines[0].startswith("The following operation failed")
            message = lines[-1 if script else 0] if lines else type(error).__name__
            first_error = first_error or message
        finally:
            # State that the network stores from noise must not affect its scores.
            snapshot.restore()
    raise ClassifierError(
        ErrorCode.MODEL_INPUT,
        f"The network cannot take an image of {channels} channel{'s' if channels > 1 else ''} and "
        f"{'x'.join(map(str, tries[0]))} voxels: {first_error[:300]}",
    )


def convolution_dims(network: nn.Module) -> int | None:
    """2 or 3 where the network's convolutions say which images it takes."""
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            return 3
        if isinstance(module, nn.Conv2d):
            return 2
    return None
