"""Evaluations taken together: means, medians and chance by hand."""

from __future__ import annotations

import math

import pytest

from SaliencyExplain.evaluation.study.finished_study import read_study
from SaliencyExplain.evaluation.study.study_curves import mean_curves, study_metrics_table
from Testing.study.evaluation.conftest import faithfulness, noise


@pytest.fixture
def cases(make_study):
    maps = {f"P{n}": {"gradcam": noise(n), "lime": noise(n)} for n in range(4)}
    lime = faithfulness(0.3, [0.2, 0.4], 0.5)
    evaluations = {
        "P0": {"gradcam": faithfulness(0.8, [0.2, 0.4]), "lime": lime},
        "P1": {"gradcam": faithfulness(0.6, [0.4, 0.6], 0.2)},
        "P2": {"gradcam": faithfulness(None, [0.1, 0.1], 0.04)},
    }  # fmt: skip
    return read_study(make_study(maps, evaluations=evaluations)).cases


def test_the_table_holds_means_beside_the_random_maps(cases):
    gradcam, lime = study_metrics_table(cases)
    assert (gradcam.method, gradcam.metric) == ("gradcam", "sic_compressed")
    assert gradcam.value.mean == pytest.approx(0.7)
    assert (gradcam.value.count, gradcam.value.dropped) == (2, 1)
    assert gradcam.null_mean == pytest.approx((0.3 + 0.5 + 0.1) / 3)
    assert gradcam.beats_chance == pytest.approx(2 / 3)
    assert gradcam.area_of_median == pytest.approx(0.5)
    assert lime.value.count == 1
    assert math.isnan(lime.value.low)


def test_curves_are_averaged_over_the_cases_in_which_they_are_defined(cases):
    curves = {(one.method, one.curve): one for one in mean_curves(cases)}
    deletion = curves["gradcam", "deletion"]
    assert deletion.x == (0, 0.5, 1)
    assert deletion.mean == pytest.approx((0.9, 0.3, 0.1))
    assert deletion.null_median == pytest.approx((0.9, 0.5, 0.1))
    assert deletion.cases == 3
    sic = curves["gradcam", "SIC compressed"]
    assert sic.cases == 2
    assert sic.median == pytest.approx(sic.x, abs=1e-9)
    assert ("gradcam", "SIC histogram") not in curves
    assert curves["lime", "insertion"].cases == 1


def test_a_study_without_evaluation_has_none(make_study):
    study = read_study(make_study({"P0": {"gradcam": noise(0)}, "P1": {"gradcam": noise(1)}}))
    assert mean_curves(study.cases) == []
    assert study_metrics_table(study.cases) == []
