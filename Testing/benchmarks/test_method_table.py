"""The table of methods runs with all of them, and tells what is known beforehand."""

from __future__ import annotations

import json

import pytest

from SaliencyExplain.attribution.registry import methods
from SaliencyExplain.errors import InputError
from Testing.benchmarks import method_table
from Testing.benchmarks.method_table import check_settings, main

YARDSTICKS = [name for name, method in methods().items() if method.family == "control"]


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What the small table of all methods writes: rows by method, and the Markdown."""
    folder = tmp_path_factory.mktemp("table")
    files = folder / "table.json", folder / "table.md"
    words = ["--small", "--trials", "honest 2D", "--threads", "1"]
    main([*words, "--json", str(files[0]), "--markdown", str(files[1])])
    rows = json.loads(files[0].read_text())["rows"]
    return {row["method"]: row for row in rows}, files[1].read_text()


def test_every_method_has_a_row_with_all_its_figures(told):
    rows, text = told
    assert list(rows) == list(methods())
    for name, row in rows.items():
        assert not row["refusals"], row
        for figure in ("tumour_auroc", "tumour_energy", "tumour_peak", "alike", "stated", "took"):
            assert row[figure] == row[figure], (name, figure)  # no NaN
        assert f"\n| {name} |" in text


def test_chance_is_where_the_table_says_it_is(told):
    random = told[0]["random"]
    assert random["tumour_auroc"] == pytest.approx(0.5, abs=0.03)
    assert random["tumour_energy"] == pytest.approx(1, abs=0.1)


def test_yardsticks_fail_the_sanity_check_and_class_activation_passes_it(told):
    rows, _ = told
    for name in YARDSTICKS:
        assert rows[name]["alike"] == pytest.approx(1)
        assert rows[name]["stated"] == 0
    assert rows["cam"]["alike"] < 0.5


def test_the_honest_classifiers_maps_find_the_tumour_where_chance_and_habit_do_not(told):
    rows, _ = told
    habit = max(rows[name]["tumour_energy"] for name in YARDSTICKS)
    for name in ("occlusion", "cam", "gradcam", "gradcam++", "scorecam", "lrp", "xrai"):
        assert rows[name]["tumour_auroc"] > 0.9, name
        assert rows[name]["tumour_energy"] > 2 * habit, name


def test_the_shortcut_classifiers_maps_lie_on_the_marker():
    words = ["--small", "--trials", "shortcut 3D", "--phantoms", "1", "--threads", "1"]
    rows = {row["method"]: row for row in main([*words, "--methods", "gradcam++", "gradient"])}
    for row in rows.values():
        assert row["marker_auroc"] > 0.9
        assert row["marker_energy"] > 3 * row["tumour_energy"]


def test_settings_of_a_method_that_is_gone_are_told(monkeypatch):
    monkeypatch.setitem(method_table.SETTINGS, "gradcamm", {})
    with pytest.raises(InputError, match="no method: gradcamm"):
        check_settings(methods())
