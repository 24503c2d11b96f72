"""The surroundings of a removed place, smoothly continued into it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from numpy.typing import NDArray
from torch import Tensor

from SaliencyExplain.attribution.incremental.boxes import inside
from SaliencyExplain.progress import may_stop

#: Where the residual is this part of what it was, the values are right to some 1e-4 of the
#: contrast around the place.
_TOLERANCE = 1e-5

#: Conjugate gradients need some five times the cells along the longest axis; this is far more.
_MOST_ITERATIONS = 2000


def harmonic_infill(
    channels: Tensor, corners: NDArray[np.int64], removed: Tensor, spacing: Sequence[float]
) -> Tensor:
    """Fills places so that each voxel is the mean of its neighbours, weighted by 1 / distance^2.

    That is the discrete solution of Laplace's equation with the surrounding voxels as its
    boundary (Perez, Gangnet & Blake 2003, Poisson image editing, equation 2: the membrane),
    the smoothest continuation in the sense of the least squared gradient. Nothing flows over
    the image's border. A place without surroundings gets its channel's mean.

    Solved by conjugate gradients for many places at once; each stops by itself, so that its
    values do not depend on the others.

    Args:
        channels: ``(C, *S)``.
        corners: First voxels of a box around each place, ``(places, axes)``.
        removed: ``(*box)``, the form of all places.
        spacing: Size of a voxel in mm, per axis.

    Returns:
        ``(places, C, *box)``, the image itself where nothing is removed.
    """
    axes = removed.ndim
    padded = F.pad(channels, [1, 1] * axes)
    exists = F.pad(torch.ones_like(channels[:1]), [1, 1] * axes)
    # A box and the voxels around it begin, in the padded image, where the box does in the image.
    size = [side + 2 for side in removed.shape]
    cut = [inside(corner, size) for corner in corners.tolist()]
    values = torch.stack([padded[box] for box in cut])
    there = torch.stack([exists[box] for box in cut])
    free = F.pad(removed.to(values.dtype), [1, 1] * axes)
    known = there * (1 - free)
    counts = known.sum(dim=tuple(range(2, axes + 2)), keepdim=True)
    sums = (values * known).sum(dim=tuple(range(2, axes + 2)), keepdim=True)
    overall = channels.flatten(1).mean(1).reshape(1, -1, *[1] * axes)
    start = torch.where(counts > 0, sums / counts.clamp(min=1), overall)
    values = torch.where(free > 0, start, values)
    edges = [
        there.narrow(axis, 0, there.shape[axis] - 1)
        * there.narrow(axis, 1, there.shape[axis] - 1)
        / voxel**2
        for axis, voxel in enumerate(spacing, start=2)
    ]
    solved = _solve(values, free, edges)
    middle = (slice(None), slice(None), *(slice(1, -1),) * axes)
    return solved[middle].contiguous()


def _solve(values: Tensor, free: Tensor, edges: Sequence[Tensor]) -> Tensor:
    """Conjugate gradients (Hestenes & Stiefel 1952) on the free cells, from ``values`` on."""
    axes = tuple(range(2, values.ndim))

    def flow(field: Tensor) -> Tensor:
        """What flows out of each free cell."""
        out = torch.zeros_like(field)
        for axis, edge in zip(axes, edges, strict=True):
            between = field.diff(dim=axis) * edge
            cells = field.shape[axis]
            out.narrow(axis, 0, cells - 1).sub_(between)
            out.narrow(axis, 1, cells - 1).add_(between)
        return out.mul_(free)

    def product(one: Tensor, other: Tensor) -> Tensor:
        return (one * other).sum(dim=axes, keepdim=True)

    values = values.clone()
    residual = -flow(values)
    direction = residual.clone()
    size = product(residual, residual)
    enough = _TOLERANCE**2 * size
    for _ in range(_MOST_ITERATIONS):
        may_stop()
        going = size > enough
        if not bool(going.any()):
            break
        spread = flow(direction)
        length = torch.where(going, size / product(direction, spread), 0.0)
        values += length * direction
        residual -= length * spread
        after = torch.where(going, product(residual, residual), size)
        direction = residual + torch.where(going, after / size, 0.0) * direction
        size = after
    return values
