"""Writing results: only complete files, and the same bytes for the same values."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from SaliencyExplain.bands import BANDS
from SaliencyExplain.errors import ErrorCode, OutputError
from SaliencyExplain.geometry import LPS_TO_RAS, bounding_box, spacing_of

#: Attributions compress poorly: level 9 takes five times as long as level 1 and saves a few per
#: cent; nibabel uses level 1 as well.
_COMPRESSION = 1


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path next to `path` and renames it when the file is complete.

    The temporary name is hidden, keeps the suffixes (libraries choose the format by them) and
    is always the same for the same `path`, so that the next run overwrites what a killed run
    left. Missing folders are created.

    Args:
        path: The final name.

    Yields:
        The path to write to.

    Raises:
        OutputError: The path is not writable, or the disk is full; neither the final nor the
            temporary file remains.
    """
    temporary = path.with_name(f".part-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        # A full disk may show only here (delayed allocation, network drives).
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            ErrorCode.OUTPUT_UNWRITABLE,
            f"{path}: cannot be written ({reason}). Check free space and permissions, or choose "
            "another folder.",
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_volume(
    path: Path, values: NDArray[np.float32], affine: NDArray[np.float64], description: str = ""
) -> None:
    """Writes a map as NIfTI, the same bytes for the same input.

    Args:
        path: Ends in `.nii.gz`.
        values: (*S) of 2 or 3 axes.
        affine: 4x4, voxel indices to RAS millimetres.
        description: Description in the header, cut to its 79 bytes.

    Raises:
        OutputError: It cannot be written.
    """
    content = nifti_of(values, affine, description).to_bytes()
    with (
        atomic_file(path) as temporary,
        temporary.open("wb") as file,
        # gzip's header gets neither time nor file name, so that the bytes are repeatable.
        gzip.GzipFile("", "wb", _COMPRESSION, file, mtime=0) as packed,
    ):
        packed.write(content)


def nifti_of(
    values: NDArray[np.float32], affine: NDArray[np.float64], description: str = ""
) -> nibabel.Nifti1Image:
    """A map as a NIfTI image in memory; see :func:`write_volume`."""
    image = nibabel.Nifti1Image(np.asarray(values, dtype=np.float32), affine)
    image.header.set_xyzt_units("mm")
    # Both forms, because ITK (and so 3D Slicer) and nibabel prefer different ones.
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header["descrip"] = description.encode("ascii", "replace")[:79]
    return image


def itk_of(values: NDArray[Any], affine: NDArray[np.float64]) -> sitk.Image:
    """Values as an image of SimpleITK, whose world is LPS.

    Args:
        values: (*S) of 3 axes.
        affine: 4x4, voxel indices to RAS millimetres.
    """
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.T))
    lps = LPS_TO_RAS @ affine
    spacing = np.array(spacing_of(affine, 3))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


@dataclass(frozen=True)
class SegmentLabel:
    """A segment of a label map.

    Attributes:
        label: Its value in the label map.
        name: Its name in Slicer.
        color: RGB, each in [0, 1].
    """

    label: int
    name: str
    color: tuple[float, float, float]


def write_bands(path: Path, labels: NDArray[np.uint8], affine: NDArray[np.float64]) -> None:
    """Writes a label map of bands as a segmentation for 3D Slicer.

    One segment for each band; bands of negative values only if there are any.

    Args:
        path: Ends in `.seg.nrrd`.
        labels: (*S) of 2 or 3 axes, the labels of `SaliencyExplain.bands.BANDS`.
        affine: 4x4, voxel indices to RAS millimetres.

    Raises:
        OutputError: It cannot be written.
    """
    any_against = any(band.sign < 0 and (labels == band.label).any() for band in BANDS)
    bands = [band for band in BANDS if band.sign > 0 or any_against]
    segments = [SegmentLabel(band.label, band.name, band.color) for band in bands]
    write_label_map(path, labels, affine, segments)


def write_label_map(
    path: Path,
    labels: NDArray[np.uint8],
    affine: NDArray[np.float64],
    segments: Sequence[SegmentLabel],
) -> None:
    """Writes a label map as a segmentation with names and colours for 3D Slicer.

    The text fields are those of Slicer's vtkMRMLSegmentationStorageNode.

    Args:
        path: Ends in `.seg.nrrd`.
        labels: (*S) of 2 or 3 axes.
        affine: 4x4, voxel indices to RAS millimetres.
        segments: Names and colours of the labels.

    Raises:
        OutputError: It cannot be written.
    """
    volume = labels.reshape((*labels.shape, 1)) if labels.ndim == 2 else labels
    image = itk_of(volume, affine)
    for key, value in _segmentation_fields(segments, volume).items():
        image.SetMetaData(key, value)
    with atomic_file(path) as temporary:
        try:
            sitk.WriteImage(image, str(temporary), useCompression=True)
        except RuntimeError as error:
            raise OSError(None, str(error).strip().splitlines()[-1]) from error


def _segmentation_fields(
    segments: Sequence[SegmentLabel], labels: NDArray[np.uint8]
) -> dict[str, str]:
    fields = {
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_SourceRepresentation": "Binary labelmap",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
    }
    for index, segment in enumerate(segments):
        fields |= {
            f"Segment{index}_ID": f"Segment_{segment.label}",
            f"Segment{index}_Name": segment.name,
            f"Segment{index}_NameAutoGenerated": "0",
            f"Segment{index}_Color": " ".join(f"{part:g}" for part in segment.color),
            f"Segment{index}_ColorAutoGenerated": "0",
            f"Segment{index}_LabelValue": str(segment.label),
            f"Segment{index}_Layer": "0",
            f"Segment{index}_Extent": _extent(labels == segment.label),
            f"Segment{index}_Tags": "Segmentation.Status:inprogress|",
        }
    return fields


def _extent(mask: NDArray[np.bool_]) -> str:
    """First and last voxel of a mask along each axis; 0 -1 for an empty mask."""
    box = bounding_box(mask) if mask.any() else [slice(0, 0)] * mask.ndim
    return " ".join(f"{side.start} {side.stop - 1}" for side in box)
