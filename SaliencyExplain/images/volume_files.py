"""Volumes in single files: NIfTI through nibabel; NRRD and MetaImage through SimpleITK."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk
from nibabel.filebasedimages import ImageFileError
from nibabel.imageglobals import LoggingOutputSuppressor
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.grids import LPS_TO_RAS, same_grid
from SaliencyExplain.images.volume import Volume

NIBABEL_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".img", ".mgh", ".mgz")
ITK_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")

_UNREADABLE = (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, zlib.error)
#: NIfTI's codes of length units, in millimetres (nifti1.h: NIFTI_UNITS_METER, _MICRON).
_MILLIMETRES = {"meter": 1000.0, "micron": 0.001}


def read_nibabel(path: Path, several: bool) -> Volume:
    """Reads a NIfTI, Analyze or FreeSurfer volume.

    Args:
        path: The file.
        several: Whether volumes of more than three axes are wanted, as layers.

    Returns:
        The volume, scaled by the header's slope and intercept.

    Raises:
        InputError: It cannot be read, holds colours or complex numbers, has no valid
            affine, or holds several volumes where one is wanted.
    """
    try:
        # It says on standard error what it mends in headers, which many tools write a bit off.
        with LoggingOutputSuppressor():
            image = nibabel.load(path)
        shape = image.shape
        if image.get_data_dtype().kind not in "iufb":
            raise InputError(
                ErrorCode.IMAGE_VOXEL_TYPE,
                f"{path}: holds {_kind(image.get_data_dtype())} voxels, not one number each. "
                "Convert it to a volume of grey values.",
            )
        spatial = tuple(shape[:3])
        count = int(np.prod(shape[3:], dtype=int))
        if count != 1 and not several:
            raise InputError(ErrorCode.IMAGE_AMBIGUOUS, several_volumes(path, count))
        values = np.asarray(image.dataobj)
    except _UNREADABLE as error:
        raise unreadable(path, error) from error
    if len(shape) < 2 or 0 in shape:
        raise InputError(
            ErrorCode.IMAGE_AXES,
            f"{path}: has the shape {shape}, which is no image of two or three axes.",
        )
    values = values.reshape((*spatial, count), order="F")
    affine, notes = _nibabel_affine(path, image, spatial)
    return Volume(np.moveaxis(values, -1, 0), affine, tuple(notes))


def _nibabel_affine(
    path: Path, image: nibabel.spatialimages.SpatialImage, shape: tuple[int, ...]
) -> tuple[NDArray[np.float64], list[str]]:
    affine = np.array(image.affine, dtype=np.float64)
    notes: list[str] = []
    header = image.header
    if isinstance(header, nibabel.Nifti1Header):
        scale = _MILLIMETRES.get(header.get_xyzt_units()[0])
        if scale:
            affine[:3] *= scale
        sform, sform_code = image.get_sform(coded=True)
        qform, qform_code = image.get_qform(coded=True)
        if not sform_code and not qform_code:
            notes.append(
                "the header says nothing of orientation; the first axis is taken to run to the "
                "patient's left"
            )
        if sform_code and qform_code and not same_grid(shape, sform, shape, qform, 0.5):
            notes.append("the header holds two different orientations; the sform is taken")
    elif isinstance(header, nibabel.AnalyzeHeader):
        notes.append("an Analyze header says nothing of orientation: left and right may be swapped")
    checked_affine(path, affine)
    return affine, notes


def checked_affine(path: Path, affine: NDArray[np.float64]) -> None:
    """Raises InputError where an affine takes different voxels to the same place."""
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or lengths.min() == 0:
        raise InputError(
            ErrorCode.IMAGE_GEOMETRY,
            f"{path}: its header gives voxels no valid place (affine without inverse).",
        )
    if abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-6:
        raise InputError(
            ErrorCode.IMAGE_GEOMETRY, f"{path}: two axes of its header's affine point the same way."
        )


def read_itk(path: Path, several: bool) -> Volume:
    """Reads a NRRD or MetaImage file.

    Args:
        path: The file.
        several: Whether several components or volumes are wanted, as layers.

    Returns:
        The volume, with the header's text fields.

    Raises:
        InputError: It cannot be read, or holds several values at a voxel where one
            is wanted.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        with itk_quiet():
            reader.ReadImageInformation()
            size, components = reader.GetSize(), reader.GetNumberOfComponents()
            count = components * int(np.prod(size[3:], dtype=int))
            if count > 1 and not several:
                raise InputError(ErrorCode.IMAGE_AMBIGUOUS, _several_values(path, components, size))
            image = reader.Execute()
    except RuntimeError as error:
        raise unreadable(path, error) from error
    axes = min(len(size), 3)
    # Numpy's order is (..., z, y, x, component); layers go first, the axes x, y, z after.
    values = sitk.GetArrayFromImage(image)
    if components == 1:
        values = values[..., np.newaxis]
    values = values.reshape((-1, *values.shape[-1 - axes :]))
    values = np.moveaxis(values, -1, 1).reshape((count, *values.shape[1:-1]))
    values = values.transpose(0, *range(axes, 0, -1))
    affine = _itk_affine(image, axes)
    checked_affine(path, affine)
    header = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
    notes: tuple[str, ...] = ()
    if path.suffix in (".nrrd", ".nhdr") and axes == 3 and "NRRD_space" not in header:
        notes = (
            "the header names no patient space; its axes are taken as left, posterior, superior",
        )
    return Volume(values, affine, notes, header=header)


@contextmanager
def itk_quiet() -> Iterator[None]:
    """Keeps ITK from writing to standard error; what fails raises all the same.

    Its MetaImage part writes to the process's standard error past Python and past ITK's
    own switch, so the file descriptor itself is turned away for the moment.
    """
    warn = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
        sitk.ProcessObject.SetGlobalWarningDisplay(warn)


def _several_values(path: Path, components: int, size: Sequence[int]) -> str:
    if components in (3, 4) and len(size) < 4:
        return (
            f"{path}: holds colours or vectors ({components} values at each voxel), not one number "
            "each. Convert it to a volume of grey values."
        )
    return several_volumes(path, components * int(np.prod(size[3:], dtype=int)))


def _itk_affine(image: sitk.Image, axes: int) -> NDArray[np.float64]:
    dimension = image.GetDimension()
    direction = np.array(image.GetDirection()).reshape(dimension, dimension)[:axes, :axes]
    lps = np.eye(4)
    lps[:axes, :axes] = direction @ np.diag(image.GetSpacing()[:axes])
    lps[:axes, 3] = image.GetOrigin()[:axes]
    return LPS_TO_RAS @ lps


def several_volumes(path: Path, count: int) -> str:
    """The message for a file of several volumes where one is wanted."""
    return (
        f"{path}: holds {count} volumes (4D), and one (3D) is wanted. Save the one you mean as a "
        "file of its own."
    )


def unreadable(path: Path, error: Exception) -> InputError:
    """The error for a file that a library could not read, with its reason in one line."""
    reason = (
        str(error).strip().splitlines()[-1].strip() if str(error).strip() else "no reason given"
    )
    return InputError(
        ErrorCode.FILE_DAMAGED,
        f"{path}: cannot be read, it may be damaged or cut off ({reason[:200]}).",
    )


def _kind(data_type: np.dtype) -> str:
    return "complex" if data_type.kind == "c" else "colour"
