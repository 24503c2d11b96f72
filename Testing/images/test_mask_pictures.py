"""Masks and label maps as pictures: each colour is a segment, photographs are none."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.reading import to_image
from SaliencyExplain.images.segmentation import EMPTY_NOTE, read_ground_truth, read_segmentation

ROWS, COLUMNS = 48, 64
PLACES = np.indices((ROWS, COLUMNS))
DISC = np.linalg.norm(PLACES - np.array([20, 40])[:, None, None], axis=0) < 9
BAR = np.zeros((ROWS, COLUMNS), bool)
BAR[30:40, 5:25] = True


@pytest.fixture
def image():
    values = np.random.default_rng(0).random((1, COLUMNS, ROWS))
    return to_image(values, np.diag([-1.0, -1.0, 1.0, 1.0]), name="image")


@pytest.fixture
def read(tmp_path, image):
    def written(picture, suffix="png", **how):
        path = tmp_path / f"m.{suffix}"
        if not isinstance(picture, Image.Image):
            picture = Image.fromarray(picture)
        picture.save(path, **how)
        found = read_segmentation(path, image)
        return {segment.name: segment.mask.T for segment in found.segments}, found.notes

    return written


def refused(read, picture, *parts, **how):
    with pytest.raises(InputError) as error:
        read(picture, **how)
    assert error.value.code is ErrorCode.SEGMENTATION_LABELS
    for part in ("m.", *parts):
        assert part in str(error.value)


def same(found, wanted):
    assert list(found) == list(wanted)
    for name, mask in wanted.items():
        np.testing.assert_array_equal(found[name], mask)


def coloured(disc, bar, rest=(0, 0, 0)):
    picture = np.full((ROWS, COLUMNS, 3), rest, np.uint8)
    picture[DISC], picture[BAR] = disc, bar
    return picture


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_each_colour_is_a_segment_with_its_name(read, suffix):
    found, notes = read(coloured((255, 0, 0), (166, 209, 6)), suffix)
    same(found, {"#a6d106": BAR, "red": DISC})
    assert notes == ()


def test_shades_of_blurred_colours_are_no_segments(read):
    sharp = coloured((255, 0, 0), (0, 0, 255)).astype(float)
    blurred = ndimage.gaussian_filter(sharp, (0.8, 0.8, 0)) // 40 * 40
    assert 3 < len(np.unique(blurred.reshape(-1, 3), axis=0)) < 32
    refused(read, blurred.astype(np.uint8), "neighbouring")
    refused(read, Image.fromarray(blurred.astype(np.uint8)).quantize(16), "neighbouring")


def test_white_in_the_corners_is_the_background_where_nothing_is_black(read):
    found, notes = read(coloured((255, 0, 0), (0, 0, 255), (255, 255, 255)))
    same(found, {"blue": BAR, "red": DISC})
    assert any("white" in note for note in notes)


def test_colours_over_the_whole_picture_are_told(read):
    found, notes = read(coloured((255, 0, 0), (0, 0, 255), (0, 128, 0)))
    same(found, {"blue": BAR, "green": ~(DISC | BAR), "red": DISC})
    assert any("no pixel is black" in note for note in notes)


def test_colours_on_transparency_are_segments(read):
    picture = np.dstack([coloured((255, 0, 0), (0, 0, 255)), (DISC | BAR) * np.uint8(255)])
    same(read(picture)[0], {"blue": BAR, "red": DISC})


def of_palette(colours, index):
    picture = Image.fromarray(index, mode="P")
    picture.putpalette(np.array(colours, np.uint8).ravel().tolist())
    return picture


def test_black_is_the_background_of_a_palette_wherever_it_stands(read):
    index = np.full((ROWS, COLUMNS), 1, np.uint8)
    index[DISC], index[BAR] = 0, 2
    found, notes = read(of_palette([(255, 0, 0), (0, 0, 0), (0, 0, 255)], index))
    same(found, {"label 0 (red)": DISC, "label 2 (blue)": BAR})
    assert any("colour 1" in note for note in notes)


def test_a_palette_of_grey_values_is_read_as_these(read):
    found, _ = read(of_palette([(255, 255, 255), (0, 0, 0)], (~DISC).astype(np.uint8)), "bmp")
    same(found, {"mask": DISC})


def test_soft_edges_are_cut_at_half(read):
    soft = np.rint(ndimage.gaussian_filter(DISC * 255.0, 0.7)).astype(np.uint8)
    found, notes = read(soft)
    same(found, {"mask": soft > soft.max() / 2})
    assert any("soft" in note for note in notes)


def test_label_maps_of_many_grey_values_are_label_maps(read):
    labels = (PLACES[0] // 6 * 8 + PLACES[1] // 8 + 1).astype(np.uint8)
    labels[0] = 0
    assert len(read(labels)[0]) == 64


def test_photographs_are_refused_in_grey_colour_and_jpeg(read):
    smooth = np.add.outer(np.arange(ROWS), np.arange(COLUMNS)).astype(np.uint8)
    noise = np.random.default_rng(1).integers(0, 40, (ROWS, COLUMNS, 3)).astype(np.uint8)
    photo = noise + smooth[..., None]
    refused(read, photo[..., 0])
    refused(read, photo, "colours")
    refused(read, photo[..., 0], suffix="jpg")
    refused(read, Image.fromarray(photo).quantize(64), "palette")


@pytest.mark.parametrize("quality", [40, 75, 95])
def test_jpeg_masks_of_one_label_are_read_and_others_refused(read, quality):
    found, notes = read((DISC * 255).astype(np.uint8), "jpg", quality=quality)
    same(found, {"mask": DISC})
    assert any("JPEG" in note for note in notes)
    refused(read, coloured((255, 0, 0), (0, 0, 255)), suffix="jpg", quality=quality)
    levels = (DISC * 255 + BAR * 128).astype(np.uint8)
    refused(read, levels, "several labels", suffix="jpg", quality=quality)
    refused(read, DISC.astype(np.uint8) * 9, "noise", suffix="jpg", quality=quality)


def test_a_mask_that_has_all_corners_may_be_inverted(read):
    found, notes = read((~DISC * np.uint8(255)).astype(np.uint8))
    same(found, {"mask": ~DISC})
    assert any("inverted" in note for note in notes)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif"])
def test_a_black_picture_marks_nothing(tmp_path, image, suffix):
    path = tmp_path / f"m.{suffix}"
    Image.fromarray(np.zeros((ROWS, COLUMNS), np.uint8)).save(path)
    assert read_ground_truth(path, image) == (None, (EMPTY_NOTE,))


def test_a_deep_or_float_tiff_is_a_mask(read):
    same(read((DISC * np.uint16(65535)).astype(np.uint16), "tif")[0], {"mask": DISC})
    same(read(DISC.astype(np.float32), "tif")[0], {"mask": DISC})


@pytest.mark.parametrize("how", ["BILINEAR", "BICUBIC", "LANCZOS", "BOX"])
def test_a_mask_made_smaller_is_one_mask(read, how):
    large = np.zeros((ROWS * 8, COLUMNS * 8), np.uint8)
    large[101:203, 157:333] = 255
    small = Image.fromarray(large).resize((COLUMNS, ROWS), getattr(Image.Resampling, how))
    found, notes = read(small)
    same(found, {"mask": np.asarray(small) >= 127.5})
    assert any("soft" in note for note in notes)


def test_noise_next_to_black_and_white_is_no_segment(read):
    random = np.random.default_rng(0)
    noisy = random.integers(0, 3, (ROWS, COLUMNS)).astype(np.uint8)
    noisy[DISC] = random.integers(254, 256, int(DISC.sum()))
    found, notes = read(noisy)
    same(found, {"mask": DISC})
    assert any("soft" in note for note in notes)


def test_labels_beside_one_of_255_are_segments_with_a_note(read):
    values = np.where(DISC, 255, np.where(BAR, 1, 0)).astype(np.uint8)
    found, notes = read(values)
    same(found, {"label 1": BAR, "label 255": DISC})
    assert any("1, 255" in note for note in notes)
