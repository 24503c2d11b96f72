"""Optimiser steps of a training, and scores of a network over many images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn


def descend(
    losses: Iterable[Tensor],
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
) -> Iterator[float]:
    """Takes a step down each loss.

    Args:
        losses: Scalars with their graph, each computed when it is asked for, so that it
            sees what the step before has changed.
        optimiser: Of the network's parameters.
        schedule: Its learning rate from step to step.

    Yields:
        The loss of each step, after the step.
    """
    for loss in losses:
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if schedule is not None:
            schedule.step()
        yield float(loss.detach())


def scores_of(network: nn.Module, batches: Iterable[Tensor]) -> Tensor:
    """Scores ``(N, K)`` of a network over batches ``(B, C, *S)``, without gradients."""
    with torch.no_grad():
        return torch.cat([network(images) for images in batches])
