from __future__ import annotations

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from SaliencyExplain.errors import ErrorCode
from SaliencyExplain.geometry import same_grid
from SaliencyExplain.images.reading import read_channels, read_image
from SaliencyExplain.images.resampling import resample
from SaliencyExplain.images.volume_reading import short_name
from Testing.expected_errors import error_with


def write_itk(path, values, affine):
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image = sitk.GetImageFromArray(values.T)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    sitk.WriteImage(image, str(path))
    return path


def write_nifti(path, values, affine):
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path


def brightest_place(image):
    index = np.unravel_index(int(image[0].argmax()), image.shape[1:])
    return image.affine.numpy()[:3] @ (*index, 1)


@pytest.mark.parametrize(
    "name", ["a.nii", "a.nii.gz", "a.mgz", "a.nrrd", "a.nhdr", "a.mha", "a.mhd"]
)
def test_values_and_places_are_the_same_in_every_format(tmp_path, values, affine, name):
    if name.endswith("mgz"):
        nibabel.save(nibabel.MGHImage(values, affine), tmp_path / name)
    else:
        writer = write_nifti if ".nii" in name else write_itk
        writer(tmp_path / name, values, affine)
    image = read_image(tmp_path / name)
    assert image.shape == (1, 7, 9, 5)
    assert image.meta["name"] == "a"
    assert image.affine.shape == (4, 4)
    np.testing.assert_array_equal(image[0].numpy(), values)
    np.testing.assert_allclose(image.affine.numpy(), affine, atol=1e-4)
    np.testing.assert_allclose(brightest_place(image), affine[:3] @ (5, 2, 3, 1), atol=1e-3)


def test_dicom_agrees_with_nifti(tmp_path, values, affine, write_series):
    write_series(tmp_path / "series", values, affine)
    image = read_image(tmp_path / "series")
    np.testing.assert_allclose(brightest_place(image), affine[:3] @ (5, 2, 3, 1), atol=1e-3)
    nifti = read_image(write_nifti(tmp_path / "a.nii", values, affine))
    np.testing.assert_array_equal(
        resample(
            nifti[0].numpy(), nifti.affine.numpy(), image.affine.numpy(), image.shape[1:], True
        ),
        image[0].numpy(),
    )


def test_big_endian_and_scaled_numbers_are_read_as_they_are_meant(tmp_path, values, affine):
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    image = nibabel.Nifti1Image(values, affine, header)
    image.header.set_slope_inter(0.5, -100.0)
    image.to_filename(tmp_path / "big.nii")
    assert (tmp_path / "big.nii").read_bytes()[:4] == b"\x00\x00\x01\x5c"
    read = read_image(tmp_path / "big.nii")
    np.testing.assert_array_equal(read[0].numpy(), values * 0.5 - 100)


def test_a_qform_alone_gives_the_place(tmp_path, values, affine):
    image = nibabel.Nifti1Image(values, None)
    image.set_sform(None, code=0)
    image.set_qform(affine, code=1)
    nibabel.save(image, tmp_path / "q.nii")
    np.testing.assert_allclose(read_image(tmp_path / "q.nii").affine.numpy(), affine, atol=1e-4)


def test_two_orientations_in_one_header_are_said_aloud(tmp_path, values, affine):
    image = nibabel.Nifti1Image(values, affine)
    image.set_sform(affine, code=1)
    image.set_qform(np.diag([1.0, 1.0, 1.0, 1.0]), code=1)
    nibabel.save(image, tmp_path / "two.nii")
    read = read_image(tmp_path / "two.nii")
    np.testing.assert_allclose(read.affine.numpy(), affine, atol=1e-4)
    assert any("two different orientations" in note for note in read.meta["notes"])


def test_no_orientation_in_the_header_is_said_aloud(tmp_path, values):
    image = nibabel.Nifti1Image(values, None)
    image.set_sform(None, code=0)
    image.set_qform(None, code=0)
    nibabel.save(image, tmp_path / "none.nii")
    assert any("orientation" in n for n in read_image(tmp_path / "none.nii").meta["notes"])


def test_metres_become_millimetres(tmp_path, values, affine):
    metres = affine.copy()
    metres[:3] /= 1000
    image = nibabel.Nifti1Image(values, metres)
    image.header.set_xyzt_units("meter")
    nibabel.save(image, tmp_path / "m.nii")
    np.testing.assert_allclose(read_image(tmp_path / "m.nii").affine.numpy(), affine, atol=1e-3)


