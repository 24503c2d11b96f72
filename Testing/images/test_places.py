"""Balls and segments as voxels of a grid."""

from __future__ import annotations

import numpy as np
import pytest

from SaliencyExplain.images.grid_masks import ball, carried_shares, label_map_on

SHEARED = np.array([[1.0, 0.4, 0, 0], [0, 2, 0.3, 0], [0, 0, 3, 0], [0, 0, 0, 1]])


@pytest.mark.parametrize("centre", [(4.0, 5.0, 3.0), (0.2, 8.4, 0.0), (9.4, -0.4, 6.3)])
@pytest.mark.parametrize("radius", [0.5, 3.0, 7.7, 100.0])
def test_a_ball_holds_the_voxels_within_its_radius_in_millimetres(centre, radius):
    shape = (10, 9, 7)
    first, place = ball(np.array(centre), radius, SHEARED, shape)
    whole = np.zeros(shape, dtype=bool)
    whole[tuple(slice(n, n + m) for n, m in zip(first, place.shape, strict=True))] = place
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    distance = np.linalg.norm((index - centre) @ SHEARED[:3, :3].T, axis=-1)
    expected = distance <= radius
    expected[tuple(np.clip(np.floor(np.add(centre, 0.5)), 0, np.array(shape) - 1).astype(int))] = 1
    np.testing.assert_array_equal(whole, expected)


def filled(mask, affine, to_affine, shape):
    first, shares = carried_shares(mask, affine, to_affine, shape)
    whole = np.zeros(shape)
    whole[tuple(slice(n, n + m) for n, m in zip(first, shares.shape, strict=True))] = shares
    return whole


@pytest.mark.parametrize("flipped", [False, True])
def test_a_coarse_voxel_is_filled_by_its_share_of_fine_ones(flipped):
    mask = np.random.default_rng(0).random((12, 8, 8)) < 0.3
    coarse = np.diag([3.0, 2.0, 4.0, 1.0])
    coarse[:3, 3] = 1.0, 0.5, 1.5  # each coarse voxel holds 3 x 2 x 4 fine ones
    expected = mask.reshape(4, 3, 4, 2, 2, 4).mean(axis=(1, 3, 5))
    if flipped:
        coarse[0, 0], coarse[0, 3] = -3.0, 10.0
        expected = expected[::-1]
    found = filled(mask, np.eye(4), coarse, (4, 4, 2))
    np.testing.assert_allclose(found, expected)


def test_a_fine_voxel_belongs_to_the_coarse_one_that_it_lies_in():
    mask = np.array([[True, False], [False, True]])
    fine = np.diag([0.5, 0.5, 1.0, 1.0])
    fine[:2, 3] = -0.25
    found = filled(mask, np.eye(4), fine, (4, 4))
    np.testing.assert_array_equal(found, np.kron(mask, np.ones((2, 2))))


def test_a_segment_beyond_the_grid_fills_nothing():
    mask = np.zeros((9, 9, 9), dtype=bool)
    mask[7:] = True
    _, shares = carried_shares(mask, np.eye(4), np.eye(4), (4, 9, 9))
    assert not shares.any()


def test_of_overlapping_masks_the_last_one_has_the_voxel_and_those_beyond_have_none():
    low, high, beyond = (np.zeros((8, 6, 4), dtype=bool) for _ in range(3))
    low[:4], high[2:6], beyond[7:] = True, True, True
    # Half as many voxels along each axis, and two of the fine layers cut off.
    coarse = np.diag([2.0, 2.0, 2.0, 1.0])
    coarse[:3, 3] = 0.5
    found = label_map_on([low, high, beyond], np.eye(4), coarse, (3, 3, 2))
    np.testing.assert_array_equal(found[:, 0, 0], [1, 2, 2])
    assert (found == found[:, :1, :1]).all()


def test_a_mask_finer_than_the_grid_keeps_the_voxel_that_it_fills_most():
    mask = np.zeros((9, 9), dtype=bool)
    mask[4, 4] = True
    coarse = np.diag([3.0, 3.0, 1.0, 1.0])
    coarse[:2, 3] = 1.0
    found = label_map_on([mask], np.eye(4), coarse, (3, 3))
    np.testing.assert_array_equal(np.argwhere(found == 1), [[1, 1]])
