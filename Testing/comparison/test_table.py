"""The table holds a row per map and segment, with the figures of the comparison."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from SaliencyExplain.attribution.methods.control_maps import centre_map
from SaliencyExplain.comparison.agreement import agreement
from SaliencyExplain.comparison.table import rows, write_comparison
from SaliencyExplain.images.segmentation import Segment, Segmentation
from SaliencyExplain.records.agreement_row import (
    COLUMNS,
    METRICS,
    OWN_SEGMENT,
    Agreement,
    Row,
)

AFFINE = np.diag([-1.0, -1.0, 3.0, 1.0])


@pytest.fixture
def segmentation() -> Segmentation:
    core, whole = np.zeros((2, 16, 14, 8), dtype=bool)
    core[4:7, 5:8, 3:5] = True
    whole[3:9, 4:10, 2:6] = True
    segments = (Segment("core", (1, 0, 0), core), Segment("whole, with oedema", (0, 1, 0), whole))
    return Segmentation(segments, AFFINE, ())


@pytest.fixture
def maps() -> dict[str, np.ndarray]:
    draws = np.random.default_rng(0)
    names = ("occlusion", "gradcam@features.denseblock4")
    return {name: draws.standard_normal((16, 14, 8)).astype(np.float32) for name in names}


def test_columns_are_those_of_the_file_format():
    assert ",".join(COLUMNS) == (
        "case,method,target,segment,energy_inside,energy_chance,pointing,pointing_tolerance,auroc,"
        "average_precision,rank_accuracy,dice_equal_volume,iou_equal_volume,dice_best,"
        "hausdorff95_mm,mean_surface_distance_mm,centre_distance_mm,"
        + ",".join(f"{metric}_low,{metric}_high" for metric in METRICS if metric != "energy_chance")
        + ",remark"
    )


def test_every_map_and_control_maps_meets_every_segment(maps, segmentation):
    table = rows("case 1", "glioma", maps, segmentation, AFFINE)
    assert [(row.method, row.segment) for row in table] == [
        (method, segment)
        for method in (*maps, "random", "centre")
        for segment in ("core", "whole, with oedema")
    ]
    assert {(row.case, row.target) for row in table} == {("case 1", "glioma")}
    expected = agreement(maps["occlusion"], segmentation.segments[1].mask, AFFINE)
    assert_allclose(
        list(asdict(table[1].agreement).values()), list(asdict(expected).values()), rtol=1e-12
    )


def test_a_centre_map_that_was_asked_for_is_not_measured_twice(maps, segmentation):
    own = {"centre": maps["occlusion"]}
    table = rows("case", "glioma", own, segmentation, AFFINE)
    assert [row.method for row in table] == ["random", "random", "centre", "centre"]
    expected = agreement(own["centre"], segmentation.segments[0].mask, AFFINE)
    assert table[2].agreement.auroc == expected.auroc


def test_control_maps_can_be_left_out(maps, segmentation):
    table = rows("case", "glioma", maps, segmentation, AFFINE, control_maps=False)
    assert {row.method for row in table} == set(maps)


def lines_of(path: Path) -> list[dict[str, str]]:
    """The lines of a table, by column."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_file_holds_the_figures_of_each_row(tmp_path, maps, segmentation):
    table = rows("case", "glioma", maps, segmentation, AFFINE)
    path = tmp_path / "comparison.csv"
    write_comparison(path, table)
    found = lines_of(path)
    assert tuple(found[0]) == COLUMNS
    for line, row in zip(found, table, strict=True):
        assert (line["case"], line["method"], line["segment"]) == ("case", row.method, row.segment)
        for metric in METRICS:
            written = float(line[metric]) if line[metric] else math.nan
            expected = getattr(row.agreement, metric)
            assert written == pytest.approx(expected, rel=1e-5, nan_ok=True)


def test_same_metrics_give_the_same_bytes(tmp_path, maps, segmentation):
    paths = [tmp_path / "first.csv", tmp_path / "second.csv"]
    for path in paths:
        write_comparison(path, rows("case", "glioma", maps, segmentation, AFFINE, seed=3))
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert b"\r" not in paths[0].read_bytes()


