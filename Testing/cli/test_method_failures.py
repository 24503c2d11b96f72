"""Methods that fail on the command line: the others' maps, a line each, a status of its own."""

from __future__ import annotations

import csv
import json

import pytest

from SaliencyExplain.errors import ErrorCode

pytestmark = pytest.mark.slow


def first_image(folder):
    return sorted(path for path in folder.rglob("*.png") if "seg" not in path.name)[0]


def test_explain_keeps_the_maps_that_there_are(command, pictures, honest_2d, tmp_path):
    image = first_image(pictures)
    words = ("explain", image, "-c", honest_2d, "-m", "gradient", "-m", "deepshap")
    ended = command(*words, "-o", tmp_path / "out")
    assert ended.status == 3, ended.err
    (line,) = [line for line in ended.err.splitlines() if line.startswith("error:")]
    assert "deepshap" in line
    assert ErrorCode.BACKGROUNDS.value in line
    (document,) = (tmp_path / "out").glob("*/explanation.json")
    content = json.loads(document.read_text())
    assert [one["method"] for one in content["attributions"]] == ["gradient"]
    assert [one["method"] for one in content["failures"]] == ["deepshap"]
    ended = command(*words, "-o", tmp_path / "json", "--json")
    assert ended.status == 3
    assert ended.document["failures"][0]["code"] == ErrorCode.BACKGROUNDS.value


def test_explain_where_all_fail_ends_as_before(command, pictures, honest_2d, tmp_path):
    image = first_image(pictures)
    ended = command("explain", image, "-c", honest_2d, "-m", "deepshap", "-o", tmp_path / "out")
    assert ended.status == 2
    assert ErrorCode.BACKGROUNDS.value in ended.err
    assert not (tmp_path / "out").exists()


def test_a_study_is_done_with_the_maps_that_there_are(command, pictures, honest_2d, tmp_path):
    out = tmp_path / "out"
    words = ("study", pictures, "-c", honest_2d, "-m", "gradient", "-m", "deepshap", "-o", out)
    assert command(*words).status == 3
    with (out / "failures.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    assert all("deepshap" in row["stage"] for row in rows)
    report = (out / "report.html").read_text()
    assert "explaining with deepshap" in report
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/explanation.json")}
    assert len(before) == 2
    # Started again it computes nothing anew: the method would fail again.
    ended = command(*words)
    assert ended.status == 3
    assert {path: path.stat().st_mtime_ns for path in before} == before
    with (out / "failures.csv").open() as file:
        assert list(csv.DictReader(file)) == rows


def test_evaluate_evaluates_the_maps_that_there_are(command, pictures, honest_2d, tmp_path):
    image = first_image(pictures)
    methods = ("-m", "deepshap", "-m", "gradient")
    words = ("--part", "faithfulness", "--cost-tier", "least", "-o", tmp_path / "out")
    ended = command("evaluate", "image", image, "-c", honest_2d, *methods, *words)
    assert ended.status == 3, ended.err
    assert ErrorCode.BACKGROUNDS.value in ended.err
    assert "gradient" in ended.out
