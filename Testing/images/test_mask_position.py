"""A mask of the image's voxels by number, whose header puts it elsewhere: told or refused."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.reading import to_image
from SaliencyExplain.images.segmentation import read_segmentation

AFFINE = np.array([[-1, 0, 0, 20], [0, -1, 0, 20], [0, 0, 2, -30], [0, 0, 0, 1]], dtype=float)
SHAPE = (40, 40, 30)
MASK = np.zeros(SHAPE, np.uint8)
MASK[15:22, 16:24, 10:16] = 1
VALUES = np.random.default_rng(0).normal(100, 20, SHAPE)


@pytest.fixture
def image():
    return to_image(VALUES[None], AFFINE, name="image")


def save(path, mask, affine):
    nibabel.save(nibabel.Nifti1Image(mask, affine), path)
    return path


def refused(code, path, image, *parts):
    with pytest.raises(InputError) as error:
        read_segmentation(path, image)
    assert error.value.code is code
    for part in (path.name, *parts):
        assert part in str(error.value)


def test_a_moved_mask_of_the_images_shape_lies_there_and_is_told_in_mm_and_voxels(tmp_path, image):
    moved = AFFINE.copy()
    moved[:3, 3] += 8, -7, 10
    found = read_segmentation(save(tmp_path / "m.nii", MASK, moved), image)
    np.testing.assert_array_equal(
        found.segments[0].mask, np.roll(MASK, (-8, 7, 5), axis=(0, 1, 2)) > 0
    )
    (note,) = found.notes
    assert "(8, -7, 10) mm" in note
    assert "(-8, 7, 5) voxels" in note


def test_a_part_of_a_voxel_is_told_as_well(tmp_path, image):
    moved = AFFINE.copy()
    moved[2, 3] += 0.6
    found = read_segmentation(save(tmp_path / "m.nii", MASK, moved), image)
    assert any("(0, 0, 0.6) mm" in note and "(0, 0, 0.3) voxels" in note for note in found.notes)


def test_most_of_a_moved_mask_outside_of_the_image_is_refused(tmp_path, image):
    moved = AFFINE.copy()
    moved[:3, 3] -= AFFINE[:3, 0] * 20
    path = save(tmp_path / "m.nii", MASK, moved)
    refused(ErrorCode.GRID_MISMATCH, path, image, "71 %")
    moved[:3, 3] -= AFFINE[:3, 0] * 20
    path = save(tmp_path / "m.nii", MASK, moved)
    refused(ErrorCode.NO_OVERLAP, path, image, "40 mm")


CENTRED = np.diag([-1.0, 1.0, 2.0, 1.0])
CENTRED[:3, 3] = 19.5, -19.5, -29


PLAIN = [np.eye(4), np.diag([-1.0, -1.0, 1.0, 1.0]), np.diag([1.0, 1.0, 2.0, 1.0])]


@pytest.mark.parametrize(
    ("axes", "turned"), [(one, turned) for one in PLAIN for turned in (0, 1)] + [(CENTRED, 0)]
)
def test_a_mask_whose_header_has_no_place_is_refused(tmp_path, image, axes, turned):
    mask = MASK.transpose(2, 1, 0) if turned else MASK
    path = save(tmp_path / "m.nii", mask, axes)
    refused(ErrorCode.GRID_MISMATCH, path, image, "origin")


def test_a_mask_without_any_form_is_refused(tmp_path, image):
    made = nibabel.Nifti1Image(MASK, None)
    made.header.set_zooms((1, 1, 2))
    nibabel.save(made, tmp_path / "m.nii")
    refused(ErrorCode.GRID_MISMATCH, tmp_path / "m.nii", image, "origin")


def test_an_array_written_with_simpleitk_without_its_geometry_is_refused(tmp_path, image):
    path = tmp_path / "m.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(MASK.transpose(2, 1, 0)), str(path))
    refused(ErrorCode.GRID_MISMATCH, path, image, "origin")


def test_an_image_without_a_place_takes_no_mask_with_one(tmp_path):
    image = to_image(VALUES[None], np.eye(4), name="image")
    refused(ErrorCode.GRID_MISMATCH, save(tmp_path / "m.nii", MASK, AFFINE), image, "origin")


@pytest.mark.parametrize(
    ("signs", "said"), [((-1, -1, 1), "x and y"), ((-1, 1, 1), "x negated"), ((1, 1, -1), "z")]
)
def test_a_header_in_other_axes_of_the_world_is_refused_by_their_names(
    tmp_path, image, signs, said
):
    path = save(tmp_path / "m.nii", MASK, np.diag([*signs, 1.0]) @ AFFINE)
    refused(ErrorCode.GRID_MISMATCH, path, image, said)


def test_a_transposed_array_with_the_images_affine_is_refused(tmp_path, image):
    path = save(tmp_path / "m.nii", MASK.transpose(2, 1, 0), AFFINE)
    refused(ErrorCode.GRID_MISMATCH, path, image, "30 x 40 x 40", "40 x 40 x 30")


def test_turned_and_reversed_axes_that_the_header_tells_of_are_taken_without_a_note(
    tmp_path, image
):
    turned = AFFINE[:, [2, 0, 1, 3]].copy()
    turned[:3, 3] += turned[:3, 1] * 39
    turned[:3, 1] *= -1
    mask = MASK.transpose(2, 0, 1)[:, ::-1]
    found = read_segmentation(save(tmp_path / "m.nii", mask, turned), image)
    np.testing.assert_array_equal(found.segments[0].mask, MASK > 0)
    assert found.notes == ()


def test_another_spacing_under_the_images_shape_is_told(tmp_path, image):
    other = AFFINE @ np.diag([0.9, 0.9, 1.0, 1.0])
    found = read_segmentation(save(tmp_path / "m.nii", MASK, other), image)
    assert any("0.9 x 0.9 x 2 mm" in note and "1 x 1 x 2 mm" in note for note in found.notes)


def test_another_size_at_the_images_origin_is_told_and_fewer_slices_are_not(tmp_path, image):
    fewer = read_segmentation(save(tmp_path / "f.nii", MASK[..., :25], AFFINE), image)
    np.testing.assert_array_equal(fewer.segments[0].mask, MASK > 0)
    assert fewer.notes == ()
    resized = MASK[::2, ::2, ::2]
    (note,) = read_segmentation(save(tmp_path / "r.nii", resized, AFFINE), image).notes
    assert "20 x 20 x 15" in note
    assert "40 x 40 x 30" in note


def test_a_mask_that_lies_on_the_patient_only_with_x_and_y_negated_is_told(tmp_path):
    # Two voxels of air around a patient who lies off the centre of a grid about the origin.
    affine = np.eye(4)
    affine[:3, 3] = -20, -20, -30
    values = np.random.default_rng(1).normal(0, 0.1, (41, 41, 61))
    values[4:16, 6:18] += 100
    image = to_image(values[None], affine, name="image")
    fine = affine @ np.diag([0.5, 0.5, 0.5, 1.0])
    mask = np.zeros((82, 82, 122), np.uint8)
    mask[12:24, 16:28, 40:60] = 1
    right = read_segmentation(save(tmp_path / "right.nii", mask, fine), image)
    assert not any("negated" in note for note in right.notes)
    wrong = save(tmp_path / "wrong.nii", mask, np.diag([-1.0, -1.0, 1.0, 1.0]) @ fine)
    found = read_segmentation(wrong, image)
    assert any("air" in note and "x and y negated" in note for note in found.notes)


def test_a_centred_image_does_not_tell_a_mirrored_header_but_its_air_does(tmp_path):
    affine = np.eye(4)
    affine[:3, 3] = -20, -20, -30
    values = np.random.default_rng(1).normal(0, 0.1, (41, 41, 61))
    values[4:16, 6:18] += 100
    image = to_image(values[None], affine, name="image")
    mask = np.zeros(values.shape, np.uint8)
    mask[6:12, 8:14, 20:30] = 1
    mirrored = save(tmp_path / "m.nii", mask, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine)
    notes = read_segmentation(mirrored, image).notes
    assert any("stored in reverse" in note for note in notes)
    assert any("air" in note and "x and y negated" in note for note in notes)


def test_a_single_slice_is_told_with_its_number(tmp_path, image):
    path = save(tmp_path / "m.nii", MASK[:, :, 12:13], AFFINE)
    (note,) = read_segmentation(path, image).notes
    assert "slice 1 of the image's 30" in note


def test_a_flat_mask_for_a_volume_is_refused(tmp_path, image):
    path = save(tmp_path / "m.nii", MASK[:, :, 12], AFFINE)
    refused(ErrorCode.IMAGE_AXES, path, image, "2 axes")
