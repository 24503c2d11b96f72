"""Agreement has known values on maps and segments whose answer is known."""

from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance
from numpy.testing import assert_allclose
from scipy import ndimage
from scipy.spatial.distance import cdist
from sklearn.metrics import average_precision_score, roc_auc_score

from SaliencyExplain.comparison.agreement import agreement
from SaliencyExplain.comparison.ranking import Ranking
from SaliencyExplain.errors import ErrorCode
from SaliencyExplain.records.agreement_row import Agreement
from Testing.expected_errors import error_with

DISTANCES = ("hausdorff95_mm", "mean_surface_distance_mm")


def rotation(about_z: float, about_x: float) -> np.ndarray:
    c, s = math.cos(about_z), math.sin(about_z)
    around_z = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    c, s = math.cos(about_x), math.sin(about_x)
    return around_z @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def oblique_affine(spacing: tuple[float, float, float]) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = rotation(0.4, -0.3) @ np.diag(spacing)
    affine[:3, 3] = (-80.0, 33.0, 1200.0)
    return affine


def ball(
    shape: tuple[int, ...], spacing: tuple[float, ...], centre: tuple[int, ...], radius: float
):
    grid = np.indices(shape).reshape(len(shape), -1).T
    apart = np.linalg.norm((grid - np.array(centre)) * np.array(spacing), axis=1)
    return (apart <= radius).reshape(shape)


@pytest.fixture
def segment() -> np.ndarray:
    return ball((24, 20, 16), (1, 1, 1), (9, 11, 7), 4.2)


@pytest.mark.slow
def test_map_that_is_the_segment_agrees_perfectly(segment):
    found = agreement(segment.astype(np.float32), segment, np.eye(4))
    assert found.energy_inside == 1
    assert found.energy_chance == segment.mean()
    perfect = (
        "pointing", "pointing_tolerance", "auroc", "average_precision",
        "rank_accuracy", "dice_equal_volume", "iou_equal_volume", "dice_best",
    )  # fmt: skip
    assert [getattr(found, name) for name in perfect] == [1] * len(perfect)
    assert found.hausdorff95_mm == found.mean_surface_distance_mm == 0
    assert found.centre_distance_mm == pytest.approx(0, abs=1e-9)


def test_map_that_is_all_but_the_segment_disagrees_perfectly(segment):
    found = agreement((~segment).astype(np.float32), segment, np.eye(4))
    assert found.energy_inside == found.pointing == found.auroc == found.rank_accuracy == 0
    assert found.dice_equal_volume == found.iou_equal_volume == found.dice_best == 0


def test_random_map_gives_the_chance_levels():
    segment = ball((64, 64, 64), (1, 1, 1), (20, 40, 30), 14)
    share = segment.mean()
    values = np.random.default_rng(3).random(segment.shape, dtype=np.float32)
    found = agreement(values, segment, np.eye(4))
    assert found.auroc == pytest.approx(0.5, abs=0.01)
    assert found.energy_inside == pytest.approx(share, rel=0.05)
    assert found.average_precision == pytest.approx(share, rel=0.05)
    assert found.rank_accuracy == pytest.approx(share, rel=0.15)
    assert found.dice_equal_volume == found.rank_accuracy
    assert found.iou_equal_volume == pytest.approx(share / (2 - share), rel=0.15)
    assert found.dice_best == pytest.approx(2 * share / (1 + share), rel=0.02)


def test_ties_give_the_expectation_of_a_random_choice(segment):
    """Three levels only: the metrics equal the mean over many random orders of the ties."""
    draws = np.random.default_rng(0)
    values = draws.integers(0, 3, segment.shape).astype(np.float32) + segment
    count = int(segment.sum())
    hits = []
    for _ in range(400):
        order = np.lexsort((draws.random(values.size), values.ravel()))
        hits.append(segment.ravel()[order[-count:]].sum() / count)
    found = agreement(values, segment, np.eye(4))
    assert found.rank_accuracy == pytest.approx(np.mean(hits), abs=0.005)
    tied = values == values.max()
    assert found.pointing == (tied & segment).sum() / tied.sum()


