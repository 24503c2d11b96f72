"""Shuffles and the correction by them: what chance gathers, and how often it alarms."""

from __future__ import annotations

import numpy as np
import pytest

from SaliencyExplain.evaluation.study.shuffles import Shuffles, corrected_p_values, p_value


def null(seed, tests, shuffles=199, shared=0.0):
    """Skewed values of tests in which nothing is, with what they have in common."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(tests, shuffles + 1))
    values = np.sqrt(1 - shared) * values + np.sqrt(shared) * random.normal(size=shuffles + 1)
    values = np.exp(values / 3) * np.linspace(0.1, 40, tests)[:, None]
    return values[:, 0].tolist(), list(values[:, 1:])


@pytest.mark.parametrize("shared", [0.0, 0.9])
def test_where_nothing_is_one_study_in_twenty_has_any_alarm(shared):
    alarms = [
        min(corrected_p_values(*null(seed, 25, shared=shared))) <= 0.05 for seed in range(600)
    ]
    assert 0.02 < np.mean(alarms) < 0.085


def test_each_corrected_p_value_is_at_least_its_own_and_keeps_the_order_of_strength():
    found, chance = null(3, 12)
    found[4] *= 30
    corrected = corrected_p_values(found, chance)
    own = [p_value(one, row) for one, row in zip(found, chance, strict=True)]
    assert all(more >= one for more, one in zip(corrected, own, strict=True))
    assert corrected[4] == pytest.approx(1 / 200)
    assert max(corrected) <= 1


def test_tests_that_agree_wholly_cost_nothing():
    (found,), (chance,) = null(5, 1)
    assert corrected_p_values([found] * 9, [chance] * 9) == [p_value(found, chance)] * 9


def test_a_map_that_is_the_same_everywhere_is_no_more_than_chance():
    cases = [f"P{n}" for n in range(7)]
    maps = np.full((7, 20, 20), 0.1, dtype=np.float32)
    chance = Shuffles(cases, axes=2, cells=20, seed=0).largest(cases, maps)
    found = float(maps.mean(axis=0, dtype=np.float64).max())
    assert p_value(found, chance) == 1
    assert corrected_p_values([found], [chance]) == [1]
    assert corrected_p_values([], []) == []


def test_a_shuffle_shifts_round_the_ends_and_turns_over_each_axis_by_itself():
    map_ = np.random.default_rng(0).random((1, 5, 5), dtype=np.float32)
    shuffles = Shuffles(["P0", "P1"], axes=2, cells=5, seed=1, count=4000)
    both = np.stack([map_[0], np.zeros((5, 5), np.float32)])
    assert shuffles.largest(["P0"], map_) == pytest.approx(map_.max())
    both[1, 2, 3] = 1
    # The two maxima meet in one shuffle of 25, and elsewhere the larger sum is another.
    least = (map_.max() + 1) / 2
    meet = shuffles.largest(["P0", "P1"], both) >= least * (1 - 1e-6)
    assert meet.mean() == pytest.approx(1 / 25, abs=0.015)


def test_the_maps_of_a_case_move_alike_whichever_test_they_are_in():
    maps = np.random.default_rng(0).random((3, 20, 20), dtype=np.float32)
    shuffles = Shuffles(["P0", "P1", "P2"], axes=2, cells=20, seed=0)
    one = shuffles.largest(["P0", "P1", "P2"], maps)
    other = shuffles.largest(["P2", "P0", "P1"], maps[[2, 0, 1]])
    assert one == pytest.approx(other, rel=1e-6)
