"""The distribution of random maps is that of single maps drawn one by one."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from SaliencyExplain.attribution.methods.control_maps import random_map
from SaliencyExplain.comparison.agreement import agreement
from SaliencyExplain.comparison.random_control import RandomControl

SPACING = (1.0, 1.0, 2.0)
AFFINE = np.diag([*SPACING, 1.0])
SHAPE = (40, 36, 16)


def ball(centre, radius_mm, shape=SHAPE):
    axes = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    offsets = [(a - c) * s for a, c, s in zip(axes, centre, SPACING, strict=True)]
    return sum(o**2 for o in offsets) <= radius_mm**2


@pytest.fixture(scope="module")
def drawn():
    segment = ball((12, 15, 6), 7)
    control = RandomControl(np.ones(SHAPE, bool), AFFINE, seed=3, image_sha256="ab").of(segment)
    single = [agreement(random_map(SHAPE, SPACING, seed=s), segment, AFFINE) for s in range(120)]
    return segment, control, single


def column(single, metric):
    return np.array([getattr(one, metric) for one in single])


@pytest.mark.parametrize(
    "metric",
    [
        *("energy_inside", "auroc", "average_precision", "rank_accuracy", "dice_equal_volume"),
        *("iou_equal_volume", "dice_best", "hausdorff95_mm", "mean_surface_distance_mm"),
        "centre_distance_mm",
    ],
)
def test_mean_and_range_are_those_of_maps_drawn_one_by_one(drawn, metric):
    _, control, single = drawn
    values = column(single, metric)
    # 2.5 % of 120 maps drawn one by one are three; up to nine are a matter of luck.
    assert (values < getattr(control.low, metric)).sum() <= 9
    assert (values > getattr(control.high, metric)).sum() <= 9
    width = np.quantile(values, 0.975) - np.quantile(values, 0.025)
    ends = getattr(control.high, metric) - getattr(control.low, metric)
    assert 0.6 < ends / width < 1.9
    assert getattr(control.mean, metric) == pytest.approx(values.mean(), abs=0.15 * width)
    assert getattr(control.low, metric) <= getattr(control.mean, metric)
    assert getattr(control.mean, metric) < getattr(control.high, metric)


def test_what_has_a_closed_form_is_exact(drawn):
    segment, control, single = drawn
    share = segment.mean()
    mean = control.mean
    assert mean.auroc == 0.5
    assert mean.energy_inside == mean.pointing == mean.rank_accuracy == share
    assert mean.dice_equal_volume == mean.energy_chance == share
    places = np.argwhere(np.ones(SHAPE)) * SPACING
    inside = np.argwhere(segment) * SPACING
    near = sum(np.linalg.norm(inside - one, axis=1).min() <= 5 for one in places[::7])
    assert mean.pointing_tolerance == pytest.approx(near / len(places[::7]), rel=0.06)
    assert column(single, "pointing_tolerance").mean() == pytest.approx(
        mean.pointing_tolerance, abs=0.09
    )


def test_a_large_segment_is_ranked_more_narrowly_than_a_small_one():
    control = RandomControl(np.ones(SHAPE, bool), AFFINE)
    small, large = (control.of(ball((20, 18, 8), radius)) for radius in (4, 14))
    assert small.high.auroc - small.low.auroc > 1.3 * (large.high.auroc - large.low.auroc)


@pytest.mark.slow
def test_draws_belong_to_the_image_and_the_seed():
    segment = ball((12, 15, 6), 7)

    def low(**settings):
        return RandomControl(np.ones(SHAPE, bool), AFFINE, **settings).of(segment).low

    assert low(seed=1, image_sha256="ab") == low(seed=1, image_sha256="ab")
    assert low(seed=1, image_sha256="ab") != low(seed=1, image_sha256="cd")
    assert low(seed=1, image_sha256="ab") != low(seed=2, image_sha256="ab")


@pytest.mark.slow
def test_edges_of_the_definition():
    control = RandomControl(np.ones(SHAPE, bool), AFFINE)
    empty = control.of(np.zeros(SHAPE, bool))
    assert np.isnan(empty.mean.auroc)
    assert empty.mean.energy_chance == 0
    whole = control.of(np.ones(SHAPE, bool))
    assert np.isnan(whole.mean.auroc)
    assert whole.mean.rank_accuracy == whole.low.rank_accuracy == 1
    one = np.zeros(SHAPE, bool)
    one[3, 4, 5] = True
    metrics = dataclasses.asdict(control.of(one).high)
    assert all(np.isfinite(v) for name, v in metrics.items() if name != "energy_chance_body")
    body = ball((20, 18, 8), 14)
    assert control.of(one, body=body).mean.energy_chance_body == 0
    flat = RandomControl(np.ones((50, 40), bool), np.eye(4)).of(np.eye(50, 40, dtype=bool))
    assert flat.low.auroc < 0.5 < flat.high.auroc


def test_where_the_network_sees_a_part_chance_is_that_of_the_part():
    segment = ball((12, 15, 6), 7)
    seen = np.zeros(SHAPE, bool)
    seen[:20, 5:30] = True
    part = (slice(0, 20), slice(5, 30))
    within = RandomControl(seen, AFFINE).of(segment)
    alone = RandomControl(np.ones(SHAPE, bool)[part], AFFINE).of(segment[part])
    assert (within.low.auroc, within.high.auroc) == (alone.low.auroc, alone.high.auroc)
    assert within.mean.energy_inside == segment[part].sum() / seen.sum()
