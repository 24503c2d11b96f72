"""``explain --trial`` and ``study --trial``."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.slow


def test_explain_tries_its_maps_where_it_is_asked_to(command, pictures, honest_2d, tmp_path):
    image = next(iter(sorted(pictures.glob("*_image.*"))))
    words = ("explain", image, "-c", honest_2d, "-m", "gradcam", "-o", tmp_path / "out")
    ended = command(*words, "--trial", "--passes", 1)
    assert ended.status == 0, ended.err
    (trial,) = (tmp_path / "out").glob("*/trial.json")
    found = json.loads(trial.read_text(encoding="utf-8"))
    assert found["effort"] == "least"
    assert [one["label"] for one in found["maps"]] == ["gradcam@class_layers.relu"]
    assert (trial.parent / "card-gradcam@class_layers.relu.png").is_file()
    for verdict in found["maps"][0]["verdicts"]:
        assert verdict["answer"] in " ".join(ended.out.split())
    assert "beats chance" in ended.out
    document = command(*words, "--trial", "--passes", 1, "--json").document
    assert [one["label"] for one in document["trial"]["maps"]] == ["gradcam@class_layers.relu"]
    # Done again without it, the case has none.
    assert command(*words).status == 0
    assert not trial.exists()


def test_a_study_with_a_trial_says_what_it_may_cost_in_its_help(command):
    ended = command("study", "--help")
    assert "--passes" in ended.out
    assert "1000" in ended.out
