"""Cases of DICOM trees as archives, anonymisers and hands leave them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from SaliencyExplain.images.reading import read_image
from SaliencyExplain.studies.discovery import discover


def write_slice(path: Path, height: int, *, series: str = "1.2.1", **header: object) -> Path:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    uid = f"1.5.{abs(hash(str(path))) % 10**9}"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
    dataset.SeriesInstanceUID, dataset.StudyInstanceUID = series, "1.1"
    dataset.Modality, dataset.FrameOfReferenceUID = "CT", "1.9"
    dataset.Rows = dataset.Columns = 4
    dataset.PixelSpacing, dataset.SliceThickness = [1, 1], 2
    dataset.ImagePositionPatient = [0, 0, 2 * height]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = 1
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
    dataset.PixelData = (np.arange(16, dtype="<i2") + height).tobytes()
    for keyword, value in header.items():
        setattr(dataset, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def depth_of(case) -> int:
    ((_, folder),) = case.images
    return read_image(folder, series=case.series).shape[-1]


def test_a_series_in_several_folders_is_one_case_with_all_its_slices(tmp_path: Path) -> None:
    for height in range(6):
        write_slice(tmp_path / "P" / f"part{height // 3}" / f"{height}.dcm", height)
        write_slice(tmp_path / "P" / "other" / f"{height}.dcm", height, series="1.2.2")
    cases = discover(tmp_path)
    assert [depth_of(case) for case in cases] == [6, 6]


def test_a_series_in_a_folder_within_that_of_another_is_told_apart(tmp_path: Path) -> None:
    for height in range(4):
        write_slice(tmp_path / "P" / f"{height}.dcm", height)
        write_slice(tmp_path / "P" / "deep" / f"{height}.dcm", height, series="1.2.2")
    assert [depth_of(case) for case in discover(tmp_path)] == [4, 4]


@pytest.mark.parametrize("uid", [None, ""])
def test_series_without_uid_are_cases_by_their_folders(tmp_path: Path, uid: str | None) -> None:
    for folder in ("a", "b"):
        for height in range(3):
            path = write_slice(tmp_path / folder / f"{height}.dcm", height, SeriesInstanceUID="")
            if uid is None:
                dataset = pydicom.dcmread(path)
                del dataset.SeriesInstanceUID
                dataset.save_as(path)
    assert [depth_of(case) for case in discover(tmp_path)] == [3, 3]


@pytest.mark.parametrize("suffix", ["", ".img", ".jpg", ".nii", ".tif"])
def test_dicom_is_found_whatever_it_is_called(tmp_path: Path, suffix: str) -> None:
    for height in range(3):
        write_slice(tmp_path / "a" / f"{height}{suffix}", height)
    (case,) = discover(tmp_path)
    assert depth_of(case) == 3


def test_files_without_preamble_are_found(tmp_path: Path) -> None:
    for height in range(3):
        path = write_slice(tmp_path / "a" / f"{height}", height)
        bare = Dataset()
        bare.update({element.tag: element for element in pydicom.dcmread(path)})
        bare.save_as(path, implicit_vr=True, little_endian=True, enforce_file_format=False)
    (case,) = discover(tmp_path)
    assert depth_of(case) == 3


def test_localizers_and_screenshots_are_no_cases_beside_others(tmp_path: Path) -> None:
    for height in range(3):
        write_slice(tmp_path / "ct" / f"{height}.dcm", height)
    scout = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    write_slice(tmp_path / "scout.dcm", 0, series="1.2.2", ImageType=scout)
    picture = SecondaryCaptureImageStorage
    write_slice(tmp_path / "dose" / "1.dcm", 0, series="1.2.3", SOPClassUID=picture)
    found = discover(tmp_path)
    (case,) = found
    assert depth_of(case) == 3
    assert any("2 series of localizers or screenshots" in note for note in case.notes)
    (tmp_path / "scout.dcm").unlink()
    for file in (tmp_path / "ct").iterdir():
        file.unlink()
    # Alone, as chest films on paper that were scanned, they are what is there.
    (case,) = discover(tmp_path)
    assert case.images[0][1].name == "dose"


def test_a_localizer_in_the_folder_of_its_series_does_not_make_it_ambiguous(tmp_path: Path) -> None:
    for height in range(3):
        write_slice(tmp_path / "a" / f"{height}.dcm", height)
    scout = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    write_slice(tmp_path / "a" / "scout.dcm", 0, series="1.2.2", ImageType=scout)
    (case,) = discover(tmp_path)
    assert depth_of(case) == 3


def test_folders_of_single_dicom_images_are_said_not_to_be_labels(tmp_path: Path) -> None:
    for number, name in enumerate(["benign/1", "benign/2", "malignant/3"]):
        write_slice(tmp_path / f"{name}.dcm", 0, series=f"1.2.{number}")
    found = discover(tmp_path)
    assert [case.label for case in found] == [None] * 3
    assert "labels" in " ".join(found.notes)


def test_folders_of_patients_are_not_said_to_be_classes(tmp_path: Path) -> None:
    for number in range(3):
        write_slice(tmp_path / f"P{number}" / "1.dcm", 0, series=f"1.2.{number}")
    assert not discover(tmp_path).notes
