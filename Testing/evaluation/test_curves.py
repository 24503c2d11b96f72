"""Deletion and insertion curves of networks whose answers are known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import integrate

from SaliencyExplain.errors import ErrorCode
from SaliencyExplain.evaluation.image import removal_curves as curves_module
from SaliencyExplain.evaluation.image.null_distribution import compared_with_null
from SaliencyExplain.evaluation.image.removal_baselines import choose_baseline
from SaliencyExplain.evaluation.image.removal_curves import SHARES, CurveMaker
from SaliencyExplain.evaluation.image.removal_order import voxel_places, voxels_of_share
from Testing.expected_errors import error_with

SHAPES = [(9, 8, 7), (16, 14)]


def share_of(voxels, of):
    """The share at which a mask holds exactly so many voxels."""
    share = 1 - (of - voxels - 0.5) / (of - 1)
    assert voxels_of_share(share, of) == voxels
    return share


def prepared(task, black, linear, shape, seed=0):
    """A linear network, its curve maker, and the contribution of each voxel."""
    random = torch.Generator().manual_seed(seed)
    weights = torch.randn((1, *shape), generator=random)
    image = torch.rand((1, 1, *shape), generator=random) + 0.1
    made = task(linear(weights), image)
    maker = CurveMaker(made, black(made))
    maker.prepare()
    return maker, (weights[0] * image[0, 0]).numpy()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_linear_networks_curves_are_sums_of_its_strongest_contributions(
    task, black, linear, shape
):
    maker, contribution = prepared(task, black, linear, shape)
    curves = maker.curves(contribution)
    ordered = np.sort(contribution.ravel().astype(np.float64))[::-1]
    total = ordered.sum()
    taken = (
        [0.0]
        + [ordered[: voxels_of_share(share, ordered.size)].sum() for share in SHARES]
        + [total]
    )
    assert curves.shares == (0.0, *SHARES, 1.0)
    np.testing.assert_allclose(curves.insertion, taken, atol=1e-3)
    np.testing.assert_allclose(curves.deletion, total - np.array(taken), atol=1e-3)
    assert curves.mean_drop == pytest.approx(np.mean(taken), abs=1e-3)
    assert curves.deletion_area == pytest.approx(
        integrate.trapezoid(total - np.array(taken), curves.shares), abs=1e-3
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_the_perfect_map_beats_all_others_and_the_inverted_one_loses_to_all(
    task, black, linear, shape
):
    maker, contribution = prepared(task, black, linear, shape)
    perfect, inverted = maker.curves(contribution), maker.curves(-contribution)
    random = np.random.default_rng(1)
    others = [maker.curves(random.permuted(contribution)) for _ in range(5)]
    for other in others:
        assert perfect.deletion_area < other.deletion_area < inverted.deletion_area
        assert perfect.insertion_area > other.insertion_area > inverted.insertion_area
        assert perfect.mean_drop > other.mean_drop > inverted.mean_drop


def test_deleting_the_weakest_first_is_inserting_the_strongest(task, black, linear, monkeypatch):
    shape = (10, 10, 10)
    random = torch.Generator().manual_seed(3)
    made = task(linear(torch.randn((1, *shape), generator=random)), torch.rand(1, 1, *shape))
    monkeypatch.setattr(curves_module, "SHARES", (0.25, 0.5, 0.75))
    maker = CurveMaker(made, black(made))
    maker.prepare()
    values = np.random.default_rng(0).random(shape).astype(np.float32)
    straight, inverted = maker.curves(values), maker.curves(-values)
    # 1,000 voxels: a share and its complement differ by the one voxel that both hold.
    np.testing.assert_allclose(straight.insertion[1:-1], inverted.deletion[-2:0:-1], atol=2.0)
    worth = np.abs(np.array(straight.insertion[1:-1]) - np.array(inverted.deletion[-2:0:-1]))
    assert worth.max() < 4 * float(made.network.network.weights.detach().abs().max())


def test_a_constant_map_and_one_that_is_not_finite_have_no_curves(task, black, linear):
    maker, contribution = prepared(task, black, linear, (6, 6, 6))
    with error_with(ErrorCode.MAP_CONSTANT, "0.25"):
        maker.curves(np.full_like(contribution, 0.25))
    broken = contribution.copy()
    broken[0, 0, 0] = np.nan
    with error_with(ErrorCode.MAP_NOT_FINITE):
        maker.curves(broken)


def test_masks_hold_their_share_where_half_of_the_map_is_zero():
    values = np.zeros((20, 10), np.float32)
    values[:2] = 1.0
    places = voxel_places(values, np.random.default_rng(0).random((20, 10)))
    assert sorted(places.ravel()) == list(range(200))
    assert set(places[:2].ravel()) == set(range(20))
    assert (places < voxels_of_share(0.5, 200)).sum() == 100


@pytest.mark.parametrize("share", [0.001, 0.01, 0.05, 0.33, 0.5, 0.999])
def test_a_share_is_what_lies_at_or_above_the_quantile(share):
    values = np.random.default_rng(0).random(1234)
    expected = np.count_nonzero(values >= np.quantile(values, 1 - share))
    assert voxels_of_share(share, values.size) == expected


def test_the_baseline_is_the_least_blurred_image_that_has_lost_the_class(task, linear):
    shape = (30, 30, 30)
    image = torch.zeros(1, 1, *shape)
    image[..., 15, 15, 15] = 1.0
    weights = torch.zeros(1, *shape)
    weights[0, 15, 15, 15] = 1.0
    found = choose_baseline(task(linear(weights), image))
    assert found.words == "the image blurred with 10 mm"
    assert found.original[1] == pytest.approx(1.0)
    assert found.probabilities[1] < 0.01
    # A class that the mean brightness alone decides is lost by no blur, nor by the mean.
    found = choose_baseline(task(linear(torch.full((1, *shape), 1 / 27000)), image + 1))
    assert found.probabilities[1] == pytest.approx(found.original[1], rel=1e-3)


def test_chance_counts_what_is_beaten_and_how_likely_that_is():
    assert compared_with_null(0.9, [0.1] * 20, True) == (1.0, pytest.approx(1 / 21))
    assert compared_with_null(0.9, [0.1] * 20, False) == (0.0, 1.0)
    beaten, p_value = compared_with_null(0.5, [0.1, 0.5, 0.9, float("nan")], True)
    assert beaten == pytest.approx(0.5)
    assert p_value == pytest.approx(3 / 4)
    assert np.isnan(compared_with_null(float("nan"), [0.1], True)).all()


def test_pixel_flipping_equals_quantus(task, black, linear, monkeypatch):
    quantus = pytest.importorskip("quantus", exc_type=ImportError)
    shape = (8, 8)
    random = torch.Generator().manual_seed(5)
    network = linear(torch.randn((1, *shape), generator=random))
    image = torch.rand((1, 1, *shape), generator=random) + 0.5
    values = np.random.default_rng(2).random(shape).astype(np.float32)
    steps = 8
    theirs = quantus.PixelFlipping(
        features_in_step=steps, normalise=False, perturb_baseline=0.0, disable_warnings=True
    )(
        model=network, x_batch=image.numpy(), y_batch=np.array([1]),
        a_batch=values[None, None], softmax=False, device="cpu",
    )[0]  # fmt: skip
    made = task(network, image)
    shares = tuple(share_of(steps * step, values.size) for step in range(1, 8))
    monkeypatch.setattr(curves_module, "SHARES", shares)
    maker = CurveMaker(made, black(made))
    maker.prepare()
    curves = maker.curves(values)
    np.testing.assert_allclose(curves.deletion[1:], theirs, atol=1e-4)
    # Region perturbation tells drops; in equal steps their mean is the AOPC.
    drops = curves.deletion[0] - np.array(theirs)
    assert curves.mean_drop == pytest.approx(np.append(drops, 0.0).mean(), abs=1e-4)


def test_the_mean_drop_in_equal_steps_is_the_aopc_of_quantus_region_perturbation(
    task, black, linear, monkeypatch
):
    quantus = pytest.importorskip("quantus", exc_type=ImportError)
    shape = (6, 6)
    random = torch.Generator().manual_seed(6)
    network = linear(torch.randn((1, *shape), generator=random))
    image = torch.rand((1, 1, *shape), generator=random) + 0.5
    values = np.random.default_rng(3).random(shape).astype(np.float32)
    theirs = quantus.RegionPerturbation(
        patch_size=1, regions_evaluation=36, normalise=False, perturb_baseline=0.0,
        disable_warnings=True,
    )(
        model=network, x_batch=image.numpy(), y_batch=np.array([1]),
        a_batch=values[None, None], softmax=False, device="cpu",
    )[0]  # fmt: skip
    made = task(network, image)
    shares = tuple(share_of(step, values.size) for step in range(1, 36))
    monkeypatch.setattr(curves_module, "SHARES", shares)
    maker = CurveMaker(made, black(made))
    maker.prepare()
    curves = maker.curves(values)
    np.testing.assert_allclose(
        curves.deletion[0] - np.array(curves.deletion[1:]), theirs, atol=1e-4
    )
    assert curves.mean_drop == pytest.approx(np.append(theirs, 0.0).mean(), abs=1e-4)
