"""Which cases methods are compared on, and which differences are of interest."""

from __future__ import annotations

import json

import pytest

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.evaluation.study.case_selection import smallest_differences
from SaliencyExplain.evaluation.study.study_evaluation import evaluate_study
from SaliencyExplain.records.agreement_row import Row
from Testing.study.evaluation.conftest import agreement, noise

NAMES = [f"P{number}" for number in range(9)]


@pytest.fixture
def study(make_study):
    """A map that finds the segment, but in the one case whose wrong class it explains."""
    rows = [
        Row(name, method, "tumour", "core", agreement(auroc if n else 0.1))
        for n, name in enumerate(NAMES)
        for method, auroc in (("gradcam", 0.9), ("random", 0.5))
    ]
    folder = make_study({name: {"gradcam": noise(n)} for n, name in enumerate(NAMES)}, rows=rows)
    path = folder / "journal.jsonl"
    first, *entries = [json.loads(line) for line in path.read_text().splitlines()]
    for entry in entries:
        entry["label"] = "healthy" if entry["case"] == "P0" else "TUMOUR"
    path.write_text("".join(json.dumps(line) + "\n" for line in (first, *entries)))
    return folder


def test_a_case_whose_map_explains_another_class_is_left_out_and_named(study):
    found = evaluate_study(study)
    (pair,) = [one for one in found.pairs if one.metric == "auroc"]
    assert (pair.cases, pair.difference) == (8, pytest.approx(0.4))
    assert found.compared == tuple(NAMES[1:])
    assert any("1 of 9 cases explains" in note and "P0: tumour" in note for note in found.notes)
    assert {one.energy.count for one in found.places} == {9}


def test_all_cases_are_taken_where_that_is_asked_for_or_none_has_a_label(study, make_study):
    found = evaluate_study(study, all_cases=True)
    assert len(found.compared) == 9
    assert any("P0" in note and "--all-cases" in note for note in found.notes)


def test_a_study_without_labels_leaves_nothing_out(make_study):
    found = evaluate_study(make_study({name: {"gradcam": noise(0)} for name in NAMES}))
    assert found.compared == tuple(NAMES)
    assert not any("left out" in note for note in found.notes)


def test_smallest_differences_are_of_all_metrics_or_of_one():
    found = smallest_differences(["auroc=0.1", "0.02"])
    assert (found["auroc"], found["energy_inside"]) == (0.1, 0.02)
    assert "hausdorff95_mm" not in found
    assert smallest_differences(["hausdorff95_mm=2"]) == {"hausdorff95_mm": 2}


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ("auroc=-1", ErrorCode.VALUE_FORM),
        ("much", ErrorCode.VALUE_FORM),
        ("nan", ErrorCode.VALUE_FORM),
        ("auroq=0.1", ErrorCode.NAME_UNKNOWN),
    ],
)
def test_what_is_no_smallest_difference_is_refused(given, code):
    with pytest.raises(InputError) as error:
        smallest_differences([given])
    assert error.value.code is code
    assert given.partition("=")[0] in str(error.value)


def test_the_smallest_difference_decides_what_is_called_higher(study):
    (pair,) = [one for one in evaluate_study(study).pairs if one.metric == "auroc"]
    assert (pair.answer, pair.better) == ("higher", "gradcam")
    found = evaluate_study(study, smallest_difference=["auroc=0.6"])
    (pair,) = [one for one in found.pairs if one.metric == "auroc"]
    assert (pair.answer, pair.better) == ("equal", "")
