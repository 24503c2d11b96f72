from __future__ import annotations

import shutil

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.geometry import shear_of
from SaliencyExplain.images.dicom_series import choose_series, list_series
from SaliencyExplain.images.reading import read_image
from Testing.expected_errors import error_with


def test_slices_in_any_order_give_the_volume_that_itk_reads(tmp_path, values, affine, write_series):
    folder = tmp_path / "series"
    write_series(folder, values, affine, slope=2.0, intercept=-1024.0)
    image = read_image(folder)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    theirs = reader.Execute()
    np.testing.assert_array_equal(image[0].numpy(), sitk.GetArrayFromImage(theirs).T)
    np.testing.assert_array_equal(image[0].numpy(), values * 2.0 - 1024)
    corner = np.diag([-1, -1, 1]) @ theirs.TransformIndexToPhysicalPoint((6, 8, 4))
    np.testing.assert_allclose(image.affine.numpy()[:3] @ (6, 8, 4, 1), corner, atol=1e-3)
    np.testing.assert_allclose(image.affine.numpy(), affine, atol=1e-3)


def test_a_rescale_that_differs_from_slice_to_slice_is_followed(
    tmp_path, values, affine, write_series
):
    paths = write_series(tmp_path, values, affine)
    for index, path in enumerate(paths):
        dataset = pydicom.dcmread(path)
        dataset.RescaleSlope = index + 1
        dataset.save_as(path)
    np.testing.assert_array_equal(read_image(tmp_path)[0].numpy(), values * np.arange(1, 6))


def test_several_series_are_listed_without_patient_data_and_one_can_be_chosen(
    tmp_path, values, affine, write_series
):
    write_series(tmp_path / "day" / "one", values, affine, uid="1.2.3.61")
    write_series(tmp_path / "day" / "two", values[..., :3] + 7, affine, uid="1.2.3.62")
    with pytest.raises(InputError) as error:
        read_image(tmp_path)
    message = str(error.value)
    assert "1.2.3.61 (CT, 5 slices of 7x9)" in message
    assert "1.2.3.62 (CT, 3 slices of 7x9)" in message
    assert "secret" not in message.lower()
    assert "\n" not in message
    chosen = read_image(tmp_path, series="1.2.3.62")
    np.testing.assert_array_equal(chosen[0].numpy(), values[..., :3] + 7)
    with error_with(ErrorCode.NAME_UNKNOWN, "9.9"):
        read_image(tmp_path, series="9.9")


def test_other_objects_and_files_in_the_folder_are_no_second_series(
    tmp_path, values, affine, write_series, write_rtstruct
):
    write_series(tmp_path, values, affine)
    write_rtstruct(tmp_path / "rs.dcm", {"a": [np.eye(3)]})
    (tmp_path / "README.md").write_text("no image")
    (tmp_path / "DICOMDIR").write_bytes(b"")
    np.testing.assert_array_equal(read_image(tmp_path)[0].numpy(), values)
    assert {series.modality for series in list_series(tmp_path)} == {"CT", "RTSTRUCT"}
    assert choose_series(tmp_path).frames == 5


def test_a_copied_file_is_left_out_aloud(tmp_path, values, affine, write_series):
    paths = write_series(tmp_path, values, affine)
    shutil.copy(paths[2], tmp_path / "copy.dcm")
    image = read_image(tmp_path)
    np.testing.assert_array_equal(image[0].numpy(), values)
    (note,) = image.meta["notes"]
    assert note.endswith(": 1")


def test_a_missing_slice_is_refused_with_its_place(tmp_path, values, affine, write_series):
    paths = write_series(tmp_path, values, affine)
    paths[3].unlink()
    with error_with(ErrorCode.IMAGE_GEOMETRY, "3.00 mm", "6.00 mm") as error:
        read_image(tmp_path)
    assert f"6.00 mm between {paths[2].name} and {paths[4].name}" in str(error.value)


def test_uneven_distances_are_refused_with_their_places(tmp_path, values, affine, write_series):
    paths = write_series(tmp_path, values, affine, heights=[0, 1, 2, 2.5, 3.5])
    with error_with(ErrorCode.IMAGE_GEOMETRY, "3.00 mm", "1.50 mm") as error:
        read_image(tmp_path)
    assert f"1.50 mm between {paths[2].name} and {paths[3].name}" in str(error.value)


def test_rounded_positions_are_taken_as_even_aloud(tmp_path, values, affine, write_series):
    write_series(tmp_path, values, affine, heights=[0, 1, 2.04, 3, 4])
    image = read_image(tmp_path)
    (note,) = image.meta["notes"]
    assert "4 %" in note


