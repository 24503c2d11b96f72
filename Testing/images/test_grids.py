from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from SaliencyExplain.geometry import coinciding, same_grid, shear_of, spacing_of, upright_grid
from SaliencyExplain.images.resampling import resample

FLIPS = [(0,), (1,), (2,), (0, 2), (0, 1, 2)]


def flipped(
    values: NDArray, affine: NDArray, axes: tuple[int, ...]
) -> tuple[NDArray, NDArray[np.float64]]:
    turned = affine.copy()
    for axis in axes:
        turned[:3, 3] += turned[:3, axis] * (values.shape[axis] - 1)
        turned[:3, axis] *= -1
    return np.flip(values, axes), turned


def test_spacing_is_that_of_the_voxels_not_of_the_world_axes(affine):
    assert spacing_of(affine, 3) == pytest.approx((0.8, 1.1, 3.0))
    assert spacing_of(affine, 2) == pytest.approx((0.8, 1.1))


@pytest.mark.parametrize("axes", FLIPS)
def test_a_flipped_copy_is_carried_back_without_loss(values, affine, axes):
    copy, turned = flipped(values, affine, axes)
    assert not same_grid(copy.shape, turned, values.shape, affine)
    assert coinciding(turned, affine, values.shape)
    for nearest in (True, False):
        back = resample(copy, turned, affine, values.shape, nearest)
        np.testing.assert_allclose(back, values, atol=1e-2)


def test_a_permuted_copy_coincides_and_a_shifted_or_turned_one_does_not(values, affine):
    swapped = affine[:, [2, 0, 1, 3]]
    assert coinciding(swapped, affine, values.shape)
    back = resample(values.transpose(2, 0, 1), swapped, affine, values.shape, nearest=True)
    np.testing.assert_array_equal(back, values)
    half = affine.copy()
    half[:3, 3] += 0.5 * affine[:3, 0]
    assert not coinciding(half, affine, values.shape)
    whole = affine.copy()
    whole[:3, 3] += 2 * affine[:3, 0]
    assert coinciding(whole, affine, values.shape)
    coarse = affine @ np.diag([2.0, 2.0, 2.0, 1.0])
    assert not coinciding(coarse, affine, values.shape)


def test_grids_are_the_same_within_rounding_and_not_beyond(affine):
    shape = (200, 200, 40)
    assert same_grid(shape, affine, shape, affine.astype(np.float32))
    moved = affine.copy()
    moved[0, 3] += 0.1
    assert not same_grid(shape, affine, shape, moved)
    assert not same_grid(shape, affine, (200, 200, 41), affine)


@pytest.mark.parametrize("nearest", [True, False])
def test_resampling_equals_itk_inside_the_image(affine, nearest):
    values = np.random.default_rng(3).normal(size=(20, 18, 12)).astype(np.float32)
    to_affine = np.diag([1.3, 1.3, 1.7, 1.0])
    to_affine[:3, 3] = affine[:3, :3] @ (5.0, 5.0, 2.0) + affine[:3, 3]
    ours = resample(values, affine, to_affine, (8, 8, 8), nearest, outside=-9)

    def as_itk(array: NDArray, grid: NDArray) -> sitk.Image:
        image = sitk.GetImageFromArray(array.T)
        spacing = np.linalg.norm(grid[:3, :3], axis=0)
        image.SetSpacing(spacing.tolist())
        image.SetOrigin(grid[:3, 3].tolist())
        image.SetDirection((grid[:3, :3] / spacing).ravel().tolist())
        return image

    target = as_itk(np.zeros((8, 8, 8), np.float32), to_affine)
    kind = sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear
    theirs = sitk.GetArrayFromImage(
        sitk.Resample(as_itk(values, affine), target, sitk.Transform(), kind, np.nan)
    ).T
    inside = np.isfinite(theirs)
    assert 0.5 < inside.mean() < 1
    assert (ours[~inside] == -9).all()
    np.testing.assert_allclose(ours[inside], theirs[inside], atol=1e-4)


def test_the_rim_survives_rounding_and_nothing_leaks_beyond_it():
    values = np.ones((4, 4), dtype=bool)
    affine = np.diag([0.1, 0.1, 1.0, 1.0])
    nudged = affine.copy()
    nudged[0, 3] -= 1e-12
    kept = resample(values, affine, nudged, (6, 4), nearest=True)
    assert kept.dtype == bool
    assert kept.sum(axis=0).tolist() == [4, 4, 4, 4]


def test_an_upright_grid_holds_every_voxel_and_keeps_the_planes(affine):
    sheared = affine.copy()
    sheared[:3, 2] += 0.6 * affine[:3, 1]
    shape, upright = upright_grid((7, 9, 5), sheared)
    assert shear_of(sheared) > 0.1
    assert shear_of(upright) < 1e-9
    assert shape[0] == 7
    assert shape[2] == 5
    assert shape[1] > 9
    values = np.zeros((7, 9, 5), dtype=np.float32)
    values[3, 4, 2] = 8.0
    moved = resample(values, sheared, upright, shape, nearest=False)
    assert moved.sum() == pytest.approx(8.0, rel=1e-3)
    weights = moved / moved.sum()
    centre = [float((weights * index).sum()) for index in np.indices(shape)]
    np.testing.assert_allclose(
        upright[:3, :3] @ centre + upright[:3, 3], sheared[:3] @ (3, 4, 2, 1), atol=1e-3
    )


def test_a_right_angled_grid_is_its_own_upright_grid(affine):
    shape, upright = upright_grid((7, 9, 5), affine)
    assert shape == (7, 9, 5)
    np.testing.assert_allclose(upright, affine, atol=1e-9)
