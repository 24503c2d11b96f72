"""DICOM headers as anonymisers, planning systems and old devices leave them."""

from __future__ import annotations

import shutil

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    MPEG2MPML,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.dicom_header import is_dicom
from SaliencyExplain.images.dicom_series import choose_series, list_series
from SaliencyExplain.images.reading import read_image
from SaliencyExplain.images.segmentation import read_segmentation


def change(path, function):
    dataset = pydicom.dcmread(path)
    function(dataset)
    dataset.save_as(path)
    return path


def without(*keywords):
    def function(dataset):
        for keyword in keywords:
            if keyword in dataset:
                delattr(dataset, keyword)

    return function


def setting(**elements):
    def function(dataset):
        for keyword, value in elements.items():
            setattr(dataset, keyword, value)

    return function


def refused(path, code, *named):
    with pytest.raises(InputError) as error:
        read_image(path)
    message = str(error.value)
    assert error.value.code is code, message
    for name in named:
        assert name in message
    assert "\n" not in message
    return message


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
    assert "1 slices are copies" in image.meta["notes"][0]
    # The same instance UID, and other pixels: not a copy.
    shutil.copy(paths[2], copy)
    change(copy, lambda dataset: setattr(dataset, "PixelData", dataset.PixelData[::-1]))
    refused(tmp_path, ErrorCode.IMAGE_AMBIGUOUS, "6 slices at only 5 places")


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


def test_b_values_of_private_elements_are_named(tmp_path, values, affine, write_series):
    for number, folder in enumerate(("a", "b")):
        for path in write_series(tmp_path / folder, values + number, affine):

            def private(dataset, number=number):
                block = dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True)
                block.add_new(0x0C, "IS", str(1000 * number))

            change(path, private)
    refused(tmp_path, ErrorCode.IMAGE_AMBIGUOUS, "DiffusionBValue")


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
@pytest.mark.parametrize("kind", ["RTSTRUCT", "SR", "screenshot", "localizer"])
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
    refused(path, ErrorCode.IMAGE_GEOMETRY, "5 frames", "4 of them")
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


