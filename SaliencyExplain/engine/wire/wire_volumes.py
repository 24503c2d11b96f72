"""Which volumes may travel between a face and an engine."""

from __future__ import annotations

import sys

import numpy as np

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.geometry import is_invertible
from SaliencyExplain.voxel_volume import Volume

#: Types of voxels that an engine takes, as numpy spells them.
TYPES = ("<f4", "|u1")


def check_volume(volume: Volume) -> None:
    """Checks that a volume is of a form that an engine takes, before its voxels are sent.

    Raises:
        InputError: Its type, number of axes or affine is not supported.
    """
    values, affine = volume.values, np.asarray(volume.affine)
    if values.dtype.str not in TYPES:
        raise InputError(
            ErrorCode.VALUE_FORM,
            f"Voxels are float32 or uint8, not {values.dtype} ({sys.byteorder}-endian). Convert "
            "them first.",
        )
    if not 2 <= values.ndim <= 4 or not values.size:
        raise InputError(
            ErrorCode.VALUE_FORM,
            f"A volume of shape {values.shape} must have two to four axes, each with voxels.",
        )
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise InputError(
            ErrorCode.VALUE_FORM, "The affine of a volume is a 4x4 matrix of finite numbers."
        )
    if not is_invertible(affine):
        raise InputError(
            ErrorCode.VALUE_FORM,
            "The affine of the volume has no inverse: its voxels have no size.",
        )
    if not np.allclose(affine[3], [0, 0, 0, 1]):
        raise InputError(
            ErrorCode.VALUE_FORM, "The last row of the affine of a volume is not 0 0 0 1."
        )
