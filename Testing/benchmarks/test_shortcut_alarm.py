"""The measurement of the shortcut alarm runs, and counts what it says that it counts."""

from __future__ import annotations

import json

import pytest

from Testing.benchmarks.shortcut_alarm import main, markdown, summary


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """One small study of the honest classifier and one of the shortcut classifier."""
    folder = tmp_path_factory.mktemp("alarm")
    files = folder / "alarm.json", folder / "alarm.md"
    main(
        ["--studies", "1", "--shortcut-studies", "1", "--cases", "20", "--threads", "1",
         "--kinds", "honest 2D", "shortcut 3D",
         "--json", str(files[0]), "--markdown", str(files[1])]
    )  # fmt: skip
    return json.loads(files[0].read_text())["rows"], files[1].read_text()


def test_the_honest_classifier_has_no_alarm_and_the_shortcut_is_found(measured):
    rows, table = measured
    found = {(row["kind"], row["known"]): (row["false_alarm"], row["found"]) for row in rows}
    assert found == {
        ("honest 2D", "segmented"): (False, False),
        ("honest 2D", "images"): (False, False),
        ("shortcut 3D", "segmented"): (False, True),
        ("shortcut 3D", "images"): (False, True),
    }
    assert table.count("\n") == 6
    alarms = next(row for row in rows if row["kind"] == "shortcut 3D")["alarms"]
    assert {one["target"] for one in alarms} == {"glioma-like"}


def test_rates_have_wilsons_intervals():
    rows = [
        {"kind": "honest 3D", "known": "segmented", "false_alarm": study < 5, "found": False,
         "undecided": False}
        for study in range(100)
    ]  # fmt: skip
    (line,) = summary(rows)
    assert line["false_alarm"] == (5, pytest.approx(0.0215, abs=1e-4), pytest.approx(0.1118, 1e-3))
    assert "| honest 3D | images, tumours segmented | 5 of 100 [2.2, 11.2] % | – |" in markdown(
        [line]
    )
