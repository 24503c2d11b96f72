"""The scripts that measure how often the answers are wrong run, and say what they measured."""

from __future__ import annotations

import json

import pytest

from SaliencyExplain.evaluation.image.answers import NO
from Testing.benchmarks import chance_calibration, weights_calibration


def test_the_table_of_answers_has_each_map_of_two_phantoms(tmp_path, monkeypatch):
    monkeypatch.setattr(chance_calibration, "NULL_MAPS", 4)
    file = tmp_path / "answers.json"
    chance_calibration.main(["--phantoms", "2", "--json", str(file)])
    table = tmp_path / "table.md"
    rows = chance_calibration.main(["--tables", str(file), "--markdown", str(table)])
    assert rows == json.loads(file.read_text())
    assert {row["answer"] for row in rows if row["map"] == "gradcam++, inverted"} == {NO}
    text = table.read_text()
    for name in ("gradcam", "occlusion", "the tumour's mask", "the body", "blobs of 50 mm"):
        assert f"\n| {name} | 2 |" in text


def test_wilsons_interval_is_the_published_one():
    # Newcombe 1998, table I: 81 of 263.
    assert chance_calibration.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert chance_calibration.wilson(0, 20)[0] == 0


def test_a_map_without_a_network_is_alike_whatever_its_weights(tmp_path):
    file = tmp_path / "table.md"
    found = weights_calibration.main(["--phantoms", "2", "--markdown", str(file)])
    assert found["centre", "random"] == pytest.approx([1.0, 1.0])
    assert max(found["gradcam", "random"]) < 0.9
    assert "| gradient | trained | 2 |" in file.read_text()
