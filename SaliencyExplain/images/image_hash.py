"""A hash that identifies an image independent of its file's name and format."""

from __future__ import annotations

import hashlib

import numpy as np
from monai.data import MetaTensor


def voxel_hash(image: MetaTensor) -> str:
    """SHA-256 over the voxels and the affine; equal for the same image in any format."""
    digest = hashlib.sha256(np.ascontiguousarray(image.numpy(), dtype=np.float32).tobytes())
    digest.update(np.round(np.asarray(image.affine, dtype=np.float64), 5).tobytes())
    return digest.hexdigest()