@pytest.mark.parametrize("levels", [7, 10_000_000])
@pytest.mark.parametrize("shape", [(31, 23), (13, 17, 11)])
def test_ranks_equal_scikit_learn(shape, levels):
    draws = np.random.default_rng(1)
    mask = draws.random(shape) < 0.2
    values = (np.round(draws.standard_normal(shape) * levels) / levels + 0.5 * mask).astype(
        np.float32
    )
    found = agreement(values, mask, np.eye(4))
    assert_allclose(found.auroc, roc_auc_score(mask.ravel(), values.ravel()), rtol=1e-12)
    expected = average_precision_score(mask.ravel(), values.ravel())
    assert_allclose(found.average_precision, expected, rtol=1e-12)


def test_best_dice_is_the_best_of_all_thresholds():
    draws = np.random.default_rng(5)
    mask = draws.random((12, 11)) < 0.3
    values = np.round(draws.standard_normal(mask.shape) + mask, 1)
    tried = []
    for threshold in np.unique(values[values > 0]):
        chosen = values >= threshold
        tried.append(2 * (chosen & mask).sum() / (chosen.sum() + mask.sum()))
    assert agreement(values, mask, np.eye(4)).dice_best == pytest.approx(max(tried), rel=1e-12)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 1.3, 4.0)])
def test_surface_distances_equal_monai(spacing):
    draws = np.random.default_rng(2)
    shape = (30, 26, 14)
    mask = ball(shape, spacing, (4, 12, 6), 7.5)  # touches the volume's border
    values = ndimage.gaussian_filter(draws.standard_normal(shape), 2).astype(np.float32)
    values += 0.05 * mask
    chosen = values >= np.sort(values, axis=None)[-mask.sum()]
    pair = [torch.from_numpy(voxels)[None, None] for voxels in (chosen, mask)]
    found = agreement(values, mask, oblique_affine(spacing))
    hausdorff = compute_hausdorff_distance(
        *pair, include_background=True, percentile=95, spacing=spacing
    )
    surface = compute_average_surface_distance(
        *pair, include_background=True, symmetric=True, spacing=spacing
    )
    assert_allclose(found.hausdorff95_mm, float(hausdorff), rtol=1e-5)
    assert_allclose(found.mean_surface_distance_mm, float(surface), rtol=1e-5)


def test_surface_distances_equal_monai_in_two_dimensions():
    mask = ball((40, 30), (0.5, 2.0), (20, 12), 8)
    values = ball((40, 30), (0.5, 2.0), (26, 16), 8).astype(np.float32)
    pair = [torch.from_numpy(voxels)[None, None] for voxels in (values > 0, mask)]
    found = agreement(values, mask, np.diag([-0.5, -2.0, 1, 1]))
    expected = compute_hausdorff_distance(
        *pair, include_background=True, percentile=95, spacing=(0.5, 2.0)
    )
    assert_allclose(found.hausdorff95_mm, float(expected), rtol=1e-5)


def test_surface_distances_count_both_directions():
    """A stray part of the map is far from the segment, though all of the segment is near."""
    mask = np.zeros((40, 10, 10), dtype=bool)
    mask[2:8, 2:8, 2:8] = True
    stray = np.roll(mask, 1, axis=0)
    stray[7:9, 2:8, 2:8] = False
    stray[30:32, 2:8, 2:8] = True
    affine = np.diag([2.0, 1.0, 1.0, 1.0])
    there = agreement(stray.astype(np.float32), mask, affine)
    back = agreement(mask.astype(np.float32), stray, affine)
    assert there.hausdorff95_mm == back.hausdorff95_mm > 40
    assert there.mean_surface_distance_mm == pytest.approx(back.mean_surface_distance_mm)


def test_voxels_of_equal_value_stay_together_for_the_distances():
    """Of 2 or 6 voxels, both two away from the 4 of the segment, it is the 2 that are taken."""
    values = np.array([[9.0, 9, 5, 5, 5, 5, 1, 0, -1, -1]])
    ranking = Ranking.of(values, np.sort(values, axis=None), values >= 5)
    levels = {count: ranking.nearest_level(count) for count in (1, 2, 3, 4, 5, 7, 9)}
    assert levels == {1: 9, 2: 9, 3: 9, 4: 9, 5: 5, 7: 1, 9: 1}


