"""What covering a window probably does, from one gradient of the image."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from SaliencyExplain.attribution.batches import GRADIENT_COST, free_memory, kept_bytes_below
from SaliencyExplain.attribution.network import ScoreNetwork
from SaliencyExplain.attribution.separable import along_axes

_LOG = logging.getLogger(__name__)

#: Share of the work on the windows that a hint may cost, and of the free memory.
_COST_SHARE, _MEMORY_SHARE = 0.06, 0.4


def first_order_drops(
    network: ScoreNetwork,
    image: Tensor,
    target: int,
    fill: Tensor | None,
    coverage: Sequence[Tensor],
    *,
    probability: bool,
) -> NDArray[np.float64]:
    """Drop of the target when a window is covered, for all windows, by a Taylor expansion.

    The score falls by the sum over the window of the gradient times what is taken away
    (Simonyan et al. 2014, section 3); for a softmax the log-odds take the score's place.

    Args:
        network: In eval mode, its parameters frozen.
        image: ``(1, C, *S)``.
        target: Index of the class.
        fill: What covers, per channel ``(C, 1, ...)``; None: each window's own mean.
        coverage: Per axis which voxels each window covers, ``(size, windows)``.
        probability: Whether the drop is of the probability or of the score.

    Returns:
        ``(*grid)``.

    Raises:
        RuntimeError: The network lets no gradient through.
        MemoryError: The free memory does not suffice for a backward pass.
    """
    softmax = probability and network.activation == "softmax"
    with kept_bytes_below(free_memory(image.device) * _MEMORY_SHARE):
        voxels = image.detach().clone().requires_grad_()
        scores = network(voxels)[0]
        score = scores[target]
        if softmax and len(scores) > 1:
            others = torch.arange(len(scores), device=scores.device) != target
            score = score - scores[others].logsumexp(dim=0)
        slopes = torch.autograd.grad(score, voxels)[0][0].double().cpu()
    values = image[0].double().cpu()
    sums = [matrix.T for matrix in coverage]
    if fill is not None:
        falls = along_axes((slopes * (values - fill.double().cpu())).sum(dim=0), sums)
    else:
        size = along_axes(torch.ones(values.shape[1:], dtype=torch.float64), sums)
        falls = torch.zeros_like(size)
        for slope, channel in zip(slopes, values, strict=True):
            falls += along_axes(slope * channel, sums)
            falls -= along_axes(slope, sums) * along_axes(channel, sums) / size
    if softmax or (probability and network.activation == "sigmoid"):
        odds = score.detach().double().cpu()
        falls = odds.sigmoid() - (odds - falls).sigmoid()
    return np.asarray(falls)


def hints(
    network: ScoreNetwork,
    image: Tensor,
    target: int,
    fill: Tensor | None,
    coverage: Sequence[Tensor],
    *,
    probability: bool,
    forward_passes: float,
) -> list[NDArray[np.float64]]:
    """The :func:`first_order_drops` where they are cheap and can be had, else nothing.

    Args:
        network: See there, as the next ones.
        image: The image.
        target: The class.
        fill: What covers.
        coverage: The windows.
        probability: What the drop is of.
        forward_passes: The work on the windows, in forward passes.
    """
    if _COST_SHARE * forward_passes < GRADIENT_COST:
        return []
    try:
        found = first_order_drops(network, image, target, fill, coverage, probability=probability)
    except (RuntimeError, MemoryError) as error:
        # Whatever it is, it comes again where it matters: in the forward passes.
        _LOG.info(
            "Occlusion has no hint of the gradient: %s.", (str(error).splitlines() or [""])[0]
        )
        return []
    return [found] if np.isfinite(found).all() else []
