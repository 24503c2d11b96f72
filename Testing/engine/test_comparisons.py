"""Comparisons of every engine: the command line's rows, on one grid only."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import trapezoid

from SaliencyExplain.demo.phantoms import Phantom
from SaliencyExplain.engine.interface import ClassifierInfo, Engine
from SaliencyExplain.engine.wire.requests import CompareRequest, ProbeRequest
from SaliencyExplain.engine.wire.results import CompareResult
from SaliencyExplain.voxel_volume import Volume
from Testing.engine.conftest import done, ended


@pytest.mark.slow
def test_comparison_has_the_command_lines_rows(
    engine: Engine, opened: ClassifierInfo, bundle: Path, tmp_path: Path
):
    from SaliencyExplain.cli.main import application
    from SaliencyExplain.cli.messages import run
    from SaliencyExplain.demo.study import write_phantom_study
    from SaliencyExplain.images.reading import read_image, read_map
    from SaliencyExplain.images.segmentation import read_segmentation
    from SaliencyExplain.records.agreement_row import COLUMNS

    write_phantom_study(tmp_path / "in", dimensions=3, cases=1, seed=0, marker=False)
    path = tmp_path / "in" / "phantom-001_image.nii.gz"
    truth = tmp_path / "in" / "phantom-001_mask.seg.nrrd"
    words = ["explain", path, "-c", bundle, "-m", "gradcam", "-s", truth, "-o", tmp_path / "out"]
    assert run(application, [*map(str, words), "--case", "one", "--json"]) == 0
    with (tmp_path / "out" / "comparison.csv").open(encoding="utf-8", newline="") as file:
        wanted = list(csv.DictReader(file))
    (written,) = (tmp_path / "out" / "one").glob("*gradcam*.nii.gz")
    read = read_image(path)
    segments = read_segmentation(truth, read).segments
    affine = read.affine.numpy()
    masks = np.stack([segment.mask for segment in segments]).astype(np.uint8)
    request = CompareRequest(
        volume=engine.put(Volume(read.numpy(), affine)),
        maps={wanted[0]["method"]: engine.put(Volume(read_map(written).numpy()[0], affine))},
        target_name=wanted[0]["target"],
        segments=engine.put(Volume(masks, affine)),
        segment_names=tuple(segment.name for segment in segments),
        case="one",
    )
    result = done(engine, request)
    assert isinstance(result, CompareResult)
    assert set(COLUMNS) < set(result.columns)
    assert len(result.rows) == len(wanted) == 3 * len(segments)
    for ours, theirs in zip(result.rows, wanted, strict=True):
        for column in COLUMNS:
            if isinstance(ours.get(column), float):
                assert ours[column] == pytest.approx(float(theirs[column]), rel=1e-5), column
            else:
                assert (ours.get(column) or "") == theirs[column]
        assert 0 < ours["energy_chance_body"] < 1
    assert {curve.label for curve in result.curves} == {wanted[0]["method"], "random", "centre"}
    for curve in result.curves:
        row = next(
            r for r in result.rows if (r["method"], r["segment"]) == (curve.label, curve.segment)
        )
        share = row["energy_chance"]
        area = trapezoid(curve.share_of_segment, curve.share_of_image)
        assert area == pytest.approx(share / 2 + (1 - share) * row["auroc"], abs=1e-3)


@pytest.mark.slow
def test_comparison_leaves_out_empty_segments_and_says_so(
    engine: Engine, image: Volume, phantom: Phantom
):
    masks = np.stack([phantom.masks["tumour"], np.zeros_like(phantom.masks["tumour"])])
    map_ = Volume(image.values[0], image.affine)
    request = CompareRequest(
        engine.put(image),
        {"image": engine.put(map_)},
        "glioma-like",
        engine.put(Volume(masks.astype(np.uint8), image.affine)),
        ("tumour", "oedema"),
        ("the segmentation lies elsewhere",),
    )
    result = done(engine, request)
    assert isinstance(result, CompareResult)
    assert {row["segment"] for row in result.rows} == {"tumour"}
    assert any("oedema" in note for note in result.notes)
    assert "the segmentation lies elsewhere" in result.notes
    # Nothing undefined turns into a number on the way.
    flat = replace(
        request, maps={"flat": engine.put(Volume(np.zeros_like(map_.values), map_.affine))}
    )
    rows = done(engine, flat).rows
    assert rows[0]["hausdorff95_mm"] is None
    assert rows[0]["auroc"] == 0.5


def test_masks_and_maps_of_another_place_are_refused(
    engine: Engine, opened: ClassifierInfo, image: Volume, phantom: Phantom
):
    tumour = phantom.masks["tumour"]
    moved = np.array(image.affine)
    moved[0, 3] += 10
    key, heat = engine.put(image), tumour.astype(np.float32)
    probe = ProbeRequest(opened.key, key, segment=engine.put(Volume(tumour.astype("u1"), moved)))
    stack = tumour[None].astype(np.uint8)
    here, away = (engine.put(Volume(stack, affine)) for affine in (image.affine, moved))
    maps = [engine.put(Volume(heat, affine)) for affine in (image.affine, moved)]
    for request, told in [
        (probe, "The segment 'segment' has another position"),
        (CompareRequest(key, {"a": maps[0]}, "x", away, ("t",)), "segments has another position"),
        (CompareRequest(key, {"a": maps[1]}, "x", here, ("t",)), "map a has another position"),
    ]:
        status = ended(engine, engine.start(request))
        assert status.state == "failed"
        assert told in status.error
    assert done(engine, CompareRequest(key, {"a": maps[0]}, "x", here, ("t",)))
