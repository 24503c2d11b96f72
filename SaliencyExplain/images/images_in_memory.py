"""Converting and checking images in memory that belong to common libraries."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK as sitk
from monai.data import MetaTensor
from monai.utils import SpaceKeys
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray
from torch import Tensor

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.geometry import LPS_TO_RAS
from SaliencyExplain.images.reading import finite_image, with_contrast
from SaliencyExplain.images.volume import Volume, checked_affine, several_volumes
from SaliencyExplain.images.volume_files import nibabel_affine

#: Name of an image in memory without a name.
UNNAMED = "image"


def image_in_memory(given: Any, axes: int, name: str = "") -> MetaTensor:
    """Converts an image of another library to an image of this project.

    Args:
        given: A MetaTensor or ``(array, affine)`` with channels first, ``(C, *S)``, or without
            a channel, ``(*S)``; a nibabel or SimpleITK image of one channel. Affines are 4x4,
            voxel indices to RAS millimetres; a MetaTensor whose ``space`` is LPS is converted.
        axes: Spatial axes of the classifier, 2 or 3, which distinguish channels from slices.
        name: Name of the image; empty: the name in the MetaTensor, else "image".

    Returns:
        float32 ``(C, *S)`` as :func:`SaliencyExplain.images.reading.read_image` gives it.

    Raises:
        InputError: Its type is unknown, it has no affine, or it fails a check of image files.
    """
    kind = "array" if isinstance(given, tuple) else type(given).__name__
    where = Path(f"the {kind} '{name or UNNAMED}'")
    if isinstance(given, MetaTensor):
        affine = np.asarray(given.affine, dtype=np.float64)
        # MONAI's readers convert the affine; a MetaTensor made by hand may be declared as LPS.
        if given.meta.get("space") == SpaceKeys.LPS:
            affine = LPS_TO_RAS @ _four_by_four(where, affine)
        volume = _array_volume(where, given.as_tensor(), affine, axes)
        name = name or str(given.meta.get("name", ""))
    elif isinstance(given, SpatialImage):
        volume = _nibabel_volume(where, given)
    elif isinstance(given, sitk.Image):
        volume = _itk_volume(where, given)
    elif isinstance(given, tuple) and len(given) == 2:
        volume = _array_volume(where, given[0], _numeric(where, given[1]), axes)
    else:
        raise InputError(
            ErrorCode.VALUE_FORM,
            f"Image: a value of the type {type(given).__name__} cannot be used{_why_not(given)}. "
            "Give a path, a MetaTensor, a nibabel or SimpleITK image, or an array with its affine "
            "(array, affine).",
        )
    return with_contrast(where, finite_image(where, volume, name or UNNAMED))


def _why_not(given: Any) -> str:
    bare = isinstance(given, (np.ndarray, Tensor))
    return " without an affine, which places its voxels in the world" if bare else ""


def _numeric(where: Path, affine: Any) -> NDArray[np.float64]:
    try:
        return np.asarray(affine, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(
            ErrorCode.IMAGE_GEOMETRY,
            f"{where}: its affine is not an array of numbers. Give a 4 x 4 affine from voxel "
            "indices to RAS millimetres.",
        ) from None


def _four_by_four(where: Path, affine: NDArray[np.float64]) -> NDArray[np.float64]:
    if affine.shape != (4, 4):
        raise InputError(
            ErrorCode.IMAGE_GEOMETRY,
            f"{where}: its affine has the shape {affine.shape}. Give a 4 x 4 affine from voxel "
            "indices to RAS millimetres.",
        )
    checked_affine(where, affine)
    return affine


def _array_volume(where: Path, given: Any, affine: NDArray[np.float64], axes: int) -> Volume:
    tensor = given.detach().cpu().numpy() if isinstance(given, Tensor) else given
    values = np.asarray(tensor)
    if values.dtype.kind not in "iufb":
        raise InputError(
            ErrorCode.IMAGE_VOXEL_TYPE,
            f"{where}: its values are {values.dtype}. Give one real number per voxel.",
        )
    if values.ndim == axes:
        values = values[None]
    # A single slice of a volume is a valid image for a 2D classifier.
    if values.ndim != axes + 1 and not (axes == 2 and values.ndim == 4 and values.shape[3] == 1):
        raise InputError(
            ErrorCode.IMAGE_AXES,
            f"{where}: has the shape {values.shape}. For a classifier of {axes}D images give "
            f"{axes} axes, or {axes + 1} with the channels first.",
        )
    return Volume(values, _four_by_four(where, affine))


def _nibabel_volume(where: Path, image: SpatialImage) -> Volume:
    shape = tuple(int(size) for size in image.shape)
    if image.get_data_dtype().kind not in "iufb":
        raise InputError(
            ErrorCode.IMAGE_VOXEL_TYPE,
            f"{where}: its voxels are {image.get_data_dtype()}. Give one real number per voxel.",
        )
    count = math.prod(shape[3:])
    if count != 1:
        raise InputError(ErrorCode.IMAGE_AMBIGUOUS, several_volumes(where, count))
    header = image.header
    block = header.binaryblock if isinstance(header, nibabel.AnalyzeHeader) else b""
    affine, notes = nibabel_affine(where, image, block, shape[:3])
    values = np.asarray(image.dataobj).reshape(shape[:3])
    return Volume(values[None], affine, tuple(notes))


def _itk_volume(where: Path, image: sitk.Image) -> Volume:
    axes = image.GetDimension()
    if image.GetNumberOfComponentsPerPixel() != 1 or axes not in (2, 3):
        raise InputError(
            ErrorCode.IMAGE_AMBIGUOUS,
            f"{where}: has {axes} axes and {image.GetNumberOfComponentsPerPixel()} values per "
            "voxel. Give a volume or slice with one value per voxel, or a list of channels.",
        )
    values = sitk.GetArrayFromImage(image).T
    lps = np.eye(4)
    directions = np.array(image.GetDirection()).reshape(axes, axes)
    lps[:axes, :axes] = directions * np.array(image.GetSpacing())
    lps[:axes, 3] = image.GetOrigin()
    return Volume(values[None], _four_by_four(where, LPS_TO_RAS @ lps))
