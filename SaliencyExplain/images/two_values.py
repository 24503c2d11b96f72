"""Deciding by its values whether a file is a mask and not an image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.errors import InputError
from SaliencyExplain.images import raster
from SaliencyExplain.images.boundary import reading
from SaliencyExplain.images.volume_reading import read_volume


def has_two_values(path: Path) -> bool:
    """Whether the voxels of a file have only two values, as in a mask.

    Args:
        path: A picture or a volume.

    Returns:
        False if the file cannot be read; reading it as an image reports the reason.
    """
    try:
        with reading(path):
            if path.name.lower().endswith(raster.SUFFIXES):
                found = raster.decode(path)
                if found.lossy:
                    return _two_heaps(found.values)
                values = found.values
            else:
                values = read_volume(path, several=True).values
    except InputError:
        return False
    flat = np.asarray(values).reshape(-1)
    first = flat[0] if flat.size else None
    different = flat[flat != first]
    return different.size == 0 or bool(np.all(different == different[0]))


def _two_heaps(values: NDArray[Any]) -> bool:
    """Whether nearly all values are close to two values, since JPEG blurs the edge of a mask."""
    low, high = float(values.min()), float(values.max())
    near_low = values < low + 0.1 * (high - low)
    near_high = values > high - 0.1 * (high - low)
    return bool(np.mean(near_low | near_high) > 0.98 and near_low.any() and near_high.any())
