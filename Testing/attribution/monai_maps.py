"""Class activation maps of MONAI to compare with."""

from __future__ import annotations

import warnings
from typing import Any

from torch import Tensor, nn


def monai_map(
    kind: type, network: nn.Module, image: Tensor, *layers: str, class_index: int | Tensor = 1
) -> Tensor:
    """The map ``(*S)`` of a class of ``monai.visualize`` before it is enlarged, with its sign.

    MONAI leaves its hooks on the network, and keeps activations whose graph holds the hooks: the
    network would live as long as the process. Both are removed.

    Args:
        kind: Such as ``monai.visualize.GradCAM``.
        network: In eval mode.
        image: ``(1, C, *S)``.
        layers: What ``kind`` is given after the network.
        class_index: Of the class to explain.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference: Any = kind(network, *layers)
        found = reference.compute_map(image, class_idx=class_index)[0, 0].detach()
    kept = reference.nn_module
    kept.activations.clear()
    kept.gradients.clear()
    kept.score = None
    for module in network.modules():
        module._forward_hooks.clear()
        module._backward_hooks.clear()
    return found
