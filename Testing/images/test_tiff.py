"""TIFF of many kinds held against tifffile and Pillow, which write what is read here."""

from __future__ import annotations

import io

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.raster import decode
from SaliencyExplain.images.reading import read_image

ROWS, COLUMNS = 45, 70


def numbers(kind, samples=1):
    shape = (ROWS, COLUMNS) if samples == 1 else (ROWS, COLUMNS, samples)
    random = np.random.default_rng(0)
    if np.dtype(kind).kind == "f":
        return random.normal(100, 50, shape).astype(kind)
    limits = np.iinfo(kind)
    return random.integers(limits.min, limits.max, shape, dtype=kind)


def stored(path):
    """(rows, columns) or (rows, columns, 3), as they were handed to the writer."""
    values = decode(path).values.transpose(1, 0, 2)
    return values[..., 0] if values.shape[2] == 1 else values


def refused(code, path):
    with pytest.raises(InputError) as error:
        read_image(path)
    assert error.value.code is code
    assert path.name in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4", "f2", "f4", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_numbers_of_every_type_are_those_of_the_file(tmp_path, kind, order):
    values, path = numbers(kind), tmp_path / "a.tif"
    for how in (
        {},
        {"rowsperstrip": 7, "compression": "deflate"},
        {"tile": (16, 32), "bigtiff": True},
        {"tile": (16, 32), "compression": "deflate", "predictor": kind[0] != "f"},
    ):
        tifffile.imwrite(path, values, photometric="minisblack", byteorder=order, **how)
        np.testing.assert_array_equal(stored(path), values, err_msg=str(how))


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "zstd", "lzma"])
@pytest.mark.parametrize(("kind", "samples"), [("u1", 1), ("u2", 1), ("u1", 3), ("f4", 1)])
def test_compressions_that_pillow_undoes(tmp_path, compression, kind, samples):
    values, path = numbers(kind, samples), tmp_path / "a.tif"
    # Floating point numbers have a predictor of their own.
    predictors = [1] if compression == "packbits" else [1, 2] + [3] * (kind == "f4")
    for predictor in predictors:
        info = {317: predictor} if predictor > 1 else {}
        Image.fromarray(values).save(path, compression=compression, tiffinfo=info)
        np.testing.assert_array_equal(stored(path), values, err_msg=str(predictor))


@pytest.mark.parametrize("kind", ["u1", "u2", "f4"])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_colours_in_planes_keep_their_depth(tmp_path, kind, tile):
    values, path = numbers(kind, 3), tmp_path / "a.tif"
    for planes in ("contig", "separate"):
        given = values if planes == "contig" else np.moveaxis(values, -1, 0)
        tifffile.imwrite(path, given, photometric="rgb", planarconfig=planes, tile=tile)
        np.testing.assert_array_equal(stored(path), values)


@pytest.mark.parametrize("kind", ["u1", "u2", "u4"])
def test_min_is_white_is_turned_into_grey(tmp_path, kind):
    values = numbers(kind)
    tifffile.imwrite(tmp_path / "w.tif", values, photometric="miniswhite")
    np.testing.assert_array_equal(stored(tmp_path / "w.tif"), np.iinfo(kind).max - values)


@pytest.mark.parametrize("kind", ["i2", "f4"])
def test_min_is_white_of_numbers_without_a_largest_is_refused(tmp_path, kind):
    tifffile.imwrite(tmp_path / "w.tif", numbers(kind), photometric="miniswhite")
    assert "MinIsWhite" in refused(ErrorCode.IMAGE_VOXEL_TYPE, tmp_path / "w.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_picture_is_put_upright_whatever_its_compression(tmp_path, orientation):
    values = numbers("u1")
    exif, png = Image.Exif(), io.BytesIO()
    exif[274] = orientation
    Image.fromarray(values).save(png, "PNG", exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(png)))
    for compression in (None, "tiff_lzw", "tiff_adobe_deflate", "jpeg"):
        path = tmp_path / "o.tif"
        smooth = np.add.outer(np.arange(ROWS), np.arange(COLUMNS)).astype("u1")
        picture = Image.fromarray(smooth if compression == "jpeg" else values)
        picture.save(path, compression=compression, tiffinfo={274: orientation})
        found = decode(path)
        assert bool(found.notes) == (orientation > 1)
        if compression != "jpeg":
            np.testing.assert_array_equal(found.values[..., 0].T, upright)
        else:
            corner = found.values[..., 0].T
            corner = corner if orientation < 5 else corner.T
            darkest = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0)}
            darkest |= {5: (0, 0), 6: (-1, 0), 7: (-1, -1), 8: (0, -1)}
            assert corner[darkest[orientation]] == corner.min()


def test_black_and_white_fax_and_bits(tmp_path):
    bits = numbers("u1") > 128
    for how in ({"compression": "group4"}, {"compression": "group3"}, {}):
        Image.fromarray(bits).save(tmp_path / "b.tif", **how)
        np.testing.assert_array_equal(stored(tmp_path / "b.tif"), bits * 255)
    tifffile.imwrite(tmp_path / "w.tif", bits, photometric="miniswhite")
    np.testing.assert_array_equal(stored(tmp_path / "w.tif"), ~bits * 255)


