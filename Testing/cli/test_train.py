"""``model train`` on the command line: what it prints, how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from SaliencyExplain.models.loading import load_classifier
from Testing.training.conftest import EDGE, NETWORK, write_pictures

pytestmark = pytest.mark.slow


def words(folder: Path, out: Path) -> list[object]:
    return [
        *("model", "train", folder, "--network", "DenseNet"),
        *("--network-args", json.dumps(NETWORK), "--size", f"{EDGE},{EDGE}"),
        *("--epochs", 1, "--batch-size", 4, "--out", out),
    ]


def test_it_prints_the_bundle_and_beside_it_how_often_it_is_right(command, tmp_path):
    folder = write_pictures(tmp_path / "pictures", {"small": 6, "large": 6})
    ended = command(*words(folder, tmp_path / "bundle"))
    assert ended.status == 0
    assert ended.out.strip() == str(tmp_path / "bundle")
    assert "true / predicted" in ended.err
    assert load_classifier(tmp_path / "bundle").classes == ("large", "small")
    again = command(*words(folder, tmp_path / "bundle"), "--json").document
    assert again["bundle"] == str(tmp_path / "bundle")
    assert again["cases"] == {"train": 8, "validation": 2, "test": 2}
    assert set(again["figures"]["f1"]) == {"large", "small"}
    held_out = command(
        *("study", folder, "-c", tmp_path / "bundle", "-m", "gradient", "--held-out"),
        *("--target", "label", "--out", tmp_path / "study", "--json"),
    ).document
    assert held_out["cases"] == 2
    assert held_out["labels"]["confusion_matrix"] == again["figures"]["confusion_matrix"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--network-args", "[1]"], "--network-args"),
        (["--size", "a,b"], "--size must be numbers"),
        (["--augment", "rotat"], "Did you mean 'rotate'"),
        (["--validation-share", "0.9"], "validation (0.9)"),
        (["--device", "tpu"], "Device 'tpu' is unknown"),
        (["--learning-rate", "0"], "learning rate is 0"),
    ],
)
def test_bad_options_end_with_one_line(command, tmp_path, more, said):
    folder = write_pictures(tmp_path / "pictures", {"small": 4, "large": 4})
    ended = command(*words(folder, tmp_path / "bundle"), *more)
    assert ended.status == 2
    assert ended.err.startswith("error: ")
    assert said in ended.err
    assert len(ended.err.strip().splitlines()) == 1
    assert not (tmp_path / "bundle").exists()


def test_a_classifier_that_was_not_trained_here_has_nothing_held_out(command, tmp_path, honest_3d):
    folder = write_pictures(tmp_path / "pictures", {"small": 4, "large": 4})
    ended = command("study", folder, "-c", honest_3d, "-m", "gradient", "--held-out", "-o", "out")
    assert ended.status == 2
    assert "held-out cases" in ended.err
