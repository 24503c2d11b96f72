from __future__ import annotations

import os
import struct
import zlib

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.raster import decode
from SaliencyExplain.images.reading import read_image
from Testing.expected_errors import error_with

#: (rows, columns) as pictures are stored: 4 high, 6 wide, the brightest at row 1, column 5.
GREY = np.arange(24, dtype=np.uint8).reshape(4, 6) * 3
GREY[1, 5] = 250
COLOUR = np.stack([GREY, GREY // 2, 255 - GREY], axis=-1)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_axes_are_columns_then_rows_and_run_left_and_back(tmp_path, name):
    Image.fromarray(GREY).save(tmp_path / name)
    image = read_image(tmp_path / name)
    assert image.shape == (1, 6, 4)
    assert image[0, 5, 1] == 250
    np.testing.assert_array_equal(image.affine.numpy(), np.diag([-1, -1, 1, 1]))
    itk = sitk.ReadImage(str(tmp_path / name))
    assert itk[5, 1] == 250
    assert "the pixel size is unknown: a pixel (px) counts as 1 mm" in image.meta["notes"]


def test_jpeg_is_read(tmp_path):
    smooth = np.add.outer(np.arange(64), np.arange(80)).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=95)
    np.testing.assert_allclose(read_image(tmp_path / "a.jpg")[0].numpy(), smooth.T, atol=4)


def test_sixteen_bit_grey_keeps_its_depth(tmp_path):
    deep = GREY.astype(np.uint16) * 257
    for name in ("a.png", "a.tif"):
        Image.fromarray(deep).save(tmp_path / name)
        np.testing.assert_array_equal(read_image(tmp_path / name)[0].numpy(), deep.T)


@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
def test_sixteen_bit_colours_keep_their_depth(tmp_path, name):
    deep = COLOUR.astype(np.uint16) * 256 + 7
    sitk.WriteImage(sitk.GetImageFromArray(deep, isVector=True), str(tmp_path / name))
    image = read_image(tmp_path / name, colour=True)
    np.testing.assert_array_equal(image.numpy(), deep.transpose(2, 1, 0))


def test_float_tiff_is_read(tmp_path):
    Image.fromarray(GREY.astype(np.float32) / 7).save(tmp_path / "f.tif")
    np.testing.assert_allclose(read_image(tmp_path / "f.tif")[0].numpy(), GREY.T / 7, rtol=1e-6)


def test_colours_become_grey_aloud_or_channels_on_request(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "c.png")
    grey = read_image(tmp_path / "c.png")
    luma = COLOUR @ (0.299, 0.587, 0.114)
    np.testing.assert_allclose(grey[0].numpy(), luma.T, atol=1e-3)
    assert any("601" in note for note in grey.meta["notes"])
    channels = read_image(tmp_path / "c.png", colour=True)
    np.testing.assert_array_equal(channels.numpy(), COLOUR.transpose(2, 1, 0))
    Image.fromarray(GREY).save(tmp_path / "g.png")
    three = read_image(tmp_path / "g.png", colour=True)
    np.testing.assert_array_equal(three.numpy(), np.stack([GREY.T] * 3))


def test_an_opaque_alpha_changes_nothing_and_a_transparent_one_is_said_aloud(tmp_path):
    alpha = np.full(GREY.shape, 255, np.uint8)
    Image.fromarray(np.dstack([GREY, GREY, GREY, alpha])).save(tmp_path / "o.png")
    opaque = read_image(tmp_path / "o.png")
    np.testing.assert_array_equal(opaque[0].numpy(), GREY.T)
    assert len(opaque.meta["notes"]) == 1
    alpha[1] = 0
    Image.fromarray(np.dstack([GREY, GREY, GREY, alpha])).save(tmp_path / "t.png")
    transparent = read_image(tmp_path / "t.png")
    assert transparent[0, :, 1].abs().max() == 0
    assert transparent[0, 5, 3] == GREY[3, 5]
    assert "transparent pixels are blended with black" in transparent.meta["notes"]


def test_a_palette_stands_for_its_colours(tmp_path):
    index = np.array([[0, 1, 2], [2, 1, 0]], dtype=np.uint8)
    picture = Image.fromarray(index, mode="P")
    picture.putpalette([0, 0, 0, 90, 90, 90, 200, 200, 200])
    picture.save(tmp_path / "p.png")
    expected = np.array([0, 90, 200])[index].T
    np.testing.assert_array_equal(read_image(tmp_path / "p.png")[0].numpy(), expected)


def test_one_bit_pictures_are_black_and_white(tmp_path):
    Image.fromarray(GREY > 40).save(tmp_path / "b.png")
    assert sorted(read_image(tmp_path / "b.png")[0].unique().tolist()) == [0, 255]


def test_a_phones_orientation_tag_is_followed_aloud(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by 90 degrees clockwise
    Image.fromarray(GREY).save(tmp_path / "phone.png", exif=exif)
    image = read_image(tmp_path / "phone.png")
    np.testing.assert_array_equal(image[0].numpy().T, np.rot90(GREY, -1))
    assert any("EXIF" in note for note in image.meta["notes"])


def test_several_pages_are_refused_with_their_number(tmp_path):
    pages = [Image.fromarray(GREY), Image.fromarray(GREY)]
    pages[0].save(tmp_path / "p.tif", save_all=True, append_images=pages[1:])
    with error_with(ErrorCode.IMAGE_AMBIGUOUS, "p.tif", "2 pages"):
        read_image(tmp_path / "p.tif")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_truncated_pictures_are_refused(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 255, (200, 200), dtype=np.uint8)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:4000])
    with error_with(ErrorCode.FILE_DAMAGED, f"a.{suffix}"):
        read_image(path)


