"""What the energy in a segment goes with: correlations that are known."""

from __future__ import annotations

import math
import shutil

import numpy as np
import pytest
from scipy import stats

from SaliencyExplain.evaluation.study.biomarkers import RankCorrelation, biomarker_table
from SaliencyExplain.evaluation.study.finished_study import read_study
from SaliencyExplain.records.agreement_row import Row
from Testing.study.evaluation.conftest import SHAPE, agreement, noise


def study_of(make_study, energies, chances, probabilities):
    maps = {f"P{n}": {"gradcam": noise(n)} for n in range(len(energies))}
    rows = [
        Row(f"P{n}", "gradcam", "tumour", "core", agreement(0.9, energy, chance))
        for n, (energy, chance) in enumerate(zip(energies, chances, strict=True))
    ]
    given = {f"P{n}": value for n, value in enumerate(probabilities)}
    return read_study(make_study(maps, rows=rows, probabilities=given)).cases


@pytest.mark.slow
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


def test_the_coefficient_is_scipys_and_the_interval_that_of_bonett_and_wright():
    random = np.random.default_rng(0)
    first = random.normal(size=30)
    second = first + random.normal(size=30)
    found = RankCorrelation.of(first, second)
    expected = stats.spearmanr(first, second)
    assert found.coefficient == pytest.approx(expected.statistic)
    low, high = found.interval(0.95)
    error = math.sqrt((1 + found.coefficient**2 / 2) / 27)
    assert math.atanh(high) - math.atanh(low) == pytest.approx(2 * 1.959964 * error)
    assert 0.1 < low < found.coefficient < high < 1


@pytest.mark.parametrize("cases", [5, 6, 9, 20])
def test_of_unrelated_metrics_one_study_in_twenty_is_rejected_and_its_interval_says_so(cases):
    rejected = 0
    for seed in range(600):
        first, second = np.random.default_rng([seed, cases]).normal(size=(2, cases))
        found = RankCorrelation.of(first, second)
        low, high = found.interval(0.95)
        assert (low > 0 or high < 0) == (found.p_value <= 0.05)
        rejected += found.p_value <= 0.05
    assert rejected / 600 <= 0.065


@pytest.mark.parametrize("correlation", [0.4, 0.8])
def test_the_interval_holds_the_true_correlation(correlation):
    random = np.random.default_rng(1)
    # Spearman's coefficient of a bivariate normal distribution.
    true = 6 / math.pi * math.asin(correlation / 2)
    held = 0
    for _ in range(600):
        first, own = random.normal(size=(2, 18))
        second = correlation * first + math.sqrt(1 - correlation**2) * own
        low, high = RankCorrelation.of(first, second).interval(0.95)
        held += low <= true <= high
    assert held / 600 > 0.92


def test_a_perfect_order_of_few_cases_is_no_surer_than_its_chance():
    found = RankCorrelation.of(np.arange(5.0), np.arange(5.0))
    assert found.p_value == pytest.approx(2 / 120)
    assert all(map(math.isnan, found.interval(0.99)))


def test_many_unrelated_correlations_are_corrected_together(make_study):
    wrong = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        rows, maps = [], {}
        for n in range(9):
            maps[f"P{n}"] = {"gradcam": noise(0, (4, 4, 4))}
            for method in ("a", "b", "c", "random"):
                for segment in ("core", "rim"):
                    own = agreement(0.9, random.random(), random.uniform(0.01, 0.1))
                    rows.append(Row(f"P{n}", method, "tumour", segment, own))
        given = {name: random.random() for name in maps}
        study = read_study(make_study(maps, rows=rows, probabilities=given))
        table = biomarker_table(study.cases)
        wrong += any(one.p_holm <= 0.05 for one in table)
        assert all(math.isnan(one.p_holm) for one in table if one.method == "random")
        shutil.rmtree(study.folder)
    assert wrong <= 5


def test_undefined_energies_are_left_out_and_too_few_cases_say_nothing(make_study):
    energies = [0.1, 0.2, 0.3, 0.4, math.nan]
    cases = study_of(make_study, energies, [0.01, 0.02, 0.03, 0.04, 0.05], [0.8] * 5)
    size, _ = biomarker_table(cases)
    assert size.cases == 4
    assert math.isnan(size.coefficient)
    none = RankCorrelation.of(np.ones(9), np.arange(9.0))
    assert math.isnan(none.coefficient)
    assert math.isnan(none.p_value)
    assert all(map(math.isnan, none.interval(0.95)))
