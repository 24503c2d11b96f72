"""In which order a map would have voxels taken away, and nested masks of equal share."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.errors import ErrorCode, InputError


def voxel_places(values: NDArray[np.floating], ties: NDArray[np.floating]) -> NDArray[np.int64]:
    """The place of each voxel in the order of a map, 0 for the strongest.

    Args:
        values: The map, ``(*S)``, finite; the signed values rank, the greatest first.
        ties: ``(*S)``; among voxels of equal value the greater one comes first. Half of a
            Grad-CAM is exactly 0: without this a mask of a given share could not be cut.

    Returns:
        ``(*S)``, a permutation of the numbers from 0 on.

    Raises:
        InputError: The map is constant or not finite, so that it has no order.
    """
    check_ranks(values)
    order = np.lexsort((-ties.ravel(), -values.ravel()))
    places = np.empty(order.size, dtype=np.int64)
    places[order] = np.arange(order.size)
    return places.reshape(values.shape)


def check_ranks(values: NDArray[np.floating]) -> None:
    """Raises InputError where a map has no order: constant, or not finite."""
    if not np.isfinite(values).all():
        raise InputError(
            ErrorCode.MAP_NOT_FINITE,
            "The map has values that are not finite: its voxels have no order.",
        )
    if values.min() == values.max():
        raise InputError(
            ErrorCode.MAP_CONSTANT,
            f"The map is constant ({values.flat[0]:g} everywhere): it ranks no voxel before "
            "another and cannot be evaluated.",
        )


def voxels_of_share(share: float, voxels: int) -> int:
    """How many voxels a share of a map is, at least one.

    As many as lie at or above the quantile ``1 - share`` of values that all differ, which is
    how ``saliency.metrics.pic`` cuts its masks.
    """
    return voxels - math.ceil((voxels - 1) * (1 - share))