def png(path, values, colour_type, bits, chunks=b""):
    """A PNG of any kind: what Pillow does not write."""

    def chunk(name, content):
        checked = name + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    rows, columns = values.shape[:2]
    lines = [row.astype(">u2" if bits == 16 else "u1").tobytes() for row in values]
    if bits < 8:
        places = np.arange(bits - 1, -1, -1)
        lines = [np.packbits((row.ravel()[:, None] >> places) & 1).tobytes() for row in values]
    header = struct.pack(">IIBBBBB", columns, rows, bits, colour_type, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + line for line in lines))
    extra = b"".join(chunk(name, content) for name, content in chunks or ())
    parts = chunk(b"IHDR", header) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    return path


def test_sixteen_bit_grey_beside_alpha_keeps_its_depth(tmp_path):
    values = np.random.default_rng(0).integers(0, 2**16, (17, 23, 2))
    found = decode(png(tmp_path / "g.png", values, 4, 16))
    np.testing.assert_array_equal(found.values[..., 0].T, values[..., 0])
    np.testing.assert_array_equal(found.alpha.T, values[..., 1])


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_the_one_value_that_a_grey_png_calls_transparent(tmp_path, bits):
    values = np.random.default_rng(0).integers(0, 2**bits, (17, 23))
    values[0, 0] = 1
    path = png(tmp_path / "k.png", values, 0, bits, [(b"tRNS", b"\0\1")])
    found = decode(path)
    np.testing.assert_array_equal(found.alpha.T > 0, values != 1)
    stretch = 255 // (2**bits - 1) if bits < 8 else 1
    np.testing.assert_array_equal(found.values[..., 0].T, values * stretch)


def test_the_colour_that_a_png_calls_transparent(tmp_path):
    path = png(tmp_path / "k.png", COLOUR, 2, 8, [(b"tRNS", struct.pack(">3H", *COLOUR[1, 2]))])
    np.testing.assert_array_equal(decode(path).alpha.T > 0, (COLOUR[1, 2] != COLOUR).any(-1))
    deep = COLOUR.astype(np.uint16) * 256
    path = png(tmp_path / "d.png", deep, 2, 16, [(b"tRNS", struct.pack(">3H", *deep[1, 2]))])
    with pytest.raises(InputError) as error:
        decode(path)
    assert error.value.code is ErrorCode.IMAGE_VOXEL_TYPE


def test_the_alpha_of_palette_colours_is_kept_beside_their_indices(tmp_path):
    index = np.arange(12).reshape(3, 4) % 4
    chunks = [(b"PLTE", bytes(range(12))), (b"tRNS", bytes([0, 100]))]
    found = decode(png(tmp_path / "p.png", index, 3, 8, chunks), keep_palette=True)
    np.testing.assert_array_equal(found.values[..., 0].T, index)
    np.testing.assert_array_equal(found.alpha.T, np.array([0, 100, 255, 255])[index])


@pytest.mark.parametrize("mode", ["L", "RGB", "1", "P"])
def test_bmp_is_read(tmp_path, mode):
    picture = Image.fromarray(COLOUR).convert(mode)
    picture.save(tmp_path / "a.bmp")
    image = read_image(tmp_path / "a.bmp", colour=True)
    np.testing.assert_array_equal(
        image.numpy().transpose(2, 1, 0), np.asarray(picture.convert("RGB"))
    )


def test_cmyk_jpeg_is_what_pillow_makes_of_it(tmp_path):
    smooth = np.add.outer(np.arange(40), np.arange(60)).astype(np.uint8)
    inks = np.dstack([smooth, smooth // 2, smooth * 0, smooth // 4])
    Image.fromarray(inks, mode="CMYK").save(tmp_path / "c.jpg", quality=95)
    image = read_image(tmp_path / "c.jpg", colour=True)
    wanted = np.asarray(Image.open(tmp_path / "c.jpg").convert("RGB"))
    np.testing.assert_array_equal(image.numpy().transpose(2, 1, 0), wanted)
    assert any("CMYK" in note for note in image.meta["notes"])


def test_an_image_of_two_values_is_read_with_a_note(tmp_path):
    values = np.zeros((20, 24), np.uint8)
    Image.fromarray(values + 255 * (np.indices(values.shape)[0] < 4).astype(np.uint8)).save(
        tmp_path / "mask.png"
    )
    assert any("two values" in note for note in read_image(tmp_path / "mask.png").meta["notes"])
    Image.fromarray((np.indices((20, 24))[0] * 9).astype(np.uint8)).save(tmp_path / "image.png")
    assert not any("two val" in note for note in read_image(tmp_path / "image.png").meta["notes"])


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp"])
def test_postscript_that_is_called_a_picture_starts_no_program(tmp_path, monkeypatch, name):
    started = tmp_path / "started"
    ghostscript = tmp_path / "gs"
    ghostscript.write_text(f"#!/bin/sh\ntouch {started}\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    (tmp_path / name).write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    )
    with error_with(ErrorCode.FILE_DAMAGED, name) as error:
        read_image(tmp_path / name)
    assert error.value.code is ErrorCode.FILE_DAMAGED
    assert not started.exists()