def test_shifted_ball_on_an_oblique_anisotropic_grid_is_the_shift_away():
    spacing = (0.8, 1.2, 3.0)
    shape = (60, 50, 24)
    mask = ball(shape, spacing, (25, 22, 10), 9)
    shift = (5, 0, 3)
    values = np.roll(mask, shift, axis=(0, 1, 2)).astype(np.float32)
    shift_mm = math.dist((0, 0, 0), np.array(shift) * spacing)
    found = agreement(values, mask, oblique_affine(spacing))
    assert found.centre_distance_mm == pytest.approx(shift_mm, rel=1e-9)
    # The foremost point of a shifted ball is the whole shift away, the rest is nearer.
    assert 0.8 * shift_mm < found.hausdorff95_mm <= shift_mm + 1e-9
    assert 0 < found.mean_surface_distance_mm < found.hausdorff95_mm
    assert found.energy_inside == pytest.approx((values * mask).sum() / values.sum(), rel=1e-6)


def test_distances_hold_on_a_sheared_grid():
    """Two slabs, ``i = 3`` and ``i = 9``: what separates them depends on the shear."""
    mask, other = np.zeros((2, 14, 9, 8), dtype=bool)
    mask[3], other[9] = True, True
    affine = np.eye(4)
    affine[:3, 0] = (2.0, 1.0, 0.0)
    found = agreement(other.astype(np.float32), mask, affine)
    points = [np.argwhere(voxels) @ affine[:3, :3].T for voxels in (mask, other)]
    apart = cdist(*points)
    nearest = [apart.min(axis=0), apart.min(axis=1)]
    expected = max(np.percentile(distances, 95) for distances in nearest)
    assert found.hausdorff95_mm == pytest.approx(expected, rel=1e-9)
    assert found.mean_surface_distance_mm == pytest.approx(np.concatenate(nearest).mean(), rel=1e-9)
    assert found.centre_distance_mm == pytest.approx(6 * math.sqrt(5), rel=1e-9)


@pytest.mark.parametrize(
    ("step", "tolerance_mm", "hit"),
    [((3, 0, 0), 1.5, 1.0), ((4, 0, 0), 1.5, 0.0), ((0, 0, 1), 2.9, 0.0), ((0, 0, 1), 3.0, 1.0)],
)
def test_pointing_tolerance_is_in_millimetres(step, tolerance_mm, hit):
    mask = np.zeros((20, 20, 12), dtype=bool)
    mask[5:8, 5:8, 5:8] = True
    values = np.zeros(mask.shape, dtype=np.float32)
    values[tuple(np.array((7, 7, 7)) + step)] = 2.0
    found = agreement(values, mask, oblique_affine((0.5, 1.0, 3.0)), tolerance_mm=tolerance_mm)
    assert (found.pointing, found.pointing_tolerance) == (0.0, hit)


def test_flipping_image_and_segment_changes_nothing():
    draws = np.random.default_rng(8)
    mask = ball((22, 18, 12), (1, 1, 2), (8, 9, 6), 5)
    smooth = ndimage.gaussian_filter(draws.standard_normal(mask.shape), 2)
    values = np.round(smooth * 20).astype(np.float32)  # many ties
    straight = agreement(values, mask, np.diag([1, 1, 2, 1.0]))
    turned = agreement(
        values.transpose(2, 0, 1)[::-1, :, ::-1],
        mask.transpose(2, 0, 1)[::-1, :, ::-1],
        np.diag([2, 1, 1, 1.0]),
    )
    assert_allclose(list(asdict(straight).values()), list(asdict(turned).values()), rtol=1e-6)


def test_only_the_positive_part_is_energy(segment):
    values = np.where(segment, 2.0, -5.0)
    values[0, 0, 0] = segment.sum() * 2.0
    found = agreement(values, segment, np.eye(4))
    assert found.energy_inside == pytest.approx(0.5)


def test_share_of_the_body_is_a_second_chance_level(segment):
    body = ball(segment.shape, (1, 1, 1), (10, 10, 8), 7)
    found = agreement(segment.astype(np.float32), segment, np.eye(4), body=body)
    assert found.energy_chance_body == (body & segment).sum() / body.sum()
    assert math.isnan(agreement(segment * 1.0, segment, np.eye(4)).energy_chance_body)


def test_segment_without_a_voxel_leaves_all_but_chance_undefined():
    values = np.random.default_rng(0).random((6, 5, 4))
    found = asdict(agreement(values, np.zeros((6, 5, 4), dtype=bool), np.eye(4)))
    assert found.pop("energy_chance") == 0
    assert all(math.isnan(value) for value in found.values())


def test_segment_everywhere_has_no_auroc_and_is_always_hit():
    values = np.random.default_rng(0).random((6, 5, 4))
    found = agreement(values, np.ones((6, 5, 4), dtype=bool), np.eye(4))
    assert math.isnan(found.auroc)
    assert found.energy_inside == found.energy_chance == found.pointing == 1
    assert found.average_precision == found.rank_accuracy == found.dice_equal_volume == 1
    assert found.hausdorff95_mm == 0


