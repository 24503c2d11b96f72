"""Headers that announce what cannot be (NIfTI, FreeSurfer), and inputs that are no files."""

from __future__ import annotations

import gzip
import os
import struct

import nibabel
import numpy as np
import pytest
from nibabel import cifti2

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images import sizes
from SaliencyExplain.images.input_file import check_exists
from SaliencyExplain.images.reading import read_image
from SaliencyExplain.images.segmentation import read_segmentation
from Testing.expected_errors import error_with
from Testing.images.refusals import refused

VALUES = np.random.default_rng(0).normal(100, 10, (8, 7, 6)).astype(np.float32)


@pytest.fixture
def changed(tmp_path, affine):
    """Writes an image, and other bytes at a place of its header."""

    def write(name, place, form, *numbers):
        path = tmp_path / name
        kind = nibabel.MGHImage if ".mg" in name else nibabel.Nifti1Image
        nibabel.save(kind(VALUES, affine), path)
        packed = name.endswith("z")
        content = bytearray(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
        struct.pack_into(form, content, place, *numbers)
        path.write_bytes(gzip.compress(bytes(content)) if packed else bytes(content))
        return path

    return write


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("size", [-1, 0, 32767])
def test_sizes_of_nifti(changed, name, size):
    with pytest.raises(InputError) as error:
        read_image(changed(name, 42, "<3h", size, size, size))
    assert error.value.code in (ErrorCode.IMAGE_AXES, ErrorCode.FILE_DAMAGED, ErrorCode.MEMORY)
    assert name in str(error.value)


@pytest.mark.parametrize("name", ["a.mgh", "a.mgz"])
@pytest.mark.parametrize("size", [-1, 0, 100_000, 2**31 - 1])
def test_sizes_of_freesurfer(changed, name, size):
    with pytest.raises(InputError) as error:
        read_image(changed(name, 4, ">3i", size, size, size))
    assert error.value.code in (ErrorCode.IMAGE_AXES, ErrorCode.FILE_DAMAGED, ErrorCode.MEMORY)
    assert name in str(error.value)


@pytest.mark.parametrize("offset", [-1.0, 2.0**31, 1e30, float("nan")])
def test_where_the_voxels_of_nifti_begin(changed, offset):
    refused(changed("a.nii.gz", 108, "<f", offset), ErrorCode.FILE_DAMAGED)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("offset", [1.0, 348.0, 351.0])
def test_no_byte_of_the_header_is_a_voxel(changed, name, offset):
    refused(changed(name, 108, "<f", offset), ErrorCode.FILE_DAMAGED)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_voxels_said_to_begin_at_0_begin_behind_the_header(tmp_path, affine, kind, name):
    path = tmp_path / name
    nibabel.save(kind(VALUES, affine), path)
    right = read_image(path)
    packed = name.endswith("z")
    content = bytearray(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
    wide = kind is nibabel.Nifti2Image
    struct.pack_into("<q" if wide else "<f", content, 168 if wide else 108, 0)
    path.write_bytes(gzip.compress(bytes(content)) if packed else bytes(content))
    found = read_image(path)
    np.testing.assert_array_equal(found.numpy(), right.numpy())
    np.testing.assert_array_equal(found.affine.numpy(), right.affine.numpy())


@pytest.mark.parametrize("offset", [0, 352])
def test_no_byte_of_an_extension_is_a_voxel(tmp_path, affine, offset):
    path = tmp_path / "a.nii"
    image = nibabel.Nifti1Image(VALUES, affine)
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"text" * 30))
    nibabel.save(image, path)
    np.testing.assert_array_equal(read_image(path).numpy()[0], VALUES)
    content = bytearray(path.read_bytes())
    struct.pack_into("<f", content, 108, offset)
    path.write_bytes(bytes(content))
    refused(path, ErrorCode.FILE_DAMAGED, str(offset))


@pytest.mark.parametrize("length", [-1, 0, 7, 2**31 - 1])
def test_lengths_of_extensions(changed, tmp_path, length):
    path = changed("a.nii", 108, "<f", 512.0)
    content = path.read_bytes()
    extended = content[:348] + b"\1\0\0\0" + struct.pack("<2i", length, 6)
    path.write_bytes(extended.ljust(512, b"\0") + content[352:])
    refused(path, ErrorCode.FILE_DAMAGED, str(length))


