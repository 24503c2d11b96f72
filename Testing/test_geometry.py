from __future__ import annotations

import numpy as np
import pytest

from SaliencyExplain.geometry import (
    bounding_box,
    directions_of,
    indices_between,
    indices_of,
    is_invertible,
    widened_box,
    within_grid,
    world_vectors,
)

# Voxels of 2 x 0.5 x 4 mm, the axes turned and one of them reversed.
AFFINE = np.array([[0.0, -0.5, 0, 7], [2, 0, 0, -3], [0, 0, 4, 11], [0, 0, 0, 1]])


def test_directions_are_unit_vectors_one_in_each_column():
    assert directions_of(AFFINE).T.tolist() == [[0, 1, 0], [-1, 0, 0], [0, 0, 1]]
    assert directions_of(AFFINE, 2).shape == (3, 2)


def test_indices_of_undoes_the_affine():
    indices = np.array([[0.0, 0, 0], [1.5, 2, -3]])
    points = indices @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    np.testing.assert_allclose(indices_of(points, AFFINE), indices)
    np.testing.assert_allclose(indices_of(points[1], AFFINE), indices[1])


@pytest.mark.parametrize("axes", [2, 3])
def test_indices_of_a_cropped_copy_differ_by_the_crop(axes):
    crop = np.array([3, 5, 2])[:axes]
    cropped = AFFINE.copy()
    cropped[:3, 3] += AFFINE[:3, :axes] @ crop
    indices = np.arange(2 * axes).reshape(2, axes)
    np.testing.assert_allclose(indices_between(indices, cropped, AFFINE), indices + crop)


def test_a_voxel_reaches_half_a_voxel_beyond_its_centre():
    indices = np.array([[-0.5, 0.0], [3.5, 1.5], [-0.6, 0.0], [0.0, 1.6]])
    assert within_grid(indices, (4, 2)).tolist() == [True, True, False, False]


def test_world_vectors_leave_out_the_origin():
    assert world_vectors(np.array([[1, 2, 0], [0, 0, 1]]), AFFINE).tolist() == [
        [-1, 2, 0],
        [0, 0, 4],
    ]
    assert world_vectors(np.array([1, 2]), AFFINE).tolist() == [-1, 2, 0]


def test_the_bounding_box_is_the_smallest_and_a_widened_one_is_cut_off_at_the_first_voxel():
    mask = np.zeros((6, 7, 8), dtype=bool)
    mask[1, 5, 4] = mask[3, 4, 4] = True
    box = bounding_box(mask)
    assert box == (slice(1, 4), slice(4, 6), slice(4, 5))
    assert widened_box(box, (2, 0, 1)) == (slice(0, 6), slice(4, 6), slice(3, 6))


@pytest.mark.parametrize("wrong", ["flat", "not a number"])
def test_a_flat_affine_and_one_that_is_not_finite_are_not_invertible(wrong):
    affine = AFFINE.copy()
    affine[:3, 2] = AFFINE[:3, 1] if wrong == "flat" else np.nan
    assert is_invertible(AFFINE)
    assert not is_invertible(affine)