def test_undefined_metrics_are_empty_in_csv_and_null_in_json(tmp_path, segmentation):
    zero = {"occlusion": np.zeros((16, 14, 8), np.float32)}
    table = rows("case", "glioma", zero, segmentation, AFFINE, control_maps=False)
    path = tmp_path / "comparison.csv"
    write_comparison(path, table)
    line = lines_of(path)[0]
    assert line["energy_inside"] == line["hausdorff95_mm"] == ""
    assert line["auroc"] == "0.5"
    document = json.loads(json.dumps(table[0].as_json(), allow_nan=False))
    assert document["energy_inside"] is None
    assert document["energy_chance_body"] is None
    assert document["auroc"] == 0.5
    names = {"case", "method", "target", "segment", "segmentation_sha256", "length_unit"}
    assert set(document) == {*names, *METRICS, "energy_chance_body"}


def test_rounding_noise_does_not_reach_the_file(maps, segmentation):
    row = rows("case", "glioma", maps, segmentation, AFFINE)[0]
    noisy = replace(row.agreement, auroc=row.agreement.auroc * (1 + 1e-15), energy_inside=-0.0)
    clean = replace(row.agreement, energy_inside=0.0)
    assert replace(row, agreement=noisy).cells() == replace(row, agreement=clean).cells()


def test_names_with_commas_quotes_and_letters_of_other_scripts_survive(tmp_path):
    metrics = Agreement(*(float(number) for number in range(14)))
    row = Row('a "case", 1', "occlusion", "Gliom Ⅳ", "Ödem\nund Kern", metrics)
    path = tmp_path / "comparison.csv"
    write_comparison(path, [row])
    (line,) = lines_of(path)
    assert [line[name] for name in ("case", "method", "target", "segment")] == [
        row.case,
        row.method,
        row.target,
        row.segment,
    ]


def test_random_maps_are_a_distribution_that_the_name_of_the_case_does_not_change(
    maps, segmentation
):
    def random_rows(case, **settings):
        table = rows(case, "glioma", maps, segmentation, AFFINE, **settings)
        return [row for row in table if row.method == "random"]

    first, again, other = (random_rows(case, image_sha256=h) for case, h in ("aa", "ba", "ab"))
    for one, two, three in zip(first, again, other, strict=True):
        assert one.agreement.auroc == 0.5
        assert one.low.auroc < 0.5 < one.high.auroc
        assert (one.low, one.high) == (two.low, two.high)
        assert one.low != three.low
    # The control is the distribution even where a random map is among the maps.
    table = rows("a", "x", {"random": maps["occlusion"]}, segmentation, AFFINE, image_sha256="a")
    assert [row.low for row in table if row.method == "random"] == [row.low for row in first]


def test_a_map_of_the_segments_themselves_has_no_agreement_with_them(tmp_path, maps, segmentation):
    core, whole = segmentation.segments
    shapley = core.mask.astype(np.float32) - 0.1 * whole.mask
    own = {"shapley": [core.sha256]}
    table = rows("case", "x", {"shapley": shapley}, segmentation, AFFINE, own_segments=own)
    found = {(row.method, row.segment): row for row in table}
    withheld = found["shapley", core.name]
    assert withheld.remark == OWN_SEGMENT
    assert math.isnan(withheld.agreement.auroc)
    assert math.isnan(withheld.agreement.energy_inside)
    assert withheld.agreement.energy_chance == core.mask.mean()
    # Another segment, and the control maps, are compared as ever.
    assert found["shapley", whole.name].agreement.auroc > 0
    assert not found["random", core.name].remark
    path = tmp_path / "comparison.csv"
    write_comparison(path, table)
    assert [line["remark"] for line in lines_of(path)] == [row.remark for row in table]


def test_centre_control_maps_peaks_in_the_middle(segmentation):
    centre = centre_map((15, 13, 7), (1.0, 1.0, 3.0))
    assert np.unravel_index(centre.argmax(), centre.shape) == (7, 6, 3)
