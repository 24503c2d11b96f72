"""Estimates the effect of covering a window from one gradient of the image."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from SaliencyExplain.attribution.passes.batches import GRADIENT_COST, kept_bytes_below, memory_left
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.attribution.perturbation.infill import Infill
from SaliencyExplain.attribution.perturbation.occlusion_windows import Windows

_LOG = logging.getLogger(__name__)

#: Share of the work on the windows that a hint may cost, and of the free memory.
_COST_SHARE, _MEMORY_SHARE = 0.06, 0.4


def first_order_drops(
    task: Task,
    infill: Infill,
    windows: Windows,
    channels: Sequence[int | None],
    *,
    probability: bool,
) -> list[NDArray[np.float64]]:
    """Drop of the target when a window is covered, for all windows, by a Taylor expansion.

    The score falls by the sum over the window of the gradient times what is taken away
    (Simonyan et al. 2014, section 3); for a softmax the log-odds take the score's place.

    Args:
        task: The network in eval mode, its parameters frozen; image and class.
        infill: What covers.
        windows: The windows.
        channels: Each a channel that is covered by itself, or None for all together.
        probability: Whether the drop is of the probability or of the score.

    Returns:
        ``(*grid)`` for each of the channels.

    Raises:
        RuntimeError: No gradient of the network reaches the image.
        MemoryError: The free memory does not suffice for a backward pass.
    """
    network, target = task.network, task.target
    softmax = probability and network.activation == "softmax"
    with kept_bytes_below(memory_left(task.input.device, task.memory_bytes) * _MEMORY_SHARE):
        voxels = infill.image.detach().clone().requires_grad_()
        scores = network(voxels)[0]
        # A combination is a number of its own, whose drop is taken as linear.
        combined = target >= len(network.class_scores(scores[None])[0])
        softmax = softmax and not combined
        score = (
            network.probabilities(scores[None])[0, target]
            if combined and probability
            else (scores[target])
        )
        if softmax and len(scores) > 1:
            others = torch.arange(len(scores), device=scores.device) != target
            score = score - scores[others].logsumexp(dim=0)
        slopes = torch.autograd.grad(score, voxels)[0][0].double().cpu()
    each = infill.taken_away(slopes, windows)
    found = [each.sum(dim=0) if channel is None else each[channel] for channel in channels]
    if softmax or (probability and network.activation == "sigmoid" and not combined):
        odds = score.detach().double().cpu()
        found = [odds.sigmoid() - (odds - falls).sigmoid() for falls in found]
    return [falls.numpy() for falls in found]


def gradient_priors(
    task: Task,
    infill: Infill,
    windows: Windows,
    channels: Sequence[int | None],
    *,
    probability: bool,
    forward_passes: float,
) -> list[list[NDArray[np.float64]]]:
    """For each of the channels the :func:`first_order_drops`, or nothing.

    Nothing if they cost too much compared with the work on the windows, or are not available.

    Args:
        task: See there, as the next ones.
        infill: What covers.
        windows: The windows.
        channels: What is covered.
        probability: What the drop is of.
        forward_passes: The work on the windows, in forward passes.
    """
    nothing: list[list[NDArray[np.float64]]] = [[] for _ in channels]
    if _COST_SHARE * forward_passes < GRADIENT_COST:
        return nothing
    try:
        found = first_order_drops(task, infill, windows, channels, probability=probability)
    except Exception as error:  # noqa: BLE001 - it comes again where it matters: in the passes
        _LOG.info(
            "Occlusion orders windows without a gradient: %s.",
            (str(error).splitlines() or [""])[0],
        )
        return nothing
    return [[falls] if np.isfinite(falls).all() else [] for falls in found]
