"""Pixels of DICOM files as the quantities they stand for."""

from __future__ import annotations

import shutil

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    MPEG2MPML,
    DigitalXRayImageStorageForPresentation,
    generate_uid,
)

from SaliencyExplain.errors import ErrorCode
from SaliencyExplain.images.reading import read_image
from Testing.images.dicom_edits import change, setting, without
from Testing.images.refusals import refused


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
    if place == "given":
        # By its SOP class alone.
        change(path, setting(Modality="OT"))
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
    lossy = np.where(
        values == -2000, np.random.default_rng(4).integers(-2300, -1700, values.shape), values
    )
    lossy[0, 0] = -2000
    write_series(tmp_path, lossy.astype(np.int16), affine, PixelPaddingValue=-2000)
    assert (read_image(tmp_path)[0].numpy()[:2] == -1000).all()
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


@pytest.mark.parametrize(
    "keyword", ["PhotometricInterpretation", "SamplesPerPixel", "BitsAllocated", "PixelData"]
)
def test_what_pixels_cannot_be_understood_without_is_named(
    tmp_path, values, affine, write_series, keyword
):
    (path,) = write_series(tmp_path, values[..., :1], affine)
    change(path, without(keyword))
    refused(path, ErrorCode.FILE_DAMAGED, path.name, keyword)


def test_pixels_that_the_file_cannot_hold_are_refused_before_memory_is_taken(
    tmp_path, values, affine, write_series
):
    (path,) = write_series(tmp_path / "a", values[..., :1], affine)
    change(path, setting(Rows=65535, Columns=65535))
    refused(path, ErrorCode.FILE_DAMAGED, path.name, "8589672450 bytes")


def test_two_films_are_no_volume_of_two_slices(film):
    path, _ = film
    other = shutil.copy(path, path.with_name("other.dcm"))
    change(other, setting(SOPInstanceUID=generate_uid(), ImagePositionPatient=[0, 0, 9]))
    refused(path.parent, ErrorCode.IMAGE_AMBIGUOUS, "2 films")


def test_a_raw_film_is_noted(film):
    path, _ = film
    change(path, setting(PresentationIntentType="FOR PRESENTATION"))
    shown = read_image(path).meta["notes"]
    change(path, setting(PresentationIntentType="FOR PROCESSING"))
    (note,) = set(read_image(path).meta["notes"]) - set(shown)
    assert "FOR PROCESSING" in note


@pytest.mark.parametrize(
    ("stored", "told"),
    [
        (["L", "F"], ""), (["P", "F"], ""), (["A", "R"], ""), ("", ""),
        (["R", "F"], "right"), (["L", "H"], "upwards"), (["RP", "H"], "upwards"),
        (["F", "L"], "side"),
    ],
)  # fmt: skip
def test_a_film_that_is_not_stored_as_it_is_shown_has_a_note(film, stored, told):
    path, _ = film
    change(path, setting(PatientOrientation=stored))
    notes = " ".join(read_image(path).meta["notes"])
    assert ("PatientOrientation" in notes) == bool(told)
    assert told in notes
