"""Compressed volumes whose checksum does not fit, or is missing."""

from __future__ import annotations

import bz2
import gzip
import zlib
from contextlib import suppress

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.reading import read_image
from SaliencyExplain.images.segmentation import read_segmentation

VALUES = np.random.default_rng(0).integers(0, 1000, (20, 20, 12)).astype(np.int16)
NRRD = (
    "NRRD0004\ntype: int16\ndimension: 3\nspace: left-posterior-superior\nsizes: 20 20 12\n"
    "space directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\nendian: little\n"
    "encoding: {}\n\n"
)
META = (
    "ObjectType = Image\nNDims = 3\nDimSize = 20 20 12\nElementType = MET_SHORT\n"
    "BinaryDataByteOrderMSB = False\nCompressedData = True\nElementDataFile = LOCAL\n"
)
#: Every format: its name, how it packs, and what lies before the packed bytes.
PACKED = {
    "a.nii.gz": (gzip.compress, ""),
    "a.mgz": (gzip.compress, ""),
    "a.nrrd": (gzip.compress, NRRD.format("gzip")),
    "bz2.nrrd": (bz2.compress, NRRD.format("bzip2")),
    "a.mha": (zlib.compress, META),
}


@pytest.fixture(params=PACKED)
def packed(request, tmp_path):
    """A path, the bytes before the packed ones, the unpacked bytes, and what packs them."""
    pack, before = PACKED[request.param]
    if before:
        content = VALUES.tobytes("F")
    else:
        kind, name = (
            (nibabel.MGHImage, "a.mgh")
            if "mgz" in request.param
            else (nibabel.Nifti1Image, "a.nii")
        )
        nibabel.save(kind(VALUES, np.eye(4)), tmp_path / name)
        content = (tmp_path / name).read_bytes()
    return tmp_path / request.param, before.encode(), content, pack


def refused(read):
    with pytest.raises(InputError) as error:
        read()
    assert error.value.code in (ErrorCode.FILE_DAMAGED, ErrorCode.IMAGE_AXES)
    return str(error.value)


def test_a_bit_that_is_flipped_is_damage(packed):
    path, before, content, pack = packed
    whole = pack(content)
    path.write_bytes(before + whole)
    np.testing.assert_array_equal(read_image(path).numpy()[0], VALUES)
    for place in (*range(len(whole) // 5, len(whole) - 20, len(whole) // 7), len(whole) - 5):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(before + bytes(damaged))
        assert str(path) in refused(lambda: read_image(path))


def test_a_file_without_its_checksum_is_cut_off(packed):
    path, before, content, pack = packed
    path.write_bytes(before + pack(content)[:-3])
    assert path.name in refused(lambda: read_image(path))


def test_several_members_and_zeros_behind_them_are_no_damage(packed):
    path, before, content, pack = packed
    if pack is not gzip.compress:
        pytest.skip("only gzip has members")
    half = len(content) // 2
    path.write_bytes(before + pack(content[:half]) + pack(content[half:]) + bytes(512))
    np.testing.assert_array_equal(read_image(path).numpy()[0], VALUES)
    first = bytearray(pack(content[:half]))
    first[-6] ^= 1
    path.write_bytes(before + bytes(first) + pack(content[half:]))
    refused(lambda: read_image(path))


@pytest.mark.parametrize("how", [{}, {"tile": (16, 16)}, {"predictor": True}])
def test_tiff(tmp_path, how):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, VALUES[..., 0].astype(np.uint16), compression="zlib", **how)
    np.testing.assert_array_equal(read_image(path).numpy()[0], VALUES[..., 0].T)
    with tifffile.TiffFile(path) as file:
        start, size = file.pages[0].dataoffsets[-1], file.pages[0].databytecounts[-1]
    whole = path.read_bytes()
    for place in (*range(start + 20, start + size - 5, max(1, size // 9)), start + size - 2):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(bytes(damaged))
        block = bytes(damaged[start : start + size])
        with suppress(zlib.error):
            # A copy of zeros from another place within zeros is the same.
            assert zlib.decompress(block) == zlib.decompress(whole[start : start + size])
            continue
        assert "a.tif" in refused(lambda: read_image(path))


def test_tiff_of_single_bits(tmp_path):
    path = tmp_path / "a.tif"
    picture = Image.fromarray(VALUES[..., 0] > 500)
    picture.save(path, compression="tiff_adobe_deflate")
    with tifffile.TiffFile(path) as file:
        start, size = file.pages[0].dataoffsets[-1], file.pages[0].databytecounts[-1]
    np.testing.assert_array_equal(read_image(path).numpy()[0] > 0, np.asarray(picture).T)
    damaged = bytearray(path.read_bytes())
    damaged[start + size - 2] ^= 1
    path.write_bytes(bytes(damaged))
    refused(lambda: read_image(path))


def test_label_maps_too(tmp_path):
    path = tmp_path / "labels.nii"
    image = nibabel.Nifti1Image(VALUES, np.eye(4))
    nibabel.save(image, tmp_path / "image.nii")
    nibabel.save(nibabel.Nifti1Image((VALUES > 500).astype(np.uint8), np.eye(4)), path)
    whole = bytearray(gzip.compress(path.read_bytes()))
    whole[-6] ^= 1
    path = tmp_path / "labels.nii.gz"
    path.write_bytes(bytes(whole))
    refused(lambda: read_segmentation(path, read_image(tmp_path / "image.nii")))


def test_what_unpacks_behind_the_voxels_is_bounded(tmp_path):
    nibabel.save(nibabel.Nifti1Image(VALUES, np.eye(4)), tmp_path / "a.nii")
    content = (tmp_path / "a.nii").read_bytes()
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(content + bytes(1 << 20), 1))
    np.testing.assert_array_equal(read_image(path).numpy()[0], VALUES)
    path.write_bytes(gzip.compress(content + bytes(80 << 20), 1))
    assert "announces" in refused(lambda: read_image(path))
