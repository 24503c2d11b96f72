"""What the energy in a segment goes with: correlations that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from SaliencyExplain.comparison.table import Row
from SaliencyExplain.study.evaluation.biomarkers import biomarker_table, rank_correlation
from SaliencyExplain.study.evaluation.finished import read_study
from Testing.study.evaluation.conftest import SHAPE, agreement, noise


def study_of(make_study, energies, chances, probabilities):
    maps = {f"P{n}": {"gradcam": noise(n)} for n in range(len(energies))}
    rows = [
        Row(f"P{n}", "gradcam", "tumour", "core", agreement(0.9, energy, chance))
        for n, (energy, chance) in enumerate(zip(energies, chances, strict=True))
    ]
    given = {f"P{n}": value for n, value in enumerate(probabilities)}
    return read_study(make_study(maps, rows=rows, probabilities=given)).cases


def test_energy_that_rises_with_the_size_and_falls_with_the_probability(make_study):
    order = np.arange(12) / 20
    cases = study_of(make_study, order + 0.1, order / 10 + 0.01, 0.95 - order / 2)
    size, probability = biomarker_table(cases)
    assert (size.method, size.segment, size.quantity) == ("gradcam", "core", "size")
    assert size.coefficient == pytest.approx(1)
    assert size.low == pytest.approx(1)
    assert size.p_value < 1e-6
    assert probability.coefficient == pytest.approx(-1)
    assert probability.cases == 12


def test_the_size_is_the_segments_volume_in_ml(make_study):
    cases = study_of(make_study, [0.1] * 5, [0.02] * 5, [0.8] * 5)
    millilitres = 0.02 * np.prod(SHAPE) * 3 * 3 * 4 / 1000
    assert 0.02 * np.prod(SHAPE) * cases[0].voxel_size == pytest.approx(millilitres)


def test_the_coefficient_is_scipys_and_the_interval_holds_it():
    random = np.random.default_rng(0)
    first = random.normal(size=30)
    second = first + random.normal(size=30)
    coefficient, low, high, p_value = rank_correlation(first, second)
    expected = stats.spearmanr(first, second)
    assert (coefficient, p_value) == pytest.approx((expected.statistic, expected.pvalue))
    assert low < coefficient < high
    assert 0.1 < low < high < 1


def test_the_interval_holds_zero_in_most_studies_of_unrelated_figures():
    held = 0
    for seed in range(100):
        first, second = np.random.default_rng(seed).normal(size=(2, 20))
        _, low, high, _ = rank_correlation(first, second, resamples=400)
        held += low <= 0 <= high
    assert 85 <= held <= 100


def test_undefined_energies_are_left_out_and_too_few_cases_say_nothing(make_study):
    energies = [0.1, 0.2, 0.3, 0.4, math.nan]
    cases = study_of(make_study, energies, [0.01, 0.02, 0.03, 0.04, 0.05], [0.8] * 5)
    size, _ = biomarker_table(cases)
    assert size.cases == 4
    assert math.isnan(size.coefficient)
    assert all(map(math.isnan, rank_correlation(np.ones(9), np.arange(9.0))))
