"""What identifies an image, whatever its file is called and of whatever format it is."""

from __future__ import annotations

import hashlib

import numpy as np
from monai.data import MetaTensor


def voxel_hash(image: MetaTensor) -> str:
    """SHA-256 over the voxels and the affine: the same for the same image in any format."""
    digest = hashlib.sha256(np.ascontiguousarray(image.numpy(), dtype=np.float32).tobytes())
    digest.update(np.round(np.asarray(image.affine, dtype=np.float64), 5).tobytes())
    return digest.hexdigest()
