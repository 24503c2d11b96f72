"""Reading an image of any format into a MetaTensor, with checks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor
from monai.utils import SpaceKeys
from numpy.typing import NDArray

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.geometry import SHEAR_TOLERANCE, same_grid, shear_of, spacing_of, upright_grid
from SaliencyExplain.images.boundary import reader
from SaliencyExplain.images.resampling import resample
from SaliencyExplain.images.volume import Volume
from SaliencyExplain.images.volume_reading import read_volume, short_name

#: Largest number of voxels of the right-angled grid per voxel of a sheared one. A gantry tilt of 30
#: degrees over two metres gives four.
_MOST_UPRIGHT = 10


def read_image(path: Path, *, series: str | None = None, colour: bool = False) -> MetaTensor:
    """Reads one image.

    Sheared grids (CT with a tilted gantry) are resampled linearly onto the right-angled grid
    with the same slice planes, with a note, because NRRD in 3D Slicer and ITK do not support
    shear.

    Args:
        path: NIfTI, NRRD, MetaImage, FreeSurfer, PNG, JPEG, BMP, TIFF or DICOM file, a file that a
            plugin reads, or a folder of DICOM slices.
        series: SeriesInstanceUID, if a folder holds several series.
        colour: Return red, green and blue of a picture as three channels.

    Returns:
        float32 (1, *S), or (3, *S) with `colour`, S of 2 or 3 axes, with its 4x4 affine
        to RAS millimetres. `meta["notes"]` has notes for the user, `meta["name"]` the image's
        name without its format's ending, `meta["modality"]` and `meta["frame_of_reference"]`
        are from DICOM, empty if unknown.

    Raises:
        InputError: It is missing, unreadable, truncated, of several volumes, ambiguous,
            has slices at uneven distances, holds values that are not finite, or only
            one value.

    Example:
        >>> image = se.read_image(image_file)
        >>> image.shape[0], image.affine.shape
        (1, torch.Size([4, 4]))
    """
    return with_contrast(Path(path), _read_finite(Path(path), series, colour))


def with_contrast(path: Path, image: MetaTensor) -> MetaTensor:
    """Checks that an image is not constant; an image with two values gets a note.

    Args:
        path: Its file, for messages.
        image: ``(C, *S)`` with its notes.

    Raises:
        InputError: All of its voxels are the same.
    """
    low, high = image.min(), image.max()
    if low == high:
        raise InputError(
            ErrorCode.IMAGE_VALUES,
            f"{path}: all of its voxels are {high:g}. Give an image with contrast.",
        )
    if ((image == low) | (image == high)).all():
        image.meta["notes"].append("the image has only two values and may be a mask")
    return image


def read_map(path: Path) -> MetaTensor:
    """Reads a map of one channel as :func:`read_image` does, but allows constant values.

    Args:
        path: A file of any image format.

    Returns:
        float32 (1, *S) with its affine and notes.

    Raises:
        InputError: See :func:`read_image`; constant values are allowed.
    """
    return _read_finite(Path(path), None, False)


@reader
def _read_finite(path: Path, series: str | None, colour: bool) -> MetaTensor:
    volume = read_volume(path, series=series, colour=colour)
    if colour and not volume.colour:
        raise InputError(
            ErrorCode.FILE_FORMAT,
            f"{path}: the classifier takes colours, and this is not a PNG, JPEG, BMP or TIFF "
            "picture. Give a colour picture.",
        )
    return finite_image(path, volume, short_name(path))


def finite_image(path: Path, volume: Volume, name: str) -> MetaTensor:
    """Makes an image from a volume, on a right-angled grid.

    Args:
        path: The volume's file, for messages.
        volume: Its voxels and affine.
        name: Short name that does not identify a patient.

    Raises:
        InputError: A voxel is not finite, or the grid is sheared too far.
    """
    values = np.ascontiguousarray(volume.values, dtype=np.float32)
    bad = int(values.size - np.isfinite(values).sum())
    if bad:
        raise InputError(
            ErrorCode.IMAGE_VALUES,
            f"{path}: {bad} of its {values.size} voxels are not finite (NaN or infinite). Replace "
            "these values first.",
        )
    notes, affine = list(volume.notes), volume.affine
    if values.ndim == 4 and shear_of(affine) > SHEAR_TOLERANCE:
        values, affine, note = _upright(path, values, affine)
        notes.append(note)
    return to_image(
        values,
        affine,
        name=name,
        notes=notes,
        modality=volume.modality,
        frame_of_reference=volume.frame_of_reference,
    )


def to_image(
    values: NDArray[np.float32],
    affine: NDArray[np.float64],
    *,
    name: str,
    notes: Sequence[str] = (),
    modality: str = "",
    frame_of_reference: str = "",
) -> MetaTensor:
    """Makes an image of this project from values and an affine.

    Args:
        values: (C, *S).
        affine: 4x4, voxel indices to RAS millimetres.
        name: Short name that does not identify a patient.
        notes: Notes for the user.
        modality: DICOM modality.
        frame_of_reference: DICOM Frame of Reference UID.
    """
    return MetaTensor(
        torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)),
        affine=torch.from_numpy(np.array(affine, dtype=np.float64)),
        meta={
            "name": name,
            "notes": list(notes),
            "modality": modality,
            "frame_of_reference": frame_of_reference,
            "space": SpaceKeys.RAS,
            "original_affine": np.array(affine, dtype=np.float64),
            "original_channel_dim": 0,
            "spatial_shape": np.array(values.shape[1:]),
        },
    )


def read_channels(
    paths: Sequence[Path],
    names: Sequence[str] | None = None,
    *,
    series: str | None = None,
    colour: bool = False,
) -> MetaTensor:
    """Reads several images as the channels of one.

    Args:
        paths: A file or DICOM folder for each channel, in the classifier's order.
        names: The channels' names, for messages; by default those of the files.
        series: SeriesInstanceUID, if `paths` is one folder with several series.
        colour: Return the three channels of one picture.

    Returns:
        float32 (C, *S) on the grid of the first; images on another grid are resampled onto it
        (linear, with a note).

    Raises:
        InputError: See :func:`read_image`; or images have different numbers of axes or
            do not overlap the first.
    """
    if not paths:
        raise InputError(ErrorCode.OPTION_MISSING, "Image: none was given. Give a file or folder.")
    images = [read_image(Path(path), series=series, colour=colour) for path in paths]
    return joined_channels(images, list(map(Path, paths)), names)


def joined_channels(
    images: Sequence[MetaTensor], paths: Sequence[Path], names: Sequence[str] | None = None
) -> MetaTensor:
    """Combines images of one channel to one image.

    Args:
        images: ``(1, *S)`` each, in the classifier's order.
        paths: Their files, for messages.
        names: The channels' names, for messages; by default those of the images.

    Returns:
        See :func:`read_channels`.

    Raises:
        InputError: They have different numbers of axes or do not overlap the first.
    """
    first = images[0]
    if len(images) == 1:
        return first
    called = list(names) if names else [image.meta["name"] for image in images]
    shape, affine = tuple(first.shape[1:]), first.affine.numpy()
    channels, notes = [first.numpy()], list(first.meta["notes"])
    for path, name, image in zip(paths[1:], called[1:], images[1:], strict=True):
        notes += [f"{name}: {note}" for note in image.meta["notes"] if note not in notes]
        channel, note = _onto(path, name, image, shape, affine)
        channels.append(channel)
        notes += [note] if note else []
    return to_image(
        np.concatenate(channels),
        affine,
        name=first.meta["name"],
        notes=notes,
        modality=first.meta["modality"],
        frame_of_reference=first.meta["frame_of_reference"],
    )


def _onto(
    path: Path, name: str, image: MetaTensor, shape: tuple[int, ...], affine: NDArray[np.float64]
) -> tuple[NDArray[np.float32], str]:
    values, own = image.numpy(), image.affine.numpy()
    if values.ndim - 1 != len(shape):
        raise InputError(
            ErrorCode.IMAGE_AXES,
            f"{path}: has {values.ndim - 1} axes, and the first image has {len(shape)}. Give "
            "channels with the same number of axes.",
        )
    if same_grid(values.shape[1:], own, shape, affine):
        return values, ""
    covered = resample(np.ones(values.shape[1:], dtype=bool), own, affine, shape, nearest=True)
    if not covered.any():
        raise InputError(
            ErrorCode.NO_OVERLAP,
            f"{path}: does not overlap the first image. Give channels of the same patient and "
            "examination.",
        )
    moved = np.stack(
        [resample(layer, own, affine, shape, False, float(layer.min())) for layer in values]
    )
    share = float(covered.mean())
    missing = f"; it covers {share * 100:.0f} % of it" if share < 0.995 else ""
    return moved, f"{name} is resampled (linear) onto the grid of the first image{missing}"


def _upright(
    path: Path, values: NDArray[np.float32], affine: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float64], str]:
    shape, upright = upright_grid(values.shape[1:], affine)
    if math.prod(shape) > _MOST_UPRIGHT * math.prod(values.shape[1:]):
        raise InputError(
            ErrorCode.IMAGE_GEOMETRY,
            f"{path}: its grid is sheared more than a gantry tilt can explain: the right-angled "
            f"grid around it has {' x '.join(map(str, shape))} voxels. Correct the header.",
        )
    moved = np.stack(
        [resample(layer, affine, upright, shape, False, float(layer.min())) for layer in values]
    )
    degrees = math.degrees(math.asin(min(shear_of(affine), 1.0)))
    spacing = " x ".join(f"{length:.2f}" for length in spacing_of(upright, 3))
    note = (
        f"the grid is sheared by {degrees:.1f} degrees (tilted gantry); resampled (linear) onto a "
        f"right-angled one of {' x '.join(map(str, shape))} voxels, {spacing} mm"
    )
    return moved, upright, note
