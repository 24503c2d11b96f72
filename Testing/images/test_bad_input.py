from __future__ import annotations

import re

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from SaliencyExplain.errors import ErrorCode
from SaliencyExplain.images.reading import read_channels, read_map
from Testing.expected_errors import error_with
from Testing.images.refusals import refused


@pytest.fixture
def nifti(tmp_path, affine):
    def write(values, name="a.nii.gz"):
        nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / name)
        return tmp_path / name

    return write


NOISE = np.random.default_rng(0).normal(size=(24, 24, 24)).astype(np.float32)


def test_a_missing_file_and_an_empty_one(tmp_path):
    refused(tmp_path / "none.nii.gz", ErrorCode.FILE_MISSING)
    (tmp_path / "empty.nii").touch()
    refused(tmp_path / "empty.nii", ErrorCode.FILE_DAMAGED)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha", "a.mgz"])
@pytest.mark.parametrize("kept", [100, 20000])
def test_truncated_volumes(tmp_path, affine, name, kept, capfd):
    if name.endswith((".nrrd", ".mha")):
        sitk.WriteImage(sitk.GetImageFromArray(NOISE), str(tmp_path / name))
    elif name.endswith("mgz"):
        nibabel.save(nibabel.MGHImage(NOISE, affine), tmp_path / name)
    else:
        nibabel.save(nibabel.Nifti1Image(NOISE, affine), tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:kept])
    refused(tmp_path / name, ErrorCode.FILE_DAMAGED)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha", "a.png", "a.jpg", "a.tif"]
)
def test_text_under_an_images_name(tmp_path, name, capfd):
    (tmp_path / name).write_text("this is no image\n" * 100)
    refused(tmp_path / name, ErrorCode.FILE_DAMAGED)
    assert capfd.readouterr() == ("", "")


def test_an_unknown_format(tmp_path):
    (tmp_path / "notes.docx").write_text("x" * 1000)
    refused(tmp_path / "notes.docx", ErrorCode.FILE_FORMAT, "DICOM")


def test_folders_without_images(tmp_path, nifti):
    (tmp_path / "a").mkdir()
    refused(tmp_path / "a", ErrorCode.FILE_FORMAT)
    (tmp_path / "a" / "readme.txt").write_text("hello")
    refused(tmp_path / "a", ErrorCode.FILE_FORMAT, "DICOM")
    nifti(NOISE, "a/t1.nii.gz")
    refused(tmp_path / "a", ErrorCode.FILE_FORMAT, "t1.nii.gz")


def test_several_volumes_with_their_number(tmp_path, nifti):
    refused(nifti(np.stack([NOISE] * 3, axis=-1)), ErrorCode.IMAGE_AMBIGUOUS, "3 volumes (4D)")
    path = tmp_path / "four.nrrd"
    sitk.WriteImage(sitk.JoinSeries([sitk.GetImageFromArray(NOISE)] * 4), str(path))
    refused(path, ErrorCode.IMAGE_AMBIGUOUS, "4 volumes (4D)")


def test_colour_volumes(tmp_path, affine):
    colours = np.zeros((8, 8, 8), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(colours, affine), tmp_path / "rgb.nii")
    refused(tmp_path / "rgb.nii", ErrorCode.IMAGE_VOXEL_TYPE, "colour")
    image = sitk.GetImageFromArray(np.zeros((4, 5, 6, 3), np.uint8), isVector=True)
    sitk.WriteImage(image, str(tmp_path / "rgb.nrrd"))
    refused(tmp_path / "rgb.nrrd", ErrorCode.IMAGE_AMBIGUOUS, "colours")
    nibabel.save(nibabel.Nifti1Image(NOISE.astype(np.complex64), affine), tmp_path / "c.nii")
    refused(tmp_path / "c.nii", ErrorCode.IMAGE_VOXEL_TYPE, "complex")


def test_voxels_that_are_not_finite_are_counted(nifti):
    bad = NOISE.copy()
    bad[3, :4, 5] = np.nan
    bad[4, 4, 4] = np.inf
    message = refused(nifti(bad), ErrorCode.IMAGE_VALUES)
    assert "5 of its 13824 voxels" in message


def test_constant_images(nifti):
    path = nifti(np.full((5, 5, 5), 7, np.int16))
    refused(path, ErrorCode.IMAGE_VALUES, "7")
    # A map may be constant: what it is worth is for the comparison to say.
    assert read_map(path).unique().tolist() == [7]


def test_headers_without_a_valid_place(tmp_path):
    flat = np.eye(4)
    flat[2, 2] = 0
    image = nibabel.Nifti1Image(NOISE, None)
    image.set_sform(flat, code=1)
    nibabel.save(image, tmp_path / "flat.nii")
    refused(tmp_path / "flat.nii", ErrorCode.IMAGE_GEOMETRY)


def test_colour_is_asked_of_a_volume(nifti):
    refused(nifti(NOISE), ErrorCode.FILE_FORMAT, "PNG", colour=True)


def test_no_image_at_all():
    with error_with(ErrorCode.OPTION_MISSING):
        read_channels([])


def test_a_folder_that_may_not_be_read(tmp_path, monkeypatch):
    # Tests may run as root, who may read everything: a link to itself cannot be opened either.
    (tmp_path / "loop.nii").symlink_to(tmp_path / "loop.nii")
    message = refused(tmp_path / "loop.nii", ErrorCode.FILE_UNREADABLE)
    assert re.search("symbolic links", message)
