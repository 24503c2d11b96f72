"""Methods held against each other: differences that are known."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from SaliencyExplain.evaluation.study.corrections import holm
from SaliencyExplain.evaluation.study.finished_study import read_study
from SaliencyExplain.evaluation.study.pair_words import pair_sentences
from SaliencyExplain.evaluation.study.paired_comparison import compare_methods
from SaliencyExplain.evaluation.study.study_metrics import MetricValues, metric_values
from SaliencyExplain.records.agreement_row import Row
from SaliencyExplain.studies.difference_words import signed
from Testing.study.evaluation.conftest import agreement, faithfulness, noise


def values(less_is_better=False, **methods):
    by_case = {
        name: {f"P{number}": value for number, value in enumerate(own)}
        for name, own in methods.items()
    }
    return MetricValues("auroc", "tumour", less_is_better, by_case)


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


def test_p_is_of_the_paired_test_and_the_correction_is_over_all_pairs_of_the_figure():
    random = np.random.default_rng(1)
    one, two, three = random.random((3, 9))
    found = compare_methods([values(one=one, two=two, three=three)])
    raw = [
        stats.permutation_test(
            (a - b,), np.mean, permutation_type="samples", n_resamples=np.inf
        ).pvalue
        for a, b in ((one, two), (one, three), (two, three))
    ]
    assert [pair.p_value for pair in found] == pytest.approx(raw)
    assert [pair.p_holm for pair in found] == pytest.approx(holm(raw))


def test_the_control_maps_are_not_compared_with_each_other():
    found = compare_methods([values(a=[0.9] * 9, random=[0.5] * 9, centre=[0.6] * 9)])
    assert [(one.first, one.second) for one in found] == [("a", "random"), ("a", "centre")]


def table_of_nothing(seed, methods=5, cases=12):
    """Methods that are alike: metrics of hard and easy cases, skewed, some of them equal."""
    random = np.random.default_rng(seed)
    ease = random.beta(5, 2, cases)
    found = np.clip(ease + random.gamma(2, 0.05, (methods, cases)), 0, 1)
    return {f"m{number}": own for number, own in enumerate(found)}


@pytest.mark.parametrize("cases", [8, 12, 20])
def test_among_methods_that_are_alike_one_table_in_twenty_has_any_difference(cases):
    wrong = 0
    for seed in range(300):
        found = compare_methods([values(**table_of_nothing(seed, cases=cases))])
        wrong += any(one.p_holm <= 0.05 for one in found)
    # Two standard errors of 300 tables above 5 %.
    assert wrong / 300 <= 0.075


def test_the_intervals_of_a_table_hold_together_in_19_of_20():
    held = 0
    for seed in range(300):
        table = table_of_nothing(seed)
        for number, own in enumerate(table.values()):
            own += 0.1 * number  # some of the pairs differ much, and Holm rejects them
        found = compare_methods([values(**table)])
        held += all(
            one.low <= 0.1 * (int(one.first[1:]) - int(one.second[1:])) <= one.high for one in found
        )
    assert held / 300 >= 0.925


def test_an_interval_excludes_zero_exactly_where_the_corrected_p_value_is_small():
    excluded = 0
    for seed in range(120):
        table = table_of_nothing(seed, methods=4, cases=6 + seed % 12)
        table["m0"] = table["m0"] + 0.04 * (seed % 4)
        for one in compare_methods([values(**table)]):
            outside = one.low > 0 or one.high < 0
            assert outside == (one.p_holm <= 0.05), one
            assert one.p_holm < 1 or not outside
            excluded += outside
    assert excluded > 30


def test_holm_rejects_what_bonferroni_would_not_and_the_interval_ends_beside_zero():
    order = np.arange(12) / 1000
    # Both differences are sure; of the second, Bonferroni's interval would hold zero.
    found = compare_methods(
        [values(a=order + 0.3, random=order, b=[*(order[:10] + 0.1), *(order[10:] - 0.05)])]
    )
    for one in found:
        assert (one.low > 0 or one.high < 0) == (one.p_holm <= 0.05)


def lost(by, cases=12):
    centre = np.linspace(0.7, 0.9, cases)
    wobble = np.random.default_rng(0).normal(0, 0.01, (2, cases))
    return values(a=centre - by + wobble[0], b=centre - by + wobble[1], centre=centre)


def test_methods_that_only_lose_are_said_to_lose_by_how_much():
    pairs = compare_methods([lost(0.3)])
    against = [one for one in pairs if one.second == "centre"]
    assert all(one.p_holm <= 0.05 and one.better == "centre" for one in against)
    said = " ".join(pair_sentences(pairs, {"a": "Grad-CAM", "centre": "centre-weighted map"}))
    assert "the AUROC of Grad-CAM is lower than that of the centre-weighted map by 0." in said
    assert "the AUROC of b is lower" in said
    assert "higher than" not in said
    interval = re.search(r"by 0\.\d+ \[(0\.\d+), (0\.\d+)\] \(p = 0\.00\d+, 12 cases\)", said)
    assert float(interval[1]) < 0.3 < float(interval[2])


def test_a_sure_difference_that_is_of_no_interest_is_not_called_higher():
    base = np.linspace(0.5, 0.9, 12)
    (pair,) = compare_methods([values(a=base - 0.0002, b=base)])
    assert pair.p_holm <= 0.05
    assert (pair.answer, pair.better) == ("equal", "")
    said = " ".join(pair_sentences([pair], {}))
    assert "of 1 pair of methods by the AUROC: 1 with no difference over 0.05." in said
    (chosen,) = compare_methods([values(a=base - 0.0002, b=base)], smallest={"auroc": 0.0001})
    assert chosen.answer == "lower"


def test_equal_and_unknown_are_told_apart_and_few_cases_are_said():
    random = np.random.default_rng(4)
    base = random.random(12)
    same, wild = base + random.normal(0, 0.01, 12), base + random.normal(0, 0.4, 12)
    found = compare_methods([values(a=base, b=same, c=wild)])
    assert [one.answer for one in found] == ["equal", "open", "open"]
    few = compare_methods([values(a=[0.9] * 4, b=[0.1] * 4, random=[0.5] * 4)])
    assert {one.answer for one in few} == {"untested"}
    assert pair_sentences(few, {}) == [
        "On “tumour”, 4 cases are too few to compare the AUROC of 2 methods and 1 control map."
    ]


def test_a_difference_that_rounds_to_nothing_has_no_sign():
    assert [signed(value) for value in (-0.0001, 0.0, 0.0004, -0.0006)] == [
        "0.000", "0.000", "0.000", "-0.001",
    ]  # fmt: skip


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


def test_the_metrics_of_comparison_and_evaluation_are_read_by_case_with_the_control_maps(
    make_study,
):
    maps = {name: {"gradcam": noise(0)} for name in ("P1", "P2")}
    rows = [
        Row(case, method, "tumour", "tumour", agreement(auroc))
        for case in maps
        for method, auroc in (("gradcam", 0.9), ("random", 0.5), ("centre", math.nan))
    ]
    study = read_study(
        make_study(maps, rows=rows, evaluations={"P1": {"gradcam": faithfulness(0.7, [0.1, 0.3])}})
    )
    found = {(one.metric, one.segment): one for one in metric_values(study.cases)}
    auroc = found["auroc", "tumour"].values
    assert auroc["gradcam"] == {"P1": 0.9, "P2": 0.9}
    assert math.isnan(auroc["centre"]["P1"])
    sic = found["sic_compressed", ""].values
    assert sic["gradcam"] == {"P1": 0.7}
    assert sic["random"]["P1"] == pytest.approx(0.2)
    assert sic["centre"] == {"P1": 0.3}
    assert found["hausdorff95_mm", "tumour"].less_is_better


def test_which_way_a_metric_is_better_is_what_the_evaluation_says(make_study):
    evaluated = faithfulness(0.7, [0.2, 0.3])
    loss = replace(evaluated.metrics[0], name="loss", higher_is_better=False)
    evaluated = replace(evaluated, metrics=(*evaluated.metrics, loss))
    study = make_study({"P0": {"gradcam": noise(0)}}, evaluations={"P0": {"gradcam": evaluated}})
    found = {one.metric: one.less_is_better for one in metric_values(read_study(study).cases)}
    assert found == {"sic_compressed": False, "loss": True}