def test_a_tilted_gantry_is_put_upright_aloud_with_content_in_place(tmp_path, affine, write_series):
    values = np.full((8, 30, 9), -1000, dtype=np.int16)
    values[3:6, 10:20, 3:6] = 500
    sheared = affine.copy()
    sheared[:3, 2] += 0.9 * affine[:3, 1]
    write_series(tmp_path, values, sheared)
    image = read_image(tmp_path)
    assert image.shape[1] == 8
    assert image.shape[3] == 9
    assert shear_of(image.affine.numpy()) < 1e-6
    assert any("tilted gantry" in note for note in image.meta["notes"])
    weights = image[0].numpy().astype(np.float64) + 1000
    centre = [float((weights * index).sum() / weights.sum()) for index in np.indices(weights.shape)]
    np.testing.assert_allclose(
        image.affine.numpy()[:3] @ (*centre, 1), sheared[:3] @ (4, 14.5, 4, 1), atol=0.05
    )


def test_slices_shifted_at_random_are_refused(tmp_path, values, affine, write_series):
    paths = write_series(tmp_path, values, affine)
    dataset = pydicom.dcmread(paths[2])
    along = np.array(dataset.ImageOrientationPatient[:3], dtype=float)
    dataset.ImagePositionPatient = list(np.array(dataset.ImagePositionPatient) + 2 * along)
    dataset.save_as(paths[2])
    with error_with(ErrorCode.IMAGE_GEOMETRY, "2.00 mm"):
        read_image(tmp_path)


def test_two_orientations_in_one_series_are_refused(tmp_path, values, affine, write_series):
    write_series(tmp_path / "a", values, affine)
    write_series(tmp_path / "b", values, affine[:, [1, 2, 0, 3]])
    with error_with(ErrorCode.IMAGE_AMBIGUOUS, "(5, 5 slices)"):
        read_image(tmp_path)


def test_several_volumes_in_one_series_are_refused_with_what_differs(
    tmp_path, values, affine, write_series
):
    write_series(tmp_path / "a", values, affine, EchoTime="10")
    write_series(tmp_path / "b", values, affine, EchoTime="80")
    with error_with(ErrorCode.IMAGE_AMBIGUOUS, "2 volumes", "EchoTime"):
        read_image(tmp_path)


def test_enhanced_frames_in_any_order_give_the_volume(tmp_path, values, affine, write_enhanced):
    path = write_enhanced(tmp_path / "enhanced.dcm", [values], affine, slope=3.0)
    image = read_image(path)
    np.testing.assert_array_equal(image[0].numpy(), values * 3)
    np.testing.assert_allclose(image.affine.numpy(), affine, atol=1e-3)
    assert image.meta["modality"] == "MR"


def test_enhanced_time_frames_are_refused_with_their_number(
    tmp_path, values, affine, write_enhanced
):
    path = write_enhanced(tmp_path / "time.dcm", [values, values, values], affine)
    with error_with(ErrorCode.IMAGE_AMBIGUOUS, "3 volumes", "Temporal"):
        read_image(path)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_compressed_slices_are_read(tmp_path, values, affine, write_series, syntax):
    values = np.tile(values, (6, 5, 1))
    path = write_series(tmp_path, values, affine)[0]
    dataset = pydicom.dcmread(path)
    dataset.compress(syntax, generate_instance_uid=False)
    dataset.save_as(path)
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(read_image(tmp_path)[0].numpy(), values)


@pytest.mark.parametrize("implicit", [True, False])
def test_files_without_preamble_are_read(tmp_path, values, affine, write_series, implicit):
    for path in write_series(tmp_path, values, affine):
        bare = Dataset()
        bare.update({element.tag: element for element in pydicom.dcmread(path)})
        bare.save_as(path, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
        assert path.read_bytes()[128:132] != b"DICM"
    np.testing.assert_array_equal(read_image(tmp_path)[0].numpy(), values)


def test_colour_slices_are_refused(tmp_path, values, affine, write_series):
    paths = write_series(tmp_path, values[..., :1], affine)
    dataset = pydicom.dcmread(paths[0])
    grey = dataset.pixel_array.astype(np.uint8)
    dataset.SamplesPerPixel, dataset.PlanarConfiguration = 3, 0
    dataset.PhotometricInterpretation = "RGB"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelRepresentation = 0
    for colours, read in (([grey, grey, 255 - grey], False), ([grey] * 3, True)):
        content = np.stack(colours, axis=-1).tobytes()
        dataset.PixelData = content + b"\0" * (len(content) % 2)
        dataset.save_as(paths[0])
        if read:
            np.testing.assert_array_equal(read_image(paths[0])[0, ..., 0].numpy(), grey.T)
        else:
            with pytest.raises(InputError) as error:
                read_image(paths[0])
            assert error.value.code is ErrorCode.IMAGE_VOXEL_TYPE
            assert paths[0].name in str(error.value)


def test_nothing_of_the_patient_is_in_the_image_or_its_errors(
    tmp_path, values, affine, write_series, capfd
):
    paths = write_series(tmp_path / "ok", values, affine)
    assert "secret" not in str(read_image(tmp_path / "ok").meta).lower()
    paths[0].write_bytes(paths[0].read_bytes()[:-40])
    with error_with(ErrorCode.FILE_DAMAGED, "1.2.3.6-004.dcm") as error:
        read_image(tmp_path / "ok")
    assert paths[0].name in str(error.value)
    assert "secret" not in str(error.value).lower()
    assert "secret" not in "".join(capfd.readouterr()).lower()
