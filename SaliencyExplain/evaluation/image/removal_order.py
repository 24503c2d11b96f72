"""The order in which a map removes voxels, and nested masks of given shares."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.errors import ErrorCode, InputError


def voxel_places(values: NDArray[np.floating], ties: NDArray[np.floating]) -> NDArray[np.int64]:
    """The rank of each voxel in a map, 0 for the strongest.

    Args:
        values: The map, ``(*S)``, finite; signed values are ranked, the largest first.
        ties: ``(*S)``; decides among voxels of equal value, the larger one comes first. Half of
            a Grad-CAM is exactly 0, and without it masks of a given share would be undefined.

    Returns:
        ``(*S)``, a permutation of the numbers from 0 on.

    Raises:
        InputError: The map is constant or not finite, and so has no order.
    """
    check_ranks(values)
    order = np.lexsort((-ties.ravel(), -values.ravel()))
    places = np.empty(order.size, dtype=np.int64)
    places[order] = np.arange(order.size)
    return places.reshape(values.shape)


def check_ranks(values: NDArray[np.floating]) -> None:
    """Raises InputError if a map has no order because it is constant or not finite."""
    if not np.isfinite(values).all():
        raise InputError(
            ErrorCode.MAP_NOT_FINITE,
            "Map: it has values that are not finite and cannot be evaluated. Check the intensity "
            "preprocessing.",
        )
    if values.min() == values.max():
        raise InputError(
            ErrorCode.MAP_CONSTANT,
            f"Map: it is constant ({values.flat[0]:g} everywhere), does not rank voxels and cannot "
            "be evaluated. Evaluate another map.",
        )


def voxels_of_share(share: float, voxels: int) -> int:
    """Number of voxels of a share of a map, at least one.

    As many as lie at or above the quantile ``1 - share`` of distinct values, as in the masks of
    ``saliency.metrics.pic``.
    """
    return voxels - math.ceil((voxels - 1) * (1 - share))
