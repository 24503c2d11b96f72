"""Confidence intervals cover the mean and say what went into them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from SaliencyExplain.comparison.bootstrap import confidence_interval
from SaliencyExplain.errors import InputError


def test_interval_of_many_cases_is_that_of_the_normal_distribution():
    values = np.random.default_rng(0).normal(0.4, 0.1, 400)
    found = confidence_interval(values, resamples=4000)
    half_width = 1.96 * values.std() / math.sqrt(values.size)
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half_width, abs=0.1 * half_width)
    assert found.high == pytest.approx(values.mean() + half_width, abs=0.1 * half_width)


def test_ninety_five_of_a_hundred_intervals_hold_the_true_mean():
    draws = np.random.default_rng(1)
    held = 0
    for _ in range(300):
        found = confidence_interval(draws.beta(2, 5, 40), resamples=400)
        held += found.low <= 2 / 7 <= found.high
    assert 0.90 <= held / 300 <= 0.98


def test_wider_level_gives_wider_interval():
    values = np.random.default_rng(2).random(30)
    narrow, wide = (confidence_interval(values, level=level) for level in (0.8, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_undefined_values_are_dropped_and_counted():
    with_gaps = confidence_interval([0.1, math.nan, 0.4, 0.3, math.nan])
    without = confidence_interval([0.1, 0.4, 0.3])
    assert (with_gaps.count, with_gaps.dropped) == (3, 2)
    assert (with_gaps.mean, with_gaps.low, with_gaps.high) == (
        without.mean,
        without.low,
        without.high,
    )


def test_same_seed_gives_the_same_interval():
    values = np.random.default_rng(3).random(25)
    assert confidence_interval(values, seed=4) == confidence_interval(values, seed=4)
    assert confidence_interval(values, seed=4) != confidence_interval(values, seed=5)


def test_equal_values_have_an_interval_without_width():
    found = confidence_interval([0.1] * 7)
    assert (found.mean, found.low, found.high, found.count) == (0.1, 0.1, 0.1, 7)


def test_one_case_has_a_mean_but_no_interval():
    found = confidence_interval([0.3])
    assert found.mean == 0.3
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_no_case_has_nothing():
    found = confidence_interval([math.nan])
    assert math.isnan(found.mean)
    assert (found.count, found.dropped) == (0, 1)


def test_interval_stays_within_the_values():
    found = confidence_interval([0.0, 0.0, 0.0, 1.0])
    assert 0 <= found.low <= found.high <= 1


@pytest.mark.parametrize("wrong", [{"level": 95}, {"level": 0}, {"resamples": 0}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(InputError):
        confidence_interval([0.1, 0.2], **wrong)