def test_a_last_axis_of_one_is_no_fourth_axis(tmp_path, values, affine):
    path = write_nifti(tmp_path / "one.nii", values[..., np.newaxis], affine)
    np.testing.assert_array_equal(read_image(path)[0].numpy(), values)


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1, 2)])
def test_a_flipped_file_has_the_same_content_in_the_world(tmp_path, values, affine, axes):
    turned = affine.copy()
    for axis in axes:
        turned[:3, 3] += turned[:3, axis] * (values.shape[axis] - 1)
        turned[:3, axis] *= -1
    copy = read_image(write_nifti(tmp_path / "f.nii", np.flip(values, axes), turned))
    np.testing.assert_allclose(brightest_place(copy), affine[:3] @ (5, 2, 3, 1), atol=1e-3)
    back = resample(copy[0].numpy(), copy.affine.numpy(), affine, values.shape, nearest=True)
    np.testing.assert_array_equal(back, values)


def test_a_sheared_file_is_made_upright_aloud_with_every_value_in_place(tmp_path, affine):
    place = np.array(np.meshgrid(*map(np.arange, (12, 14, 6)), indexing="ij")).reshape(3, -1)
    sheared = affine.copy()
    sheared[:3, 2] += 0.5 * affine[:3, 1]
    # A linear ramp in the world is kept exactly by linear interpolation.
    world = sheared[:3, :3] @ place + sheared[:3, 3:]
    ramp = (world.T @ (1.0, 2.0, 3.0)).reshape(12, 14, 6).astype(np.float32)
    image = read_image(write_nifti(tmp_path / "sheared.nii", ramp, sheared))
    assert any("sheared by" in note for note in image.meta["notes"])
    matrix = image.affine.numpy()
    unit = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    np.testing.assert_allclose(unit.T @ unit, np.eye(3), atol=1e-6)
    grid = np.indices(image.shape[1:]).reshape(3, -1)
    places = matrix[:3, :3] @ grid + matrix[:3, 3:]
    source = np.linalg.solve(sheared[:3, :3], places - sheared[:3, 3:])
    # Beyond the outermost voxel centres there is nothing to interpolate between.
    last = np.array([[11], [13], [5]])
    inside = ((source > -1e-6) & (source < last + 1e-6)).all(axis=0)
    assert inside.mean() > 0.5
    expected = places.T @ (1.0, 2.0, 3.0)
    np.testing.assert_allclose(image[0].numpy().ravel()[inside], expected[inside], atol=1e-2)


def test_channels_on_another_grid_are_carried_over_aloud(tmp_path, values, affine):
    shifted = affine.copy()
    shifted[:3, 3] += affine[:3, 2]
    first = write_nifti(tmp_path / "t1.nii.gz", values, affine)
    same = write_nifti(tmp_path / "t2.nii.gz", values + 1, affine)
    moved = write_nifti(tmp_path / "flair.nii.gz", values, shifted)
    both = read_channels([first, same])
    assert both.shape == (2, 7, 9, 5)
    assert both.meta["notes"] == []
    np.testing.assert_array_equal(both[1].numpy(), values + 1)
    image = read_channels([first, moved], names=["t1", "flair"])
    assert same_grid(image.shape[1:], image.affine.numpy(), values.shape, affine)
    np.testing.assert_allclose(image[1].numpy()[..., 1:], values[..., :-1], atol=2e-2)
    assert image.meta["notes"] == [
        "flair is resampled (linear) onto the grid of the first image; it covers 80 % of it"
    ]


def test_channels_that_lie_apart_are_refused(tmp_path, values, affine):
    far = affine.copy()
    far[0, 3] += 500
    first = write_nifti(tmp_path / "a.nii", values, affine)
    with error_with(ErrorCode.NO_OVERLAP, "b.nii"):
        read_channels([first, write_nifti(tmp_path / "b.nii", values, far)])
    with error_with(ErrorCode.IMAGE_AXES, "c.nii", "2 axes"):
        read_channels([first, write_nifti(tmp_path / "c.nii", values[..., 0], affine)])


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("x/t1.nii.gz", "t1"),
        ("x/a.seg.nrrd", "a"),
        ("x/v1.2.mha", "v1.2"),
        ("x/IM0001.dcm", "IM0001"),
        ("x/series", "series"),
        ("x/B.PNG", "B"),
    ],
)
def test_names_are_without_the_formats_ending(tmp_path, name, short):
    assert short_name(tmp_path / name) == short


def test_what_nibabel_mends_in_a_header_is_not_printed(tmp_path, values, affine, capfd):
    path = write_nifti(tmp_path / "spm.nii", values, affine)
    content = bytearray(path.read_bytes())
    content[76:80] = b"\0\0\0\0"  # pixdim[0], qfac, must be 1 or -1
    path.write_bytes(content)
    np.testing.assert_array_equal(read_image(path)[0].numpy(), values)
    assert capfd.readouterr() == ("", "")
