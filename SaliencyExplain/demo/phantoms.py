"""Phantoms: images of head-like things whose truth is known to the voxel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from SaliencyExplain.demo.anatomy import Head, Volume, draw_head
from SaliencyExplain.demo.fields import SmoothField
from SaliencyExplain.demo.tumours import CLASSES, NO_TUMOUR, Tumour
from SaliencyExplain.errors import ErrorCode, InputError, unknown_name

#: The grid of a 3D phantom: thick slices, as clinical series have.
SHAPE_3D, SPACING_3D = (72, 88, 56), (2.5, 2.5, 3.0)
#: The grid of a 2D phantom: that of a PNG, which knows no other spacing than 1 mm.
SHAPE_2D, SPACING_2D = (184, 224), (1.0, 1.0)

#: Edge of the marker and its distance from the edges of the image, in millimetres.
MARKER_SIZE, MARKER_MARGIN = 18.0, 6.0
_MARKER_SIGNAL = 1.1


@dataclass(frozen=True)
class Phantom:
    """An image and the truth about it.

    Attributes:
        image: ``(1, *S)``, float32, with its RAS affine in millimetres.
        masks: ``{segment: mask (*S)}``: ``tumour`` where there is one, ``marker``
            where the shortcut is planted.
        label: Its class, one of ``CLASSES``.
    """

    image: MetaTensor
    masks: dict[str, NDArray[np.bool_]]
    label: str


def draw_phantom(label: str, seed: int, *, dimensions: int = 3, marker: bool = False) -> Phantom:
    """Draws a head with or without a mass, and with or without a marker beside it.

    The seed decides everything but the label and the marker: two phantoms of one
    seed and different labels are the same head, and taking the marker away changes
    the marker's voxels alone.

    Args:
        label: One of ``CLASSES``.
        seed: Any whole number from 0 on.
        dimensions: 3 for a volume of thick slices; 2 for one axial slice through
            the middle of the mass (or through where one could have been), with the
            axes of a PNG: columns to the patient's left, rows to the back.
        marker: Whether a bright cube is planted in a corner, outside the head.

    Returns:
        The image, its masks and its label.

    Raises:
        InputError: There is no such label, or ``dimensions`` is neither 2 nor 3.

    Example:
        >>> import SaliencyExplain as se
        >>> phantom = se.draw_phantom("glioma-like", seed=3, dimensions=2)
        >>> phantom.image.shape[1:] == phantom.masks["tumour"].shape
        True
    """
    if label not in CLASSES:
        raise unknown_name("class of phantoms", label, CLASSES)
    if dimensions not in (2, 3):
        raise InputError(
            ErrorCode.VALUE_RANGE, f"A phantom has 2 or 3 dimensions, not {dimensions}."
        )
    shaping, growing, scanning = (
        np.random.default_rng(stream) for stream in np.random.SeedSequence(seed).spawn(3)
    )
    head = Head.random(shaping)
    # A slice without a mass is at the height of some mass, or the height alone would tell.
    where = label if label != NO_TUMOUR else CLASSES[1 + seed % (len(CLASSES) - 1)]
    tumour = Tumour.random(where, growing)
    height = float(head.to_world(tumour.centre)[2])
    axes, affine = _grid(dimensions, height)
    points = head.coordinates(axes)

    signal, depth = draw_head(head, axes, points)
    masks: dict[str, NDArray[np.bool_]] = {}
    if label != NO_TUMOUR:
        masks["tumour"] = tumour.draw(axes, points, depth, signal)
    corner = _marker_mask(axes)
    if marker:
        masks["marker"] = corner
    values = _scan(signal, corner if marker else None, axes, scanning)
    if dimensions == 2:
        values = values[..., 0]
        masks = {name: mask[..., 0] for name, mask in masks.items()}
    image = MetaTensor(torch.from_numpy(values[None]), affine=torch.from_numpy(affine))
    return Phantom(image, masks, label)


def _grid(dimensions: int, height: float) -> tuple[list[NDArray[np.float64]], NDArray[np.float64]]:
    """World coordinates along x, y and z, and the affine, of a phantom's grid."""
    affine: NDArray[np.float64] = np.eye(4)
    axes: list[NDArray[np.float64]]
    if dimensions == 3:
        axes = [
            (np.arange(n, dtype=np.float64) - (n - 1) / 2) * s
            for n, s in zip(SHAPE_3D, SPACING_3D, strict=True)
        ]
        affine[:3, :3] = np.diag(SPACING_3D)
        affine[:3, 3] = [axis[0] for axis in axes]
        return axes, affine
    axes = [
        ((n - 1) / 2 - np.arange(n, dtype=np.float64)) * s
        for n, s in zip(SHAPE_2D, SPACING_2D, strict=True)
    ]
    # A PNG has no place in the world: its first pixel is the origin.
    affine[0, 0], affine[1, 1] = -SPACING_2D[0], -SPACING_2D[1]
    return [*axes, np.array([height])], affine


def _marker_mask(axes: Sequence[NDArray[np.float64]]) -> NDArray[np.bool_]:
    """The voxels of the marker: a cube in the right anterior (superior) corner."""
    inside = []
    for axis in axes:
        top = axis.max() - MARKER_MARGIN
        near = (axis <= top) & (axis > top - MARKER_SIZE)
        inside.append(near if axis.size > 1 else np.ones(1, bool))
    return inside[0][:, None, None] & inside[1][:, None] & inside[2]


def _scan(
    signal: Volume,
    marker: NDArray[np.bool_] | None,
    axes: Sequence[NDArray[np.float64]],
    random: np.random.Generator,
) -> NDArray[np.float32]:
    """What a scanner makes of the signal: blur, bias field, Rician noise and a gain."""
    blurred = gaussian_filter(signal, sigma=[0.45 if n > 1 else 0 for n in signal.shape])
    bias = np.exp(0.12 * SmoothField.blobs(random, 110.0, waves=16).on_grid(axes))
    noise = random.uniform(0.02, 0.045)
    gain = random.uniform(500, 1500)
    real, imaginary = random.standard_normal((2, *signal.shape), dtype=np.float32) * noise
    clean = blurred * bias
    if marker is not None:
        clean = np.where(marker, np.float32(_MARKER_SIGNAL), clean)
    return (gain * np.hypot(clean + real, imaginary)).astype(np.float32)
