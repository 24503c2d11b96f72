"""DICOM headers as anonymisers, planning systems and old devices leave them."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from SaliencyExplain.errors import ErrorCode
from SaliencyExplain.images.dicom_header import is_dicom
from SaliencyExplain.images.dicom_series import choose_series, list_series
from SaliencyExplain.images.reading import read_image
from SaliencyExplain.images.segmentation import read_segmentation
from Testing.images.dicom_edits import change, setting, without
from Testing.images.refusals import refused


@pytest.mark.parametrize("uid", ["1.2.3.4", ""])
def test_slices_of_one_instance_uid_are_all_kept(tmp_path, values, affine, write_series, uid):
    for path in write_series(tmp_path, values, affine):
        change(path, setting(SOPInstanceUID=uid))
    image = read_image(tmp_path)
    np.testing.assert_array_equal(image[0].numpy(), values)
    assert image.meta["notes"] == []


@pytest.mark.parametrize("uid", [None, ""])
def test_slices_without_series_uid_are_one_series_and_can_be_named(
    tmp_path, values, affine, write_series, uid
):
    for path in write_series(tmp_path / "a", values, affine):
        change(path, without("SeriesInstanceUID") if uid is None else setting(SeriesInstanceUID=""))
    image = read_image(tmp_path / "a")
    np.testing.assert_array_equal(image[0].numpy(), values)
    assert any("no SeriesInstanceUID" in note for note in image.meta["notes"])
    for path in write_series(tmp_path / "b", values + 1, affine):
        change(path, without("SeriesInstanceUID"))
    refused(tmp_path, ErrorCode.IMAGE_AMBIGUOUS, "2 series")
    names = {series.files[0].parent.name: series.uid for series in list_series(tmp_path)}
    chosen = read_image(tmp_path, series=names["b"])
    np.testing.assert_array_equal(chosen[0].numpy(), values + 1)
    assert choose_series(tmp_path / "b").uid == names["b"]


def test_copies_of_a_slice_count_once_whatever_their_uid(tmp_path, values, affine, write_series):
    paths = write_series(tmp_path, values, affine)
    copy = tmp_path / "copy.dcm"
    shutil.copy(paths[2], copy)
    change(copy, setting(SOPInstanceUID=generate_uid()))
    image = read_image(tmp_path)
    np.testing.assert_array_equal(image[0].numpy(), values)
    assert image.meta["notes"][0].endswith(": 1")
    # The same instance UID, and other pixels: not a copy.
    shutil.copy(paths[2], copy)
    change(copy, lambda dataset: setattr(dataset, "PixelData", dataset.PixelData[::-1]))
    refused(tmp_path, ErrorCode.IMAGE_AMBIGUOUS, "6 slices at only 5 positions")


@pytest.mark.parametrize(
    ("keyword", "apart"),
    [("EchoTime", "5"), ("DiffusionBValue", 1000.0), ("TemporalPositionIdentifier", 2)],
)
def test_several_slices_at_one_place_are_refused_with_what_differs(
    tmp_path, values, affine, write_series, keyword, apart
):
    first = type(apart)(1)
    write_series(tmp_path / "a", values, affine, **{keyword: first})
    write_series(tmp_path / "b", values, affine, **{keyword: apart})
    refused(tmp_path, ErrorCode.IMAGE_AMBIGUOUS, "2 volumes (4D) of 5 slices", keyword)


@pytest.mark.parametrize(
    "held", [lambda b_value: ("IS", str(b_value)), lambda b_value: ("UN", f"{b_value}\\0".encode())]
)
def test_b_values_of_private_elements_are_named(tmp_path, values, affine, write_series, held):
    for number, folder in enumerate(("a", "b")):
        for path in write_series(tmp_path / folder, values + number, affine):

            def private(dataset, number=number):
                block = dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True)
                block.add_new(0x0C, *held(1000 + 500 * number))

            change(path, private)
    refused(tmp_path, ErrorCode.IMAGE_AMBIGUOUS, "DiffusionBValue")


def test_private_elements_of_another_maker_are_no_b_values(tmp_path, values, affine, write_series):
    for number, path in enumerate(write_series(tmp_path, values, affine)):

        def private(dataset, number=number):
            block = dataset.private_block(0x0019, "GEMS_ACQU_01", create=True)
            block.add_new(0x0C, "IS", str(number))

        change(path, private)
    np.testing.assert_array_equal(read_image(tmp_path)[0].numpy(), values)


def test_values_that_differ_in_the_seventh_digit_are_one_series(
    tmp_path, values, affine, write_series
):
    # Between two values that rounding to three and four decimals would part.
    for index, path in enumerate(write_series(tmp_path, values, affine)):
        small = 1e-7 * (-1) ** index

        def shift(dataset, small=small):
            turned = [float(part) + small for part in dataset.ImageOrientationPatient]
            dataset.ImageOrientationPatient = [f"{part:.9f}" for part in turned]
            dataset.PixelSpacing = [f"{1.10005 + small:.8f}", f"{0.80005 + small:.8f}"]
            dataset.ImagePositionPatient = [
                f"{float(part) + small:.9f}" for part in dataset.ImagePositionPatient
            ]

        change(path, shift)
    np.testing.assert_array_equal(read_image(tmp_path)[0].numpy(), values)


def test_spacing_that_differs_is_another_stack(tmp_path, values, affine, write_series):
    paths = write_series(tmp_path, values, affine)
    change(paths[1], setting(PixelSpacing=["1.2", "0.8"]))
    refused(tmp_path, ErrorCode.IMAGE_AMBIGUOUS, "2 stacks")


@pytest.mark.parametrize("name", ["0first.dcm", "zlast.dcm"])
@pytest.mark.parametrize(
    "kind", ["RTSTRUCT", "SR", "screenshot", "localizer", "without a position"]
)
def test_other_objects_in_a_series_are_left_out_aloud(
    tmp_path, values, affine, write_series, write_rtstruct, kind, name
):
    paths = write_series(tmp_path, values, affine)
    other = tmp_path / name
    if kind == "RTSTRUCT":
        write_rtstruct(other, {"a": [np.eye(3)]})
        change(other, setting(SeriesInstanceUID="1.2.3.6"))
    else:
        shutil.copy(paths[0], other)
        change(other, setting(SOPInstanceUID=generate_uid()))
    if kind == "SR":
        change(other, without("Rows", "Columns", "PixelData"))
        change(other, setting(Modality="SR"))
    if kind == "screenshot":
        change(other, without("ImagePositionPatient", "ImageOrientationPatient"))
        change(other, setting(SOPClassUID=SecondaryCaptureImageStorage))
    if kind == "without a position":
        change(other, without("ImagePositionPatient", "ImageOrientationPatient"))
        change(other, setting(ImageType=["DERIVED", "SECONDARY", "DOSE_REPORT"]))
    if kind == "localizer":
        across = [0, 1, 0, 0, 0, -1]
        change(other, setting(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))
        change(other, setting(ImageOrientationPatient=across))
    image = read_image(tmp_path)
    np.testing.assert_array_equal(image[0].numpy(), values)
    assert any(kind in note and "left out" in note for note in image.meta["notes"])


def test_an_rtstruct_under_the_images_uid_is_still_found(
    tmp_path, values, affine, write_series, write_rtstruct
):
    write_series(tmp_path, values, affine)
    corners = np.array([[0.5, 0.5, 2], [5.5, 0.5, 2], [5.5, 7.5, 2], [0.5, 7.5, 2]])
    outline = corners @ affine[:3, :3].T + affine[:3, 3]
    write_rtstruct(tmp_path / "rs.dcm", {"GTV": [outline]})
    change(tmp_path / "rs.dcm", setting(SeriesInstanceUID="1.2.3.6"))
    found = read_segmentation(tmp_path, read_image(tmp_path))
    assert found.segments[0].mask.sum() == 5 * 7


def test_a_slice_without_position_among_its_like_is_refused(tmp_path, values, affine, write_series):
    paths = write_series(tmp_path, values, affine)
    change(paths[4], setting(ImagePositionPatient=None))
    refused(tmp_path, ErrorCode.IMAGE_GEOMETRY, paths[4].name)


def test_a_slice_whose_header_is_cut_off_is_refused(tmp_path, values, affine, write_series):
    paths = write_series(tmp_path, values, affine)
    change(paths[4], without("Rows", "Columns", "PixelData"))
    refused(tmp_path, ErrorCode.IMAGE_AXES, paths[4].name)


def test_two_modalities_under_one_uid_are_refused(tmp_path, values, affine, write_series):
    write_series(tmp_path / "ct", values, affine)
    for path in write_series(tmp_path / "pet", values, affine):
        change(path, setting(Modality="PT"))
    refused(tmp_path, ErrorCode.IMAGE_AMBIGUOUS, "CT", "PT")


@pytest.mark.parametrize("keyword", ["RescaleIntercept", "RescaleSlope"])
def test_a_slice_without_rescale_among_others_is_refused(
    tmp_path, values, affine, write_series, keyword
):
    paths = write_series(tmp_path, values, affine, intercept=-1024.0)
    change(paths[2], without(keyword))
    refused(tmp_path, ErrorCode.IMAGE_VALUES, paths[2].name, keyword)
    for path in paths:
        change(path, without(keyword))
    image = read_image(tmp_path)
    lacks_intercept = keyword == "RescaleIntercept"
    np.testing.assert_array_equal(image[0].numpy(), values - 1024 * (not lacks_intercept))
    assert any("RescaleIntercept" in note for note in image.meta["notes"]) == lacks_intercept


def test_slices_of_two_photometric_interpretations_are_refused(
    tmp_path, values, affine, write_series
):
    paths = write_series(tmp_path, values, affine)
    change(paths[2], setting(PhotometricInterpretation="MONOCHROME1"))
    refused(tmp_path, ErrorCode.IMAGE_AMBIGUOUS, "MONOCHROME1", paths[2].name)


def test_a_mosaic_is_refused(tmp_path, values, affine, write_series):
    (path,) = write_series(tmp_path, values[..., :1], affine)
    change(path, setting(ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]))
    refused(path, ErrorCode.IMAGE_GEOMETRY, path.name, "mosaic")

    def private(dataset):
        dataset.ImageType = ["ORIGINAL", "PRIMARY"]
        block = dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True)
        block.add_new(0x0A, "US", 36)

    change(path, private)
    refused(path, ErrorCode.IMAGE_GEOMETRY, path.name, "mosaic")


def test_frames_that_the_header_does_not_describe_are_not_lost(
    tmp_path, values, affine, write_enhanced
):
    path = write_enhanced(tmp_path / "e.dcm", [values], affine)

    def lose_the_last(dataset):
        frames = dataset.PerFrameFunctionalGroupsSequence
        heights = [float(each.PlanePositionSequence[0].ImagePositionPatient[2]) for each in frames]
        frames.pop(int(np.argmax(heights)))

    change(path, lose_the_last)
    refused(path, ErrorCode.IMAGE_GEOMETRY, "5 frames", "describes 4")
    change(path, setting(NumberOfFrames=4))
    refused(path, ErrorCode.FILE_DAMAGED, "4 frames", "5 frames")


def test_two_stacks_in_one_file_are_refused_also_where_they_continue_each_other(
    tmp_path, values, affine, write_enhanced
):
    path = write_enhanced(tmp_path / "e.dcm", [values], affine)

    def stacked(dataset):
        for frame in dataset.PerFrameFunctionalGroupsSequence:
            lower = float(frame.PlanePositionSequence[0].ImagePositionPatient[2]) < affine[2, 3] + 5
            frame.FrameContentSequence[0].StackID = "1" if lower else "2"

    change(path, stacked)
    refused(path, ErrorCode.IMAGE_AMBIGUOUS, "StackID 1, 2")


def test_a_dicomdir_points_to_its_folder(tmp_path, values, affine, write_series):
    write_series(tmp_path, values, affine)
    index = Dataset()
    index.DirectoryRecordSequence = Sequence([])
    index.file_meta = FileMetaDataset()
    index.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    index.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    index.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    index.save_as(tmp_path / "DICOMDIR", enforce_file_format=True)
    np.testing.assert_array_equal(read_image(tmp_path)[0].numpy(), values)
    refused(tmp_path / "DICOMDIR", ErrorCode.FILE_FORMAT, "DICOMDIR", "folder")


@pytest.mark.parametrize("suffix", [".img", ".jpg", ".tif", ".nii", ".nrrd", ".mat", ".png", ""])
def test_dicom_is_read_whatever_it_is_called(tmp_path, values, affine, write_series, suffix):
    (path,) = write_series(tmp_path, values[..., :1], affine)
    named = path.rename(tmp_path / f"scan{suffix}")
    np.testing.assert_array_equal(read_image(named)[0].numpy(), values[..., :1])


def test_bytes_that_look_like_an_element_are_not_dicom(tmp_path):
    path = tmp_path / "scan.img"
    numbers = np.zeros(200, dtype="<i2")
    for first in ((8, 0, 3, 0), (8, 5, 9, 0), (2, 0, 4, 0), (8, 0x4955, 2, 7)):
        numbers[:4] = first
        path.write_bytes(numbers.tobytes())
        assert not is_dicom(path)


def test_slices_at_twice_the_stated_distance_are_noted(tmp_path, values, affine, write_series):
    write_series(tmp_path, values, affine, SpacingBetweenSlices="1.5")
    assert any("SpacingBetweenSlices" in note for note in read_image(tmp_path).meta["notes"])
    write_series(tmp_path, values, affine, SpacingBetweenSlices="3")
    assert read_image(tmp_path).meta["notes"] == []


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PixelSpacing", [0, 1]),
        ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0]),
        ("ImageOrientationPatient", [0, 0, 0, 0, 0, 0]),
        ("ImagePositionPatient", [0, 0]),
    ],
)
def test_a_place_that_cannot_be_is_refused(tmp_path, values, affine, write_series, keyword, value):
    paths = write_series(tmp_path, values, affine)
    change(paths[1], setting(**{keyword: value}))
    refused(tmp_path, ErrorCode.IMAGE_GEOMETRY, paths[1].name)


@pytest.mark.parametrize("kept", [0, 200, 300])
def test_a_slice_whose_copying_broke_off_is_named(tmp_path, values, affine, write_series, kept):
    # The last slice, whose absence no gap would show.
    *_, last = write_series(tmp_path, values, affine)
    last.write_bytes(last.read_bytes()[:kept])
    refused(tmp_path, ErrorCode.FILE_DAMAGED, last.name)


def test_slices_of_two_patients_are_refused_without_naming_them(
    tmp_path, values, affine, write_series
):
    paths = write_series(tmp_path, values, affine)
    change(paths[0], setting(PatientID="OTHER-0815"))
    message = refused(tmp_path, ErrorCode.IMAGE_AMBIGUOUS, "2 patients")
    assert "0815" not in message
    assert "4711" not in message


def test_slices_that_the_header_counts_and_are_not_there_are_noted(
    tmp_path, values, affine, write_series
):
    *_, last = write_series(tmp_path, values, affine, ImagesInAcquisition="5")
    assert read_image(tmp_path).meta["notes"] == []
    last.unlink()
    assert any("5 slices" in note for note in read_image(tmp_path).meta["notes"])


def test_slices_of_micrometres_are_slices(tmp_path, values, write_series):
    write_series(tmp_path, values, np.diag([5e-4, 5e-4, 5e-4, 1]))
    np.testing.assert_array_equal(read_image(tmp_path)[0].numpy(), values)


def test_files_that_lost_their_series_uid_go_back_to_their_series(
    tmp_path, values, affine, write_series
):
    paths = write_series(tmp_path, values, affine)
    change(paths[1], without("SeriesInstanceUID"))
    change(paths[4], setting(SeriesInstanceUID=""))
    image = read_image(tmp_path)
    np.testing.assert_array_equal(image[0].numpy(), values)
    assert any("2 files have no SeriesInstanceUID" in note for note in image.meta["notes"])


def test_a_document_that_copied_the_images_modality_is_no_slice(
    tmp_path, values, affine, write_series
):
    paths = write_series(tmp_path, values, affine)
    shutil.copy(paths[0], tmp_path / "report.dcm")
    change(tmp_path / "report.dcm", without("Rows", "Columns", "PixelData"))
    change(tmp_path / "report.dcm", setting(SOPClassUID=EncapsulatedPDFStorage))
    image = read_image(tmp_path)
    np.testing.assert_array_equal(image[0].numpy(), values)
    assert any("left out" in note for note in image.meta["notes"])


def test_intercepts_that_differ_in_a_ct_are_noted(tmp_path, values, affine, write_series):
    paths = write_series(tmp_path, values, affine, intercept=-1024.0)
    change(paths[2], setting(RescaleIntercept="0"))
    assert any("-1024 to 0" in note for note in read_image(tmp_path).meta["notes"])


@pytest.mark.parametrize(
    ("keyword", "first", "second"),
    [("EchoTime", "10", "80"), ("DiffusionBValue", 0.0, 1000.0)],
)
def test_slices_of_two_volumes_at_different_places_are_refused(
    tmp_path, values, affine, write_series, keyword, first, second
):
    for index, path in enumerate(write_series(tmp_path, values, affine)):
        change(path, setting(**{keyword: second if index % 2 else first}))
    refused(tmp_path, ErrorCode.IMAGE_AMBIGUOUS, keyword)
    for index, path in enumerate(sorted(tmp_path.iterdir())):
        change(path, setting(**{keyword: f"{40 + 1e-5 * index}" if first == "10" else 1000.0}))
    np.testing.assert_array_equal(read_image(tmp_path)[0].numpy(), values)
