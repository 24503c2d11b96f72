"""Accuracy and softmax information curves, held against PAIR's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import integrate, ndimage
from torch import nn

from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.evaluation.image import information_curves
from SaliencyExplain.evaluation.image.removal_curves import SHARES, CurveMaker

SIZE = (40, 36)


class Rough(nn.Module):
    """Class 1 is the likelier the more neighbouring pixels in a corner differ."""

    def forward(self, images):
        score = (images[:, 0, 5:18, 6:20].diff(dim=1).abs().mean(dim=(1, 2)) - 9.0) / 4
        return torch.stack([-score, score], dim=1)


def picture() -> np.ndarray:
    """Grey values (*S), uint8, from 0 to 255, bright in the corner."""
    random = np.random.default_rng(4)
    values = ndimage.gaussian_filter(random.standard_normal(SIZE), 1.0)
    values[5:18, 6:20] += 1.2
    values = (values - values.min()) / np.ptp(values)
    return np.rint(values * 255).astype(np.uint8)


def saliency_map() -> np.ndarray:
    random = np.random.default_rng(9)
    values = ndimage.gaussian_filter(random.standard_normal(SIZE), 3.0)
    values[5:18, 6:20] += 0.1
    return values.astype(np.float32)


@pytest.fixture
def pic():
    return pytest.importorskip("saliency.metrics.pic")


@pytest.fixture
def pair_s_trapz(monkeypatch):
    """NumPy 2.4 has no trapz any more, which PAIR calls."""
    if not hasattr(np, "trapz"):
        monkeypatch.setattr(np, "trapz", integrate.trapezoid, raising=False)


def test_the_interpolated_picture_and_its_size_are_pairs(pic):
    grey = picture()
    known = saliency_map() > 0.08
    theirs = pic.create_blurred_image(grey, known)
    ours = information_curves.interpolated(grey[None], known)[0]
    np.testing.assert_array_equal(ours, theirs)
    assert information_curves.compressed_size(ours[None]) == pic.estimate_image_entropy(theirs)
    colours = np.stack([grey, grey[::-1], grey[:, ::-1]])
    assert information_curves.compressed_size(colours) == pic.estimate_image_entropy(
        np.ascontiguousarray(np.moveaxis(colours, 0, -1))
    )


def test_leaving_out_inner_pixels_changes_few_and_little(pic):
    grey = picture()[None]
    known = saliency_map() > 0.0
    whole = information_curves.interpolated(grey, known)
    rims = information_curves.interpolated(grey, known, rims_only=True)
    assert np.array_equal(whole[0][known], rims[0][known])
    assert (whole != rims).mean() < 0.03
    sizes = [information_curves.compressed_size(one) for one in (whole, rims)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.02)


@pytest.mark.usefixtures("pair_s_trapz")
@pytest.mark.parametrize("kind", ["softmax", "accuracy"])
def test_the_curves_equal_pairs(pic, task, black, kind):
    grey, values = picture(), saliency_map()
    network = ScoreNetwork(Rough()).eval()
    made = task(network, torch.from_numpy(grey.astype(np.float32))[None, None])
    seed = 3

    def predicted(pictures):
        with torch.no_grad():
            scores = network(torch.from_numpy(pictures.astype(np.float32))[:, None])
        shares = network.probabilities(scores.double()).numpy()
        return shares[:, 1] if kind == "softmax" else (shares.argmax(1) == 1).astype(float)

    theirs = pic.compute_pic_metric(
        grey, values, information_curves.kept_pixels(SIZE, seed), predicted, list(SHARES),
        min_pred_value=0.0,
    )  # fmt: skip
    maker = CurveMaker(made, black(made), seed=seed)
    maker.prepare()
    curves = maker.curves(values)
    ours = getattr(curves, f"{kind}_information")["compressed"]
    assert 0.1 < theirs.auc < 0.999
    assert ours.area == pytest.approx(theirs.auc, abs=1e-9)
    across, up = information_curves.on_even_steps(ours)
    np.testing.assert_allclose(across, theirs.curve_x, atol=1e-12)
    np.testing.assert_allclose(up, theirs.curve_y, atol=1e-9)


def test_a_curve_is_undefined_where_pair_refuses():
    steps = np.array([2.0, 3.0])
    no_worse = information_curves.information_curve(steps, steps / 4, bare=(1, 0.9), whole=(4, 0.9))
    assert np.isnan(no_worse.area)
    assert "not lower" in no_worse.remark
    no_less = information_curves.information_curve(steps, steps / 4, bare=(4, 0.1), whole=(4, 0.9))
    assert "as much information" in no_less.remark


def test_a_curve_that_rises_at_once_has_all_of_the_area_and_a_late_one_none():
    at_once = information_curves.information_curve(
        np.array([0.01, 5.0]), np.array([1.0, 1.0]), bare=(0, 0), whole=(10, 1)
    )
    late = information_curves.information_curve(
        np.array([5.0, 9.99]), np.array([0.0, 0.0]), bare=(0, 0), whole=(10, 1)
    )
    assert at_once.area > 0.99
    assert late.area < 0.01


def test_histogram_entropy_of_known_distributions():
    everywhere = np.ones((4, 4), bool)
    halves = np.repeat(np.array([[0], [200]], np.uint8), 8, axis=0).reshape(1, 4, 4)
    assert information_curves.histogram_entropy(halves, everywhere) == pytest.approx(1.0)
    each = np.arange(16, dtype=np.uint8).reshape(1, 4, 4)
    assert information_curves.histogram_entropy(each, everywhere) == pytest.approx(4.0)
    assert information_curves.histogram_entropy(each, ~everywhere) == 0.0


def test_a_volume_of_noise_compresses_worse_than_a_smooth_one():
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (1, 20, 20, 20)).astype(np.uint8)
    ramp = np.broadcast_to(np.arange(20, dtype=np.uint8) * 9, (1, 20, 20, 20))
    assert information_curves.compressed_size(noise) > 7000
    assert information_curves.compressed_size(np.ascontiguousarray(ramp)) < 300


def test_grey_levels_give_back_what_they_were_made_of():
    grey = picture()[None]
    image = (grey * 0.37 - 12).astype(np.float32)
    levels = information_curves.GreyLevels(image)
    np.testing.assert_array_equal(levels.of(image), grey)
    np.testing.assert_allclose(levels.values(grey), image, atol=1e-4)
    constant = information_curves.GreyLevels(np.full((1, 3, 3), 7.0, np.float32))
    np.testing.assert_array_equal(constant.values(np.zeros((1, 3, 3), np.uint8)), 7.0)
