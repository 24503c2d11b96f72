"""A study's summary says how far a method is from the control maps, case by case."""

from __future__ import annotations

import math
from dataclasses import fields

import numpy as np
import pytest

from SaliencyExplain.comparison.bootstrap import confidence_interval
from SaliencyExplain.comparison.summary import Summary, summarise
from SaliencyExplain.records.agreement_row import METRICS, Agreement, Row


def row(case: str, method: str, value: float, *, target="glioma", segment="tumour") -> Row:
    metrics = {field.name: value for field in fields(Agreement)}
    return Row(case, method, target, segment, Agreement(**metrics))


def of(summaries: tuple[Summary, ...], method: str, metric: str = "auroc") -> Summary:
    (found,) = [one for one in summaries if (one.method, one.metric) == (method, metric)]
    return found


@pytest.fixture
def study() -> list[Row]:
    """Cases that differ far more among each other than the methods do."""
    draws = np.random.default_rng(0)
    table = []
    for number in range(20):
        ease = draws.uniform(0, 0.8)
        table.append(row(f"case {number}", "occlusion", ease + 0.1 + draws.normal(0, 0.01)))
        table.append(row(f"case {number}", "random", ease))
        table.append(row(f"case {number}", "centre", ease + 0.1 + draws.normal(0, 0.01)))
    return table


def test_mean_and_interval_are_those_of_the_cases(study):
    found = of(summarise(study), "occlusion")
    values = [one.agreement.auroc for one in study if one.method == "occlusion"]
    assert found.interval == confidence_interval(values)
    assert found.segment == "tumour"


def test_difference_is_taken_case_by_case(study):
    found = of(summarise(study), "occlusion")
    difference = found.against["random"]
    assert difference.mean == pytest.approx(0.1, abs=0.01)
    assert difference.high - difference.low < 0.1 * (found.interval.high - found.interval.low)
    assert found.beats("random") is True
    assert found.beats("centre") is False


def test_less_is_better_for_distances(study):
    found = summarise(study)
    assert of(found, "occlusion", "hausdorff95_mm").beats("random") is False
    assert of(found, "occlusion", "hausdorff95_mm").beats("centre") is False
    closer = [row(one.case, one.method, -one.agreement.auroc) for one in study]
    assert of(summarise(closer), "occlusion", "hausdorff95_mm").beats("random") is True
    assert of(summarise(closer), "occlusion", "hausdorff95_mm").beats("centre") is False


def test_control_maps_are_not_compared_with_themselves(study):
    found = summarise(study)
    assert of(found, "random").against == {}
    assert of(found, "random").beats("centre") is None


def test_chance_level_is_no_contest(study):
    assert of(summarise(study), "occlusion", "energy_chance").against == {}


def test_cases_where_either_is_undefined_leave_the_difference(study):
    study.append(row("odd", "occlusion", math.nan))
    study.append(row("odd", "random", 0.5))
    study.append(row("alone", "occlusion", 0.5))
    found = of(summarise(study), "occlusion")
    assert (found.interval.count, found.interval.dropped) == (21, 1)
    assert (found.against["random"].count, found.against["random"].dropped) == (20, 1)


def test_a_case_with_several_classes_counts_once(study):
    doubled = study + [
        row(one.case, one.method, one.agreement.auroc, target="no tumour") for one in study
    ]
    assert of(summarise(doubled), "occlusion") == of(summarise(study), "occlusion")


def test_segments_are_kept_apart_and_all_metrics_are_there(study):
    other = [row(one.case, one.method, 0.5, segment="core") for one in study]
    found = summarise(study + other)
    assert len(found) == 2 * 3 * len(METRICS)
    assert {one.segment for one in found} == {"tumour", "core"}


def test_without_control_maps_there_is_no_difference():
    found = summarise([row(str(number), "occlusion", number / 10) for number in range(5)])
    assert of(found, "occlusion").against == {}
    assert of(found, "occlusion").beats("random") is None