def test_a_modality_lookup_table_is_followed(tmp_path, values, affine, write_series):
    table = (np.arange(2000) ** 2 // 100).astype(np.uint16)
    item = Dataset()
    item.LUTDescriptor = [2000, 0, 16]
    item.add_new(0x00283006, "OW", table.tobytes())
    item.ModalityLUTType = "HU"
    for path in write_series(tmp_path, values, affine):
        change(path, without("RescaleSlope", "RescaleIntercept"))
        change(path, setting(ModalityLUTSequence=Sequence([item])))
    np.testing.assert_array_equal(read_image(tmp_path)[0].numpy(), table[values])


def test_bits_at_an_unusual_place_are_refused_and_unused_ones_ignored(
    tmp_path, values, affine, write_series
):
    (path,) = write_series(tmp_path, values[..., :1], affine)
    change(path, setting(BitsStored=12, HighBit=15))
    refused(path, ErrorCode.IMAGE_VOXEL_TYPE, path.name, "HighBit")

    def overlay(dataset):
        dataset.HighBit, dataset.PixelRepresentation = 11, 0
        stored = np.frombuffer(dataset.PixelData, dtype="<u2").copy()
        stored[::3] |= 0x1000
        dataset.PixelData = stored.tobytes()

    change(path, overlay)
    np.testing.assert_array_equal(read_image(path)[0].numpy(), values[..., :1])


def test_floating_point_pixels_are_read(tmp_path, values, affine, write_series):
    (path,) = write_series(tmp_path, values[..., :1], affine)

    def floating(dataset):
        stored = dataset.pixel_array.astype("<f4") / 8
        del dataset.PixelData
        dataset.FloatPixelData = stored.tobytes()
        dataset.BitsAllocated = 32
        del dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation

    change(path, floating)
    np.testing.assert_array_equal(read_image(path)[0].numpy(), values[..., :1] / 8)


def test_a_transfer_syntax_without_decoder_is_named(tmp_path, values, affine, write_series):
    (path,) = write_series(tmp_path, values[..., :1], affine)
    dataset = pydicom.dcmread(path)
    dataset.PixelData = pydicom.encaps.encapsulate([dataset.PixelData])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = MPEG2MPML
    dataset.save_as(path)
    refused(path, ErrorCode.FILE_FORMAT, path.name, "MPEG2")


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


@pytest.fixture
def film(tmp_path, values, affine, write_series):
    """A chest film, 12 columns and 8 rows, darker from the upper left to the lower right."""
    (path,) = write_series(tmp_path / "film", values[..., :1], affine)
    stored = (100 + np.arange(96).reshape(8, 12)).astype(np.uint16)

    def make(dataset):
        dataset.Rows, dataset.Columns = stored.shape
        dataset.PixelData = stored.tobytes()
        dataset.PixelRepresentation = 0
        dataset.Modality = "DX"
        dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
        dataset.PhotometricInterpretation = "MONOCHROME1"

    change(path, make)
    return path, stored.T.astype(float)


@pytest.mark.parametrize("place", ["absent", "empty", "given"])
def test_a_film_is_one_picture_whatever_its_position(film, place):
    path, stored = film
    if place == "absent":
        change(path, without("ImagePositionPatient", "ImageOrientationPatient"))
    if place == "empty":
        change(path, setting(ImagePositionPatient=None, ImageOrientationPatient=None))
    image = read_image(path)
    np.testing.assert_array_equal(image[0].numpy(), 295 - stored)
    assert any("MONOCHROME1" in note for note in image.meta["notes"])


def test_a_volume_is_never_inverted(tmp_path, values, affine, write_series):
    for path in write_series(tmp_path, values, affine):
        change(path, setting(PhotometricInterpretation="MONOCHROME1"))
    image = read_image(tmp_path)
    np.testing.assert_array_equal(image[0].numpy(), values)
    assert any("MONOCHROME1" in note for note in image.meta["notes"])


def test_the_ratio_of_a_pixel_counts_where_its_size_is_unknown(film):
    path, _ = film
    change(path, without("PixelSpacing"))
    change(path, setting(PixelAspectRatio=[3, 2]))
    image = read_image(path)
    np.testing.assert_allclose(np.abs(np.diag(image.affine.numpy()))[:2], (1, 1.5))
    assert any("PixelAspectRatio" in note for note in image.meta["notes"])
    change(path, setting(PixelAspectRatio=[0, 2]))
    refused(path, ErrorCode.IMAGE_GEOMETRY, "PixelAspectRatio")


def test_padding_of_a_film_is_its_darkest_value(film):
    path, stored = film

    def padded(dataset, values=(0, 5)):
        pixels = dataset.pixel_array.copy()
        pixels[0], pixels[-1] = values
        dataset.PixelData = pixels.tobytes()
        dataset.add_new("PixelPaddingValue", "US", 0)
        dataset.add_new("PixelPaddingRangeLimit", "US", 5)

    change(path, padded)
    image = read_image(path)[0].numpy()
    kept = stored[:, 1:-1]
    np.testing.assert_array_equal(image[:, 1:-1], kept.max() + kept.min() - kept)
    assert set(np.unique(image[:, [0, -1]])) == {kept.min()}
    assert any("padding" in note for note in read_image(path).meta["notes"])


def test_padding_of_a_volume_is_air_or_the_least_value(tmp_path, affine, write_series):
    values = np.random.default_rng(3).integers(-900, 900, (12, 12, 4)).astype(np.int16)
    values[:2] = -2000
    write_series(tmp_path, values, affine, PixelPaddingValue=-2000)
    image = read_image(tmp_path)[0].numpy()
    np.testing.assert_array_equal(image[2:], values[2:])
    assert (image[:2] == -1000).all()
    write_series(tmp_path, values, affine, PixelPaddingValue=-2000, Modality="MR")
    image = read_image(tmp_path)[0].numpy()
    assert (image[:2] == values[2:].min()).all()
    write_series(tmp_path, values, affine, PixelPaddingValue=None)
    assert any("below the value of air" in note for note in read_image(tmp_path).meta["notes"])


def test_a_padding_value_that_the_picture_holds_too_counts_at_the_border_only(
    tmp_path, affine, write_series
):
    values = np.random.default_rng(3).integers(-900, 900, (12, 12, 4)).astype(np.int16)
    values[0] = values[6, 6] = 0
    values[1] = 7
    write_series(tmp_path, values, affine, PixelPaddingValue=0)
    image = read_image(tmp_path)[0].numpy()
    assert (image[0] == -1000).all()
    np.testing.assert_array_equal(image[1:-1, 1:-1], values[1:-1, 1:-1])


def test_background_that_is_declared_as_padding_stays(tmp_path, affine, write_series):
    values = np.random.default_rng(3).integers(1, 900, (12, 12, 4)).astype(np.int16)
    values[:2] = 0
    write_series(tmp_path, values, affine, PixelPaddingValue=0, Modality="MR")
    image = read_image(tmp_path)
    np.testing.assert_array_equal(image[0].numpy(), values)
    assert image.meta["notes"] == []


@pytest.mark.parametrize("bits", [8, 16])
def test_a_grey_palette_is_looked_up_and_a_coloured_one_refused(
    tmp_path, values, affine, write_series, bits
):
    entries = 1200 if bits == 16 else 256
    table = np.linspace(2**bits - 1, 0, entries).astype(np.uint8 if bits == 8 else "<u2")
    indices = values % entries

    def palette(dataset, last=table):
        dataset.PhotometricInterpretation = "PALETTE COLOR"
        dataset.PixelRepresentation = 0
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
        for colour, entry in (("Red", table), ("Green", table), ("Blue", last)):
            name = f"{colour}PaletteColorLookupTable"
            dataset.add_new(f"{name}Descriptor", "US", [entries, 0, bits])
            dataset.add_new(f"{name}Data", "OW", entry.tobytes())

    paths = write_series(tmp_path, indices, affine)
    for path in paths:
        change(path, palette)
    np.testing.assert_array_equal(read_image(tmp_path)[0].numpy(), table[indices])
    change(paths[0], lambda dataset: palette(dataset, table[::-1]))
    refused(paths[0], ErrorCode.IMAGE_VOXEL_TYPE, paths[0].name, "colours")


def test_slices_at_twice_the_stated_distance_are_noted(tmp_path, values, affine, write_series):
    write_series(tmp_path, values, affine, SpacingBetweenSlices="1.5")
    assert any("every other slice" in note for note in read_image(tmp_path).meta["notes"])
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
