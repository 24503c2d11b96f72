"""Voxels and where they are."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels and where they are.

    Attributes:
        values: ``(*S)`` or ``(C, *S)``, float32 or uint8; S are voxel axes i, j, k (two or three).
        affine: 4x4, voxel indices to RAS millimetres.
    """

    values: NDArray[np.float32] | NDArray[np.uint8]
    affine: NDArray[np.float64]

    @cached_property
    def hash(self) -> str:
        """SHA-256 over type, shape, voxels and affine."""
        digest = hashlib.sha256(f"{self.values.dtype.str}{self.values.shape}".encode())
        digest.update(np.ascontiguousarray(self.values).data)
        digest.update(np.ascontiguousarray(self.affine, dtype=np.float64).data)
        return digest.hexdigest()
