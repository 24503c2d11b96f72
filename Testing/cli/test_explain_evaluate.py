"""``explain --evaluate`` and ``study --evaluate``."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.slow


def test_explain_evaluates_its_maps_where_it_is_asked_to(command, pictures, honest_2d, tmp_path):
    image = next(iter(sorted(pictures.glob("*_image.*"))))
    words = ("explain", image, "-c", honest_2d, "-m", "gradcam", "-o", tmp_path / "out")
    ended = command(*words, "--evaluate", "--passes", 1)
    assert ended.status == 0, ended.err
    (evaluation,) = (tmp_path / "out").glob("*/evaluation.json")
    found = json.loads(evaluation.read_text(encoding="utf-8"))
    assert found["cost_tier"] == "least"
    assert [one["label"] for one in found["maps"]] == ["gradcam@class_layers.relu"]
    assert (evaluation.parent / "card-gradcam@class_layers.relu.png").is_file()
    for answer in found["maps"][0]["answers"]:
        assert answer["answer"] in " ".join(ended.out.split())
    assert "beats chance" in ended.out
    document = command(*words, "--evaluate", "--passes", 1, "--json").document
    assert [one["label"] for one in document["evaluation"]["maps"]] == ["gradcam@class_layers.relu"]
    # Done again without it, the case has none.
    assert command(*words).status == 0
    assert not evaluation.exists()


def test_a_study_with_an_evaluation_says_what_it_may_cost_in_its_help(command):
    ended = command("study", "--help")
    assert "--passes" in ended.out
    assert "1000" in ended.out
