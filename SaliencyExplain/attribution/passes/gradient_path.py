"""Finds where the gradient of a score is lost on its way to the image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from SaliencyExplain.attribution.graph.layer_outputs import forward_hooks
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.errors import ErrorCode, InputError


def gradient_end(network: ScoreNetwork, image: Tensor) -> str:
    """Describes where the path from the image to the scores has no gradient.

    One forward pass. A part of the network that is given something with a gradient and returns
    something without runs under ``torch.no_grad`` (as frozen backbones do); where no part does,
    the gradient is cut between two of them (``detach``).

    Args:
        network: In eval mode, its parameters frozen.
        image: ``(B, C, *S)``.

    Returns:
        A description such as ``'backbone' runs without gradients``; empty if unknown.
    """
    without: list[str] = []
    last = ""

    def hook_of(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, inputs: Any, output: Any) -> None:
            nonlocal last
            given = inputs[0] if inputs else None
            if not isinstance(given, Tensor) or not isinstance(output, Tensor):
                return
            if output.requires_grad:
                last = name
            elif given.requires_grad and output.is_floating_point():
                without.append(name)

        return hook

    parts = {name: part for name, part in network.network.named_modules() if name}
    with torch.enable_grad(), forward_hooks(parts, hook_of):
        scores = network(image.detach().clone().requires_grad_())
    if without:
        # The largest part: a backbone rather than its first layer.
        largest = min(without, key=lambda name: name.count("."))
        return f"'{largest}' runs without gradients"
    if last and not scores.requires_grad:
        return f"the gradient is lost after '{last}'"
    return ""


def no_slope(method: str) -> InputError:
    """The error for a network in which a layer-wise method finds no gradient.

    Args:
        method: Its name.
    """
    return InputError(
        ErrorCode.NO_GRADIENT,
        f"{method}: no gradient passes from the scores to the image, because an operation between "
        "them has none, such as a comparison with a threshold, a conversion to integers or detach. "
        "Use occlusion.",
    )


def no_gradient(network: ScoreNetwork, image: Tensor) -> InputError:
    """The error for a network whose scores have no gradient at the image.

    Args:
        network: In eval mode, its parameters frozen.
        image: ``(B, C, *S)``.
    """
    end = gradient_end(network, image)
    if not end:
        return InputError(
            ErrorCode.NO_GRADIENT,
            "The network has no gradients (it was exported without them). Use occlusion.",
        )
    return InputError(
        ErrorCode.NO_GRADIENT,
        f"No gradient of the scores reaches the image: {end} (torch.no_grad, as for a frozen "
        "backbone, or detach). Use occlusion or lrp, or run the network with gradients and freeze "
        "its weights by requires_grad_(False).",
    )
