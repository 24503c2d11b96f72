"""The paired test is the permutation test that it says it is, and its interval is its own."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from SaliencyExplain.comparison.sign_flip import EXACT_CASES, PairedDifference
from SaliencyExplain.errors import ErrorCode
from Testing.expected_errors import error_with


@pytest.mark.parametrize("cases", [4, 7, 9])
def test_the_p_value_is_that_of_all_sign_flips(cases):
    values = np.random.default_rng(cases).normal(0.3, 1, cases)
    expected = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    assert PairedDifference.of(values).p_value == pytest.approx(expected.pvalue)


def test_with_more_cases_it_is_students():
    values = np.random.default_rng(0).normal(0.3, 1, EXACT_CASES + 6)
    found, expected = PairedDifference.of(values), stats.ttest_1samp(values, 0)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.interval(0.9) == pytest.approx(tuple(expected.confidence_interval(0.9)))


@pytest.mark.parametrize("level", [0.95, 0.99])
def test_zero_is_outside_of_the_interval_exactly_where_the_test_rejects_it(level):
    random = np.random.default_rng(1)
    outside = 0
    for _ in range(300):
        cases = int(random.integers(2, 20))
        values = random.normal(random.choice([0, 0.8]), 1, cases)
        if random.random() < 0.5:
            values = values.round(1) * random.integers(0, 2, cases)  # ties and zeros
        found = PairedDifference.of(values)
        low, high = found.interval(level)
        rejected = found.p_value <= round(1 - level, 12)
        assert (low > 0 or high < 0) == rejected, values
        outside += rejected
    assert outside > 20


@pytest.mark.parametrize("shift", [-0.4, 0.25])
def test_the_interval_holds_the_shifts_that_the_test_does_not_reject(shift):
    values = np.random.default_rng(3).gamma(2, 1, 9) - 2
    low, high = PairedDifference.of(values).interval(0.95)
    for value in (low + 1e-6, high - 1e-6, values.mean()):
        assert PairedDifference.of(values - value).p_value > 0.05
    for value in (low - 1e-6, high + 1e-6):
        assert PairedDifference.of(values - value).p_value <= 0.05
    moved = PairedDifference.of(values + shift).interval(0.95)
    assert moved == pytest.approx((low + shift, high + shift))


@pytest.mark.parametrize("cases", [6, 10, EXACT_CASES, 24])
def test_in_95_of_100_studies_the_interval_holds_the_true_mean(cases):
    random = np.random.default_rng(cases)
    held = 0
    for _ in range(800):
        low, high = PairedDifference.of(0.2 + random.laplace(size=cases)).interval(0.95)
        held += low <= 0.2 <= high
    # Three standard errors of 800 studies below 95 %.
    assert held / 800 > 0.927


def test_too_few_cases_for_a_level_have_no_interval():
    found = PairedDifference.of([0.3] * 5)
    assert found.p_value == 2 / 32
    assert all(map(math.isnan, found.interval(0.95)))
    assert found.interval(0.9) == pytest.approx((0.3, 0.3))
    single = PairedDifference.of([0.3])
    assert math.isnan(single.p_value)
    assert all(map(math.isnan, single.interval(0.5)))
    assert math.isnan(PairedDifference.of([]).mean)


@pytest.mark.parametrize("cases", [12, 30])
def test_equal_differences_are_as_sure_as_their_number_allows(cases):
    found = PairedDifference.of([-0.3] * cases)
    assert (found.mean, found.p_value) == (-0.3, 2.0 ** (1 - cases))
    assert found.interval(0.99) == pytest.approx((-0.3, -0.3))
    none = PairedDifference.of([0.1 + 0.2 - 0.3] * cases)
    assert (none.mean, none.p_value, none.interval(0.95)) == (0, 1, (0, 0))


def test_undefined_differences_are_dropped_and_counted_and_a_level_is_one():
    found = PairedDifference.of([0.1, math.nan, 0.3])
    assert (found.cases, found.dropped) == (2, 1)
    with error_with(ErrorCode.VALUE_RANGE, "1.5") as error:
        found.interval(1.5)
    assert error.value.code is ErrorCode.VALUE_RANGE
