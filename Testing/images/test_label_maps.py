"""What counts as a label map: backgrounds, one-hot layers, soft masks, images given as masks."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import cKDTree

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.label_values import distinct, hard_layers
from SaliencyExplain.images.reading import read_image, to_image
from SaliencyExplain.images.segmentation import read_segmentation

SHAPE = (20, 22, 24)
AFFINE = np.array([[1, 0, 0, 5], [0, 1, 0, 6], [0, 0, 2, 7], [0, 0, 0, 1]], dtype=float)
PLACES = np.indices(SHAPE)
BALL = np.linalg.norm(PLACES - np.array([9, 10, 11])[:, None, None, None], axis=0) < 5
BOX = np.zeros(SHAPE, bool)
BOX[14:18, 3:7, 15:20] = True


@pytest.fixture
def image():
    return to_image(np.random.default_rng(0).normal(0, 1, (1, *SHAPE)), AFFINE, name="image")


@pytest.fixture
def read(tmp_path, image):
    def written(values):
        nibabel.save(nibabel.Nifti1Image(values, AFFINE), tmp_path / "m.nii.gz")
        found = read_segmentation(tmp_path / "m.nii.gz", image)
        return {segment.name: segment.mask for segment in found.segments}, found.notes

    return written


def refused(read, values, *parts):
    with pytest.raises(InputError) as error:
        read(values)
    assert error.value.code is ErrorCode.SEGMENTATION_LABELS
    for part in ("m.nii.gz", *parts):
        assert part in str(error.value)


def same(found, **wanted):
    assert list(found) == [name.replace("_", " ") for name in wanted]
    for name, mask in wanted.items():
        np.testing.assert_array_equal(found[name.replace("_", " ")], mask)


def test_minus_one_is_the_background_where_there_is_no_zero(read):
    found, notes = read(np.where(BALL, 1, -1).astype(np.int16))
    same(found, label_1=BALL)
    assert any("-1" in note for note in notes)


def test_minus_one_beside_a_background_of_zero_is_not_known(read):
    found, notes = read((BALL.astype(np.int8) - BOX).astype(np.int8))
    same(found, label_1=BALL)
    assert any(f"{BOX.sum()} voxels of -1" in note for note in notes)


def test_minus_one_that_outweighs_zero_is_refused(read):
    refused(read, np.where(BALL, 1, np.where(BOX, 0, -1)).astype(np.int16), "-1", "0 in 80")


def test_values_below_are_an_images(read):
    refused(read, np.where(BALL, 40, -1000).astype(np.int16), "-1000")


def test_values_that_are_no_whole_numbers_of_32_bits_are_no_labels(read):
    refused(read, BALL * np.float32(1e20), "1e+20")


@pytest.mark.parametrize("kind", ["u1", "i1", "i2", "u2", "i4"])
def test_distinct_values_are_those_of_numpy(kind):
    limits = np.iinfo(kind)
    values = np.random.default_rng(3).integers(limits.min, limits.max, (9, 10, 11), dtype=kind)
    assert distinct(values) == np.unique(values).tolist()
    assert distinct(values % 5) == np.unique(values % 5).tolist()


def test_a_file_without_zero_says_that_all_belongs_to_a_segment(read):
    found, notes = read(np.where(BALL, 2, 1).astype(np.uint8))
    same(found, label_1=~BALL, label_2=BALL)
    assert any("95 %" in note and "label 1" in note for note in notes)


@pytest.mark.parametrize("high", [1, 255])
def test_one_hot_layers_lose_the_background(read, high):
    layers = np.stack([~(BALL | BOX), BALL, BOX], axis=-1).astype(np.uint8) * high
    found, notes = read(layers)
    same(found, **{f"layer_2_label_{high}": BALL, f"layer_3_label_{high}": BOX})
    assert any("layer 1" in note and "background" in note for note in notes)
    found, notes = read(layers[..., 1:])
    same(found, **{f"layer_1_label_{high}": BALL, f"layer_2_label_{high}": BOX})
    assert notes == ()


def test_one_hot_layers_whose_background_is_not_the_first_are_refused(read):
    refused(read, np.stack([BALL, BOX, ~(BALL | BOX)], axis=-1).astype(np.uint8), "3 layers")


def test_one_hot_layers_along_the_first_axis_are_found_by_the_images_shape(read):
    found, notes = read(np.stack([~(BALL | BOX), BALL, BOX]).astype(np.uint8))
    same(found, layer_2_label_1=BALL, layer_3_label_1=BOX)
    assert any("first axis" in note for note in notes)


def test_layers_along_the_first_axis_with_another_affine_are_refused(tmp_path, image):
    path = tmp_path / "m.nii"
    nibabel.save(nibabel.Nifti1Image(np.stack([BALL, BOX]).astype(np.uint8), np.eye(4)), path)
    with pytest.raises(InputError) as error:
        read_segmentation(path, image)
    assert error.value.code is ErrorCode.GRID_MISMATCH


def test_a_soft_mask_is_cut_at_one_half_aloud(read):
    soft = ndimage.gaussian_filter(BALL.astype(np.float32), 0.5)
    soft[soft < 1e-3] = 0
    found, notes = read(soft)
    same(found, label_1=soft >= 0.5)
    assert any("0.5" in note for note in notes)


def test_probabilities_of_classes_belong_to_the_largest(read):
    scores = np.stack([~(BALL | BOX), BALL, BOX], axis=-1).astype(np.float32) * 0.6
    scores += 0.4 / 3
    found, notes = read(scores)
    same(found, layer_2_label_1=BALL, layer_3_label_1=BOX)
    assert any("largest" in note for note in notes)


def test_an_image_scaled_to_one_is_no_soft_mask(read, image):
    values = image[0].numpy()
    scaled = (values - values.min()) / np.ptp(values)
    refused(read, scaled, "fractions")
    # A probability that is sure of nothing.
    refused(read, (BALL * 0.6).astype(np.float32), "fractions")


def test_an_image_given_as_a_mask_is_refused_with_its_values_and_the_way_out(read):
    noise = np.random.default_rng(1).integers(0, 70, SHAPE).astype(np.int16)
    refused(read, noise, "69 values", ".seg.nrrd")
    smooth = ndimage.gaussian_filter(noise.astype(float), 1)
    refused(read, np.rint(smooth * 4).astype(np.uint8), ".seg.nrrd")
    # A mask of 0 and 255 that was resampled: its edge is no set of labels.
    edge = ndimage.gaussian_filter(BALL * 255.0, 1).astype(np.uint8)
    refused(read, edge, ".seg.nrrd")


def test_an_atlas_of_117_labels_is_one(read):
    centres = np.random.default_rng(2).random((117, 3)) * np.array(SHAPE)
    atlas = cKDTree(centres).query(PLACES.reshape(3, -1).T)[1].reshape(SHAPE) + 1
    atlas[:2] = 0
    found, notes = read(atlas.astype(np.uint8))
    assert len(found) == len(np.unique(atlas)) - 1
    assert notes == ()


def test_single_voxels_of_many_labels_are_landmarks(read):
    points = np.zeros(SHAPE, np.uint8)
    points[::6, ::6, ::6] = np.arange(64).reshape(4, 4, 4) + 1
    assert len(read(points)[0]) == 64


def test_real_images_are_no_masks(shared_data):
    for path in (
        shared_data / "breast-tumour-nrrd" / "breast1_image.nrrd",
        shared_data / "cxr-lung-masks" / "1.jpg",
        shared_data / "cxr-opacity-masks" / "ARDSSevere.png",
    ):
        with pytest.raises(InputError) as error:
            read_segmentation(path, read_image(path))
        assert error.value.code is ErrorCode.SEGMENTATION_LABELS


@pytest.mark.parametrize("shift", [(0.5, 0, 0), (0.3, 0.4, 0.5)])
def test_a_soft_mask_of_whole_numbers_is_cut_at_half_as_its_fractions_are(read, shift):
    soft = ndimage.shift(BALL.astype(float), shift, order=1)
    found, notes = read(np.rint(soft * 255).astype(np.uint8))
    cut = np.rint(soft * 255) >= 127.5
    same(found, label_255=cut)
    assert any("soft" in note for note in notes)


@pytest.mark.parametrize("factor", [0.5, 2, 3])
def test_a_mask_that_was_resampled_linearly_is_one_segment(factor):
    soft = ndimage.zoom(BALL.astype(float), factor, order=1, grid_mode=True, mode="grid-constant")
    (cut,), notes = hard_layers(np.rint(soft * 255).astype(np.uint8)[np.newaxis])
    assert distinct(cut) == [0, 255]
    assert notes
    np.testing.assert_array_equal(cut == 255, np.rint(soft * 255) >= 127.5)


@pytest.mark.parametrize("levels", [(1, 2, 4), (85, 170, 255), (64, 128, 255)])
def test_segments_within_each_other_stay_whatever_their_numbers(read, levels):
    distance = np.linalg.norm(PLACES - np.array([9, 10, 11])[:, None, None, None], axis=0)
    inner, middle, outer = levels[2], levels[1], levels[0]
    values = np.select([distance < 4, distance < 6, distance < 9], [inner, middle, outer], 0)
    found, notes = read(values.astype(np.uint8))
    same(found, **{f"label_{level}": values == level for level in levels})
    assert not any("soft" in note for note in notes)


def test_a_thin_layer_of_a_high_level_is_a_segment_with_a_note(read):
    distance = np.linalg.norm(PLACES - np.array([9, 10, 11])[:, None, None, None], axis=0)
    values = np.select([distance < 6, distance < 8], [255, 128], 0)
    found, notes = read(values.astype(np.uint8))
    same(found, label_128=values == 128, label_255=values == 255)
    assert any("128, 255" in note for note in notes)
