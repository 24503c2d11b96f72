"""Files that the tests of images write: volumes with one bright voxel, DICOM series."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import (
    CTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    RTStructureSetStorage,
    generate_uid,
)
from scipy.spatial.transform import Rotation

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def oblique_affine(
    spacing: Sequence[float] = (0.8, 1.1, 3.0),
    degrees: Sequence[float] = (11.0, -7.0, 23.0),
    origin: Sequence[float] = (-40.0, 25.0, 60.0),
) -> NDArray[np.float64]:
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    affine[:3, :3] = turn @ np.diag(spacing)
    affine[:3, 3] = origin
    return affine


@pytest.fixture
def affine() -> NDArray[np.float64]:
    """An oblique grid with voxels of 0.8 x 1.1 x 3 mm."""
    return oblique_affine()


@pytest.fixture
def values() -> NDArray[np.int16]:
    """(7, 9, 5) of distinct whole numbers; the brightest voxel is (5, 2, 3)."""
    numbers = np.random.default_rng(0).permutation(7 * 9 * 5).reshape(7, 9, 5).astype(np.int16)
    numbers[5, 2, 3] = 1000
    return numbers


def _dataset(path: Path, sop_class: str, header: dict[str, Any]) -> Dataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = pydicom.FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.PatientName = "Secret^Patient"
    dataset.PatientID = "SECRET-4711"
    dataset.StudyInstanceUID = "1.2.3.4"
    dataset.FrameOfReferenceUID = "1.2.3.5"
    for keyword, value in header.items():
        setattr(dataset, keyword, value)
    return dataset


def _pixels(dataset: Dataset, stored: NDArray[np.int16]) -> None:
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 1
    dataset.PixelData = np.ascontiguousarray(stored, dtype="<i2").tobytes()


def _text(numbers: NDArray[np.float64]) -> list[str]:
    return [f"{number:.10g}"[:16] for number in numbers]


WriteSeries = Callable[..., list[Path]]


@pytest.fixture
def write_series() -> WriteSeries:
    """Writes a volume as a CT series, a file for each slice, under shuffled names."""

    def write(
        folder: Path,
        values: NDArray[np.int16],
        affine: NDArray[np.float64],
        *,
        uid: str = "1.2.3.6",
        heights: Sequence[float] | None = None,
        slope: float = 1.0,
        intercept: float = 0.0,
        **header: Any,
    ) -> list[Path]:
        """`heights` are the slices' places along the third axis, 0, 1, 2 ... if not given."""
        folder.mkdir(parents=True, exist_ok=True)
        lps = LPS @ affine
        spacing = np.linalg.norm(lps[:3, :3], axis=0)
        names = np.random.default_rng(1).permutation(values.shape[2])
        paths = []
        for index in range(values.shape[2]):
            height = index if heights is None else heights[index]
            path = folder / f"{uid}-{names[index]:03d}.dcm"
            dataset = _dataset(path, CTImageStorage, {"Modality": "CT", "SeriesInstanceUID": uid})
            dataset.ImagePositionPatient = _text(lps[:3, 3] + height * lps[:3, 2])
            dataset.ImageOrientationPatient = _text(
                np.concatenate([lps[:3, 0] / spacing[0], lps[:3, 1] / spacing[1]])
            )
            dataset.PixelSpacing = _text(spacing[[1, 0]])
            dataset.SliceThickness = f"{spacing[2]:.6g}"
            dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
            _pixels(dataset, values[:, :, index].T)
            for keyword, value in header.items():
                setattr(dataset, keyword, value)
            dataset.save_as(path)
            paths.append(path)
        return paths

    return write


@pytest.fixture
def write_enhanced() -> Callable[..., Path]:
    """Writes volumes as one enhanced MR object, frames in shuffled order."""

    def write(
        path: Path,
        volumes: Sequence[NDArray[np.int16]],
        affine: NDArray[np.float64],
        slope: float = 1.0,
    ) -> Path:
        lps = LPS @ affine
        spacing = np.linalg.norm(lps[:3, :3], axis=0)
        dataset = _dataset(
            path, EnhancedMRImageStorage, {"Modality": "MR", "SeriesInstanceUID": "1.2.3.7"}
        )
        shared = Dataset()
        measures, orientation, transformation = Dataset(), Dataset(), Dataset()
        measures.PixelSpacing = _text(spacing[[1, 0]])
        measures.SliceThickness = f"{spacing[2]:.6g}"
        orientation.ImageOrientationPatient = _text(
            np.concatenate([lps[:3, 0] / spacing[0], lps[:3, 1] / spacing[1]])
        )
        transformation.RescaleSlope, transformation.RescaleIntercept = slope, 0
        shared.PixelMeasuresSequence = DicomSequence([measures])
        shared.PlaneOrientationSequence = DicomSequence([orientation])
        shared.PixelValueTransformationSequence = DicomSequence([transformation])
        dataset.SharedFunctionalGroupsSequence = DicomSequence([shared])
        count = volumes[0].shape[2]
        slices = [(time, index) for time in range(len(volumes)) for index in range(count)]
        order = np.random.default_rng(2).permutation(len(slices))
        frames, stored = [], []
        for place in order:
            time, index = slices[place]
            frame, plane, content = Dataset(), Dataset(), Dataset()
            plane.ImagePositionPatient = _text(lps[:3, 3] + index * lps[:3, 2])
            content.TemporalPositionIndex = time + 1
            frame.PlanePositionSequence = DicomSequence([plane])
            frame.FrameContentSequence = DicomSequence([content])
            frames.append(frame)
            stored.append(volumes[time][:, :, index].T)
        dataset.PerFrameFunctionalGroupsSequence = DicomSequence(frames)
        dataset.NumberOfFrames = len(frames)
        _pixels(dataset, np.stack(stored))
        dataset.save_as(path)
        return path

    return write


@pytest.fixture
def write_rtstruct() -> Callable[..., Path]:
    """Writes named contours, (P, 3) points each in RAS millimetres, as an RTSTRUCT."""

    def write(
        path: Path, regions: dict[str, Sequence[NDArray[np.float64]]], kind: str = "CLOSED_PLANAR"
    ) -> Path:
        dataset = _dataset(
            path, RTStructureSetStorage, {"Modality": "RTSTRUCT", "SeriesInstanceUID": "1.2.3.8"}
        )
        named, drawn = [], []
        for number, (name, contours) in enumerate(regions.items(), start=1):
            region, item = Dataset(), Dataset()
            region.ROINumber, region.ROIName = number, name
            region.ReferencedFrameOfReferenceUID = "1.2.3.5"
            item.ReferencedROINumber, item.ROIDisplayColor = number, [0, 255, 0]
            items = []
            for points in contours:
                contour = Dataset()
                contour.ContourGeometricType = kind
                contour.NumberOfContourPoints = len(points)
                contour.ContourData = _text((points @ LPS[:3, :3]).ravel())
                items.append(contour)
            item.ContourSequence = DicomSequence(items)
            named.append(region)
            drawn.append(item)
        dataset.StructureSetROISequence = DicomSequence(named)
        dataset.ROIContourSequence = DicomSequence(drawn)
        dataset.save_as(path)
        return path

    return write
