"""Maps of images of any size on one small grid over the image."""

from __future__ import annotations

import numpy as np
from nibabel.orientations import apply_orientation, io_orientation
from numpy.typing import NDArray

from SaliencyExplain.geometry import spacing_of
from SaliencyExplain.pictures.planes import has_body_axes

#: Cells along each axis of the common grid: a cell is a twentieth of the image's side,
#: about a centimetre of a head.
CELLS = 20

#: What lies at the low and at the high end of each world axis (RAS).
PATIENT_SIDES = (
    ("the patient's left", "the patient's right"),
    ("the back", "the front"),
    ("the feet", "the head"),
)

#: The same of a picture as it is stored.
PICTURE_SIDES = (("the picture's left", "the picture's right"), ("its top", "its bottom"))


def on_common_grid(
    values: NDArray[np.floating] | NDArray[np.bool_],
    affine: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The sum of a map's values in each cell of a grid over its image.

    Volumes, and slices of two axes with a place in the patient, are turned first, so that their
    axes rise to the patient's right, front and head as nearly as they can; plain pictures stay as
    they are stored. A voxel that lies in several
    cells is shared out among them, so that the sum over all cells is the map's.

    Args:
        values: ``(*S)`` with two or three axes.
        affine: 4x4, voxel indices to RAS millimetres.

    Returns:
        ``(CELLS, ...)``, an axis for each of the map's; an axis of a single voxel is left out.
    """
    found = np.asarray(values, dtype=np.float64)
    if has_body_axes(affine, found.ndim):
        found = found.reshape(*found.shape, *(1,) * (3 - found.ndim))
        found = apply_orientation(found, io_orientation(affine))
        found = found.reshape([size for size in found.shape if size > 1])
    for axis, size in enumerate(found.shape):
        found = np.moveaxis(np.tensordot(_shares(size), found, axes=(1, axis)), 0, axis)
    return found


def cell_size_mm(shape: tuple[int, ...], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Side of the cells along each axis of the common grid, mm."""
    sides = np.array(spacing_of(affine, len(shape))) * np.array(shape)
    if has_body_axes(affine, len(shape)):
        order = np.argsort(io_orientation(affine)[:, 0])
        kept = [axis for axis, size in enumerate(shape) if size > 1]
        sides = np.array([sides[axis] for axis in order if axis in kept])
    return sides / CELLS


def _shares(size: int) -> NDArray[np.float64]:
    """The share of each voxel in each cell, ``(CELLS, size)``; columns sum to 1."""
    edges = np.linspace(0, size, CELLS + 1)
    low, high = edges[:-1, None], edges[1:, None]
    voxel = np.arange(size)[None]
    return np.clip(np.minimum(high, voxel + 1) - np.maximum(low, voxel), 0, 1)


def side_names(shape: tuple[int, ...], affine: NDArray[np.float64]) -> tuple[tuple[str, str], ...]:
    """What lies at the low and at the high end of each axis of the common grid.

    Of volumes, and slices with a place in the patient, the patient's sides, however the file
    stores them; of pictures, whose patient may lie any way, the picture's.
    """
    if not has_body_axes(affine, len(shape)):
        return PICTURE_SIDES
    order = io_orientation(affine)[:, 0].astype(int)
    long = sorted(order[axis] for axis, size in enumerate(shape) if size > 1)
    return tuple(PATIENT_SIDES[axis] for axis in long)