def test_constant_map_scores_as_chance(segment):
    found = agreement(np.full(segment.shape, 0.7, np.float32), segment, np.eye(4), tolerance_mm=0)
    share = segment.mean()
    assert found.auroc == 0.5
    at_chance = (
        found.energy_inside, found.pointing, found.pointing_tolerance,
        found.average_precision, found.rank_accuracy, found.dice_equal_volume,
    )  # fmt: skip
    assert_allclose(at_chance, share, rtol=1e-6)
    assert found.dice_best == pytest.approx(2 * share / (1 + share))
    assert math.isnan(found.hausdorff95_mm)


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_map_without_a_positive_voxel_points_nowhere(segment, offset):
    values = -(~segment).astype(np.float32) - np.float32(offset)
    found = agreement(values, segment, np.eye(4))
    assert found.pointing == found.pointing_tolerance == 0
    assert found.dice_equal_volume == found.iou_equal_volume == found.dice_best == 0
    undefined = (found.energy_inside, found.centre_distance_mm, found.hausdorff95_mm)
    assert all(math.isnan(value) for value in undefined)
    assert found.auroc == found.average_precision == found.rank_accuracy == 1


def test_zero_map_ranks_nothing(segment):
    found = agreement(np.zeros(segment.shape, np.float32), segment, np.eye(4))
    assert found.auroc == 0.5
    assert_allclose((found.average_precision, found.rank_accuracy), segment.mean(), rtol=1e-12)
    assert found.pointing == 0
    assert math.isnan(found.energy_inside)


def test_few_positive_voxels_are_compared_as_they_are(segment):
    """Zeros are no evidence: they do not fill the volume up."""
    values = np.zeros(segment.shape, np.float32)
    inside = tuple(np.argwhere(segment)[:5].T)
    values[inside] = 1
    count = int(segment.sum())
    found = agreement(values, segment, np.eye(4))
    assert found.dice_equal_volume == pytest.approx(2 * 5 / (5 + count))
    assert found.iou_equal_volume == pytest.approx(5 / count)
    assert found.rank_accuracy > found.dice_equal_volume / 2  # the rest at chance level


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_map_with_a_voxel_that_is_not_finite_is_refused(segment, bad):
    values = np.ones(segment.shape)
    values[1, 2, 3] = bad
    with error_with(ErrorCode.MAP_NOT_FINITE, "1 voxel"):
        agreement(values, segment, np.eye(4))


def test_map_and_segment_of_other_shapes_are_refused(segment):
    with error_with(ErrorCode.GRID_MISMATCH, "5×5×5", "24×20×16"):
        agreement(np.ones((5, 5, 5)), segment, np.eye(4))
    with error_with(ErrorCode.GRID_MISMATCH, "body", "2×2×2"):
        agreement(np.ones(segment.shape), segment, np.eye(4), body=np.ones((2, 2, 2), dtype=bool))


def test_metrics_are_plain_floats(segment):
    found = agreement(segment.astype(np.float32), segment, np.eye(4), body=segment)
    assert {type(value) for value in asdict(found).values()} == {float}
    assert isinstance(found, Agreement)


def test_real_tumour_blurred_ranks_far_above_the_control_maps(shared_data):
    import nibabel

    from SaliencyExplain.attribution.methods.control_maps import centre_map, random_map
    from SaliencyExplain.geometry import spacing_of

    folder = shared_data / "soft-tissue-sarcoma-nifti" / "STS_002"
    volume = nibabel.load(folder / "CT_mask.nii.gz")
    mask = np.asarray(volume.dataobj) > 0
    blurred = ndimage.gaussian_filter(mask.astype(np.float32), (6, 6, 2))
    spacing = spacing_of(volume.affine, 3)
    maps = {
        "blurred": blurred,
        "random": random_map(mask.shape, spacing, seed=4),
        "centre": centre_map(mask.shape, spacing),
    }
    found = {name: agreement(values, mask, volume.affine) for name, values in maps.items()}
    assert found["blurred"].auroc > 0.99 > found["random"].auroc + 0.2
    assert found["blurred"].dice_equal_volume > found["centre"].dice_equal_volume
    assert found["blurred"].centre_distance_mm < 1 < found["random"].centre_distance_mm