def test_units_of_nifti(changed, affine):
    for code, scale in ((1, 1000.0), (3, 0.001)):
        image = read_image(changed("a.nii", 123, "<b", code))
        assert np.allclose(image.affine[:3].numpy(), affine[:3] * scale, rtol=1e-5)
        assert any("millimetres" in note for note in image.meta["notes"])
    assert not read_image(changed("a.nii", 123, "<b", 2)).meta["notes"]
    refused(changed("a.nii", 123, "<b", 5), ErrorCode.IMAGE_GEOMETRY, "5")


def test_a_size_of_voxels_that_is_missing_is_said_aloud(changed):
    path = changed("a.nii", 252, "<2h", 0, 0)
    content = bytearray(path.read_bytes())
    struct.pack_into("<f", content, 76 + 4 * 2, 0.0)
    path.write_bytes(bytes(content))
    notes = read_image(path).meta["notes"]
    assert any("axis 2" in note and "1 mm" in note for note in notes)


def test_what_is_no_image(tmp_path):
    axis = cifti2.BrainModelAxis.from_mask(
        np.ones((3, 3, 3), bool), affine=np.eye(4), name="thalamus_left"
    )
    path = tmp_path / "a.dscalar.nii"
    header = (cifti2.ScalarAxis(["a"]), axis)
    nibabel.save(cifti2.Cifti2Image(np.zeros((1, 27), np.float32), header=header), path)
    refused(path, ErrorCode.FILE_FORMAT, "CIFTI")
    path = tmp_path / "lh.thickness.mgz"
    row = np.random.default_rng(0).normal(size=(3000, 1, 1)).astype(np.float32)
    nibabel.save(nibabel.MGHImage(row, np.eye(4)), path)
    refused(path, ErrorCode.IMAGE_AXES, "3000")


def test_more_than_the_memory_takes(tmp_path, monkeypatch, affine):
    path = tmp_path / "a.nii.gz"
    nibabel.save(nibabel.Nifti1Image(VALUES, affine), path)
    monkeypatch.setattr(sizes, "memory_free", lambda: 1000)
    refused(path, ErrorCode.MEMORY, str(VALUES.size))


@pytest.mark.slow
def test_a_large_file_of_one_value(tmp_path):
    header = nibabel.Nifti1Header()
    header.set_data_shape((1024, 1024, 320))
    header.set_data_dtype(np.uint8)
    header["magic"], header["vox_offset"] = b"n+1", 352
    path = tmp_path / "zeros.nii.gz"
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(header.binaryblock + b"\0\0\0\0")
        for _ in range(20):
            file.write(bytes(1 << 24))
    refused(path, ErrorCode.IMAGE_VALUES, str(path.stat().st_size))


def test_pairs_that_lead_elsewhere(tmp_path, affine):
    (tmp_path / "pair").mkdir()
    nibabel.save(nibabel.Nifti1Pair(VALUES, affine), tmp_path / "a.img")
    (tmp_path / "a.hdr").rename(tmp_path / "pair" / "a.hdr")
    (tmp_path / "pair" / "a.img").symlink_to(tmp_path / "a.img")
    for name in ("a.hdr", "a.img"):
        refused(tmp_path / "pair" / name, ErrorCode.FILE_FORMAT, "a.img")


def test_pipes_and_devices(tmp_path):
    image = read_image_of(tmp_path)
    for name in ("a.nii.gz", "a.dcm", "a.png", "a.mat"):
        path = tmp_path / "pipes" / name
        path.parent.mkdir(exist_ok=True)
        os.mkfifo(path)
        refused(path, ErrorCode.FILE_FORMAT, "pipe")
        with error_with(ErrorCode.FILE_FORMAT, "pipe"):
            read_segmentation(path, image)
    with error_with(ErrorCode.FILE_FORMAT, "/dev/zero", "device"):
        check_exists(type(tmp_path)("/dev/zero"))


def read_image_of(folder):
    nibabel.save(nibabel.Nifti1Image(VALUES, np.eye(4)), folder / "good.nii.gz")
    return read_image(folder / "good.nii.gz")


def test_a_grid_that_is_sheared_without_measure(tmp_path):
    affine = np.eye(4)
    affine[0, 2] = 1e5
    image = nibabel.Nifti1Image(VALUES, None)
    image.set_sform(affine, code=1)
    nibabel.save(image, tmp_path / "a.nii")
    refused(tmp_path / "a.nii", ErrorCode.IMAGE_GEOMETRY)
