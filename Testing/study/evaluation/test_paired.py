"""Methods held against each other: differences that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from SaliencyExplain.comparison.table import Row
from SaliencyExplain.study.evaluation.figures import FigureValues, figure_values
from SaliencyExplain.study.evaluation.finished import read_study
from SaliencyExplain.study.evaluation.paired import compare_methods, holm
from Testing.study.evaluation.conftest import agreement, faithfulness, noise


def values(less_is_better=False, **methods):
    by_case = {
        name: {f"P{number}": value for number, value in enumerate(own)}
        for name, own in methods.items()
    }
    return FigureValues("auroc", "tumour", less_is_better, by_case)


def test_holm_equals_the_correction_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.04: times 4, 3, 2, 1 is 0.04, 0.06, 0.06, 0.04; never falling.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.6]) == pytest.approx([1.0, 1.0])


def test_what_was_not_tested_counts_to_no_number_of_tests():
    corrected = holm([0.01, math.nan, 0.02])
    assert corrected[0] == pytest.approx(0.02)
    assert math.isnan(corrected[1])
    assert holm([]) == []


def test_a_method_that_is_better_by_a_known_amount_is_found_so():
    random = np.random.default_rng(0)
    base = random.uniform(0.4, 0.6, 20)
    found = compare_methods(
        [values(good=base + 0.2 + random.normal(0, 0.02, 20), poor=base, other=base[::-1])]
    )
    pair = next(one for one in found if {one.first, one.second} == {"good", "poor"})
    assert pair.difference == pytest.approx(0.2, abs=0.02)
    assert pair.low < 0.2 < pair.high
    assert pair.high - pair.low < 0.05
    assert pair.better == "good"
    assert pair.cases == 20
    same = next(one for one in found if {one.first, one.second} == {"poor", "other"})
    assert same.better == ""
    assert same.p_holm > 0.05


def test_the_p_value_is_wilcoxons_and_the_correction_is_over_all_pairs_of_the_figure():
    random = np.random.default_rng(1)
    one, two, three = random.random((3, 12))
    found = compare_methods([values(one=one, two=two, three=three)])
    raw = [float(stats.wilcoxon(a - b).pvalue) for a, b in ((one, two), (one, three), (two, three))]
    assert [pair.p_value for pair in found] == pytest.approx(raw)
    assert [pair.p_holm for pair in found] == pytest.approx(holm(raw))


def test_where_less_is_better_the_smaller_one_is_better():
    near, far = np.linspace(1, 2, 12), np.linspace(5, 7, 12)
    (pair,) = compare_methods([values(less_is_better=True, near=near, far=far)])
    assert pair.better == "near"


def test_equal_methods_are_no_different_and_undefined_cases_are_left_out():
    same = [0.5, 0.6, math.nan, 0.7]
    (pair,) = compare_methods([values(one=same, two=[0.5, 0.6, 0.9, 0.7])])
    assert (pair.difference, pair.p_value, pair.cases, pair.better) == (0, 1, 3, "")


def test_one_common_case_gives_a_difference_and_no_test():
    (pair,) = compare_methods([values(one=[0.9], two=[0.4])])
    assert pair.difference == pytest.approx(0.5)
    assert math.isnan(pair.p_value)
    assert math.isnan(pair.low)
    assert pair.better == ""


def test_the_figures_of_comparison_and_trials_are_read_by_case_with_the_yardsticks(make_study):
    maps = {name: {"gradcam": noise(0)} for name in ("P1", "P2")}
    rows = [
        Row(case, method, "tumour", "tumour", agreement(auroc))
        for case in maps
        for method, auroc in (("gradcam", 0.9), ("random", 0.5), ("centre", math.nan))
    ]
    study = read_study(
        make_study(maps, rows=rows, trials={"P1": {"gradcam": faithfulness(0.7, [0.1, 0.3])}})
    )
    found = {(one.figure, one.segment): one for one in figure_values(study.cases)}
    auroc = found["auroc", "tumour"].values
    assert auroc["gradcam"] == {"P1": 0.9, "P2": 0.9}
    assert math.isnan(auroc["centre"]["P1"])
    sic = found["sic_compressed", ""].values
    assert sic["gradcam"] == {"P1": 0.7}
    assert sic["random"]["P1"] == pytest.approx(0.2)
    assert sic["centre"] == {"P1": 0.3}
    assert found["hausdorff95_mm", "tumour"].less_is_better


def test_which_way_a_trials_figure_is_better_is_what_the_trial_says(make_study):
    tried = faithfulness(0.7, [0.2, 0.3])
    tried["figures"].append({**tried["figures"][0], "name": "loss", "higher_is_better": False})
    study = make_study({"P0": {"gradcam": noise(0)}}, trials={"P0": {"gradcam": tried}})
    found = {one.figure: one.less_is_better for one in figure_values(read_study(study).cases)}
    assert found == {"sic_compressed": False, "loss": True}
