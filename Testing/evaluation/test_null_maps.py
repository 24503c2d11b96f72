"""Null maps: the map's own values and smoothness, elsewhere; control maps."""

from __future__ import annotations

import numpy as np
import pytest

from SaliencyExplain.attribution.methods.control_maps import random_map
from SaliencyExplain.evaluation.image.image_controls import MOST_CONTROLS, control_maps
from SaliencyExplain.evaluation.image.null_distribution import ranked_share
from SaliencyExplain.evaluation.image.null_maps import NullMaps


def ball(shape):
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, size) for size in shape], indexing="ij"))
    return (grid**2).sum(axis=0) < 0.7


def roughness(values, body):
    """How much neighbours in the body differ, as a share of the values' own variance."""
    pairs = body[1:] & body[:-1]
    return float(np.mean((values[1:] - values[:-1])[pairs] ** 2) / values[body].var())


@pytest.mark.parametrize("shape", [(60, 50), (28, 30, 26)])
@pytest.mark.parametrize("width", [10.0, 30.0])
def test_null_maps_have_the_maps_values_and_smoothness_on_each_side_of_the_body(shape, width):
    body = ball(shape)
    values = random_map(shape, (2.0,) * len(shape), seed=3, correlation_mm=width)
    for copy in NullMaps(body.astype(float), body, seed=1).of(values, 6):
        for region in (body, ~body):
            np.testing.assert_array_equal(np.sort(copy[region]), np.sort(values[region]))
        assert roughness(copy, body) < 2.5 * roughness(values, body) + 0.02
        assert abs(np.corrcoef(copy[body], values[body])[0, 1]) < 0.75


def test_null_maps_of_a_mask_do_not_lie_on_it_and_the_same_seed_gives_the_same():
    shape = (60, 50)
    body = ball(shape)
    mask = np.zeros(shape, np.float32)
    mask[24:32, 30:38] = 1
    made = NullMaps(body.astype(float), body, seed=5)
    copies = made.of(mask, 20)
    assert all(copy.sum() == mask.sum() for copy in copies)
    assert max(float(copy[mask > 0].mean()) for copy in copies) <= 0.2
    assert len({copy.tobytes() for copy in copies}) == 20
    for first, second in zip(copies, made.of(mask, 5), strict=False):
        np.testing.assert_array_equal(first, second)


def test_a_map_of_the_body_is_its_own_null_map():
    body = ball((40, 40))
    for copy in NullMaps(np.zeros((40, 40)), body).of(body.astype(float), 3):
        np.testing.assert_array_equal(copy, body)


def test_without_a_body_the_brighter_part_is_taken():
    body = ball((40, 40))
    image = np.where(body, 1.0, 0.0) + np.random.default_rng(0).normal(scale=0.05, size=body.shape)
    assert (NullMaps(image, None).body == body).mean() > 0.99


def test_the_control_maps_show_the_image_and_are_at_most_as_many_as_are_counted():
    image = np.random.default_rng(0).random((2, 30, 26))
    found = control_maps(image, ball((30, 26)), (1.0, 2.0))
    assert len(found) == MOST_CONTROLS
    assert np.corrcoef(found["the image"].ravel(), image.mean(axis=0).ravel())[0, 1] > 0.99
    assert all(np.ptp(values) > 0 for values in found.values())
    assert "the body" not in control_maps(image, np.ones((30, 26), bool), (1.0, 2.0))


def test_a_map_ranks_what_lies_before_its_plateau():
    values = np.zeros(1000)
    values[:30] = 1
    assert ranked_share(values) == pytest.approx(0.03)
    assert ranked_share(np.arange(1000.0)) == 1
    assert ranked_share(-values) == 1