@pytest.mark.parametrize("step", [256, 257])
def test_a_palette_of_16_bits_stands_for_colours_of_8(tmp_path, step):
    colours = np.random.default_rng(1).integers(0, 256, (3, 256)).astype("u2")
    index = numbers("u1")
    path = tmp_path / "p.tif"
    tifffile.imwrite(path, index, photometric="palette", colormap=colours * step)
    np.testing.assert_array_equal(stored(path), colours.T[index])
    kept = decode(path, keep_palette=True)
    np.testing.assert_array_equal(kept.values[..., 0].T, index)
    np.testing.assert_allclose(kept.palette * 255, colours.T)


def test_cmyk_is_what_pillow_makes_of_it(tmp_path):
    path = tmp_path / "c.tif"
    Image.fromarray(numbers("u1", 4), mode="CMYK").save(path)
    np.testing.assert_array_equal(stored(path), np.asarray(Image.open(path).convert("RGB")))


def test_alpha_beside_colours_is_laid_over_black_once(tmp_path):
    values = numbers("u2", 4)
    values[..., 3] = 0x8000
    share = 0x8000 / 0xFFFF
    for extra, factor in (("unassalpha", share), ("assocalpha", 1.0)):
        path = tmp_path / f"{extra}.tif"
        tifffile.imwrite(path, values, photometric="rgb", extrasamples=[extra], compression="zlib")
        image = read_image(path, colour=True)
        wanted = values[..., :3].transpose(2, 1, 0) * factor
        np.testing.assert_allclose(image.numpy(), wanted, rtol=1e-4)
        assert any("transparent" in note for note in image.meta["notes"])


def test_several_values_without_a_name_are_refused(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, numbers("u1", 2), photometric="minisblack", planarconfig="contig")
    refused(ErrorCode.IMAGE_VOXEL_TYPE, path)
    tifffile.imwrite(path, numbers("f4").astype("c8"), photometric="minisblack")
    assert "complex" in refused(ErrorCode.IMAGE_VOXEL_TYPE, path)


@pytest.mark.parametrize(
    ("shape", "how"),
    [
        ((3, 20, 20), {"photometric": "minisblack"}),
        ((3, 20, 20), {"photometric": "minisblack", "ome": True}),
        ((2, 3, 20, 20), {"imagej": True, "metadata": {"axes": "TCYX"}}),
        ((16, 64, 64), {"photometric": "minisblack", "volumetric": True, "tile": (16, 16, 16)}),
    ],
)
def test_stacks_are_refused_with_their_number(tmp_path, shape, how):
    path = tmp_path / "s.tif"
    tifffile.imwrite(path, np.zeros(shape, np.uint16), **how)
    assert f"{np.prod(shape[:-2])} pages" in refused(ErrorCode.IMAGE_AMBIGUOUS, path)


def test_a_large_imagej_stack_behind_one_directory_is_refused(tmp_path):
    path = tmp_path / "s.tif"
    words = "ImageJ=1.54\nimages=7\nslices=7\n"
    tifffile.imwrite(
        path, numbers("u2"), photometric="minisblack", description=words, metadata=None
    )
    assert "7 pages" in refused(ErrorCode.IMAGE_AMBIGUOUS, path)


def test_a_smaller_copy_behind_the_page_is_no_page(tmp_path):
    path, values = tmp_path / "p.tif", numbers("u1")
    with tifffile.TiffWriter(path) as writer:
        writer.write(values, photometric="minisblack")
        writer.write(values[::2, ::2], photometric="minisblack", subfiletype=1)
    np.testing.assert_array_equal(stored(path), values)


@pytest.mark.parametrize("compression", [None, "tiff_adobe_deflate", "tiff_lzw"])
def test_a_file_that_ends_early_is_refused(tmp_path, compression):
    path = tmp_path / "t.tif"
    Image.fromarray(numbers("u1")).save(path, compression=compression)
    content = path.read_bytes()
    for kept in (4, 9, len(content) // 2, len(content) - 30):
        path.write_bytes(content[:kept])
        refused(ErrorCode.FILE_DAMAGED, path)


def test_a_file_larger_than_any_picture_is_refused_unread(tmp_path):
    path = tmp_path / "t.tif"
    with path.open("wb") as file:
        file.write(b"II+\0")
        # A sparse file takes no room.
        file.truncate(2**33)
    assert "8.0 GiB" in refused(ErrorCode.MEMORY, path)


def test_tags_of_a_picture_far_larger_than_the_file_are_refused(tmp_path):
    path = tmp_path / "t.tif"
    for tag in (256, 322):
        tifffile.imwrite(
            path, np.zeros((32, 32), np.uint8), tile=(16, 16), photometric="minisblack"
        )
        with tifffile.TiffFile(path, mode="r+b") as file:
            file.pages[0].tags[tag].overwrite(2**31 - 1)
        refused(ErrorCode.FILE_DAMAGED, path)
