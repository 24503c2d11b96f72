"""What every engine does, in this process and over HTTP alike."""

from __future__ import annotations

import math
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import trapezoid

from SaliencyExplain.attribution.selection import describe_methods, select_methods
from SaliencyExplain.classifiers.classifier import Classifier
from SaliencyExplain.demo.phantoms import Phantom, draw_phantom
from SaliencyExplain.demo.study import STUDY_SEEDS
from SaliencyExplain.demo.tumours import GLIOMA, NO_TUMOUR
from SaliencyExplain.engine.answers import image_of
from SaliencyExplain.engine.interface import ClassifierInfo, Engine
from SaliencyExplain.engine.requests import (
    CompareRequest,
    EstimateRequest,
    ExplainRequest,
    MethodChoice,
    PredictRequest,
    ProbeRequest,
)
from SaliencyExplain.engine.results import (
    CompareResult,
    EstimateResult,
    ExplainResult,
    PredictResult,
    ProbeResult,
)
from SaliencyExplain.engine.volumes import Volume
from SaliencyExplain.errors import (
    Cancelled,
    ClassifierError,
    InputError,
    SaliencyExplainError,
)
from SaliencyExplain.explanation import estimate
from SaliencyExplain.explanation import explain as explain_directly
from SaliencyExplain.images.segmentation import Segment, Segmentation
from SaliencyExplain.probing import Prober
from SaliencyExplain.question import Compute, Given
from Testing.engine.conftest import LONG, MIDDLE, QUICK, done, ended, until, volume_of

Explain = Callable[..., ExplainRequest]


def test_says_what_it_is_and_which_methods_it_has(engine: Engine):
    about = engine.about()
    assert about.device.startswith("cpu")
    assert 0 < about.memory_free <= about.memory_total
    assert not about.trusts
    assert [method["name"] for method in engine.methods()] == [
        method["name"] for method in describe_methods()
    ]


def test_prediction_is_the_classifiers_own(
    engine: Engine, opened: ClassifierInfo, image: Volume, classifier: Classifier, phantom: Phantom
):
    result = done(engine, PredictRequest(opened.key, engine.put(image)))
    assert isinstance(result, PredictResult)
    assert result.classes == classifier.classes
    assert result.probabilities == tuple(classifier.predict(phantom.image).tolist())


def test_explanation_equals_the_librarys_to_the_bit(
    engine: Engine, explain: Explain, classifier: Classifier, image: Volume
):
    methods = (
        MethodChoice("occlusion", {"window_mm": 60, "stride_mm": 40.0, "fill": "minimum"}),
        MethodChoice("gradcam", {"layers": ["features.conv0", "features.transition1.conv"]}),
        MethodChoice("smoothgrad", {"samples": 3, "squared": False}),
    )
    direct = explain_directly(
        image_of(image, "a phantom"),
        classifier,
        select_methods(
            ["occlusion", "gradcam", "smoothgrad"],
            [
                "occlusion.window_mm=60",
                "occlusion.stride_mm=40",
                "occlusion.fill=minimum",
                "gradcam.layers=features.conv0,features.transition1.conv",
                "smoothgrad.samples=3",
                "smoothgrad.squared=false",
            ],
        ),
        target="glioma-like",
        compute=Compute("cpu"),
        seed=7,
    )
    result = done(engine, explain(*methods, target="glioma-like", seed=7, image_name="a phantom"))
    assert isinstance(result, ExplainResult)
    assert result.probabilities == tuple(direct.probabilities.tolist())
    assert result.target == direct.target == 1
    assert [map_.label for map_ in result.maps] == [map_.label for map_ in direct.attributions]
    for ours, theirs in zip(result.maps, direct.attributions, strict=True):
        volume = engine.get(ours.volume)
        assert volume.values.tobytes() == theirs.values.tobytes()
        assert volume.affine.tobytes() == theirs.affine.tobytes()
        assert (ours.method, ours.layer, ours.signed) == (
            theirs.method,
            theirs.layer,
            theirs.signed,
        )
        assert ours.target_name == theirs.target_name
        assert ours.provenance == theirs.provenance
        as_told = {
            key: list(v) if isinstance(v, tuple) else v for key, v in ours.parameters.items()
        }
        assert as_told == {
            key: list(v) if isinstance(v, tuple) else v for key, v in theirs.parameters.items()
        }


def test_segments_and_backgrounds_reach_the_methods_as_in_the_library(
    engine: Engine, explain: Explain, classifier: Classifier, image: Volume, phantom: Phantom
):
    tumour = phantom.masks["tumour"]
    nothing = np.zeros_like(tumour)
    other = volume_of(draw_phantom(NO_TUMOUR, STUDY_SEEDS + 6))
    direct = explain_directly(
        image_of(image),
        classifier,
        select_methods(
            ["shapley", "expected-gradients"],
            ["shapley.regions=segments", "expected-gradients.samples=2"],
        ),
        target="meningioma-like",
        compute=Compute("cpu"),
        given=Given(
            Segmentation((Segment("mass", (1.0, 0.0, 0.0), tumour),), image.affine, ()),
            (image_of(other),),
        ),
    )
    request = explain(
        MethodChoice("shapley", {"regions": "segments"}),
        MethodChoice("expected-gradients", {"samples": 2}),
        target="meningioma-like",
        segments=engine.put(Volume(np.stack([tumour, nothing]).astype(np.uint8), image.affine)),
        segment_names=("mass", "nothing"),
        backgrounds=(engine.put(other),),
    )
    result = done(engine, request)
    assert isinstance(result, ExplainResult)
    for ours, theirs in zip(result.maps, direct.attributions, strict=True):
        assert engine.get(ours.volume).values.tobytes() == theirs.values.tobytes()
        assert ours.provenance["figures"] == theirs.provenance["figures"]
    regions = {region["name"]: region for region in result.maps[0].provenance["figures"]["regions"]}
    # What the classifier answers is the mass's doing, which is known of these phantoms.
    assert regions["mass"]["value"] > 0.5
    assert any("nothing" in note for note in result.notes)


def test_segments_of_another_place_or_without_names_are_refused(
    engine: Engine, explain: Explain, image: Volume, phantom: Phantom
):
    mask = phantom.masks["tumour"][None].astype(np.uint8)
    shapley = MethodChoice("shapley", {"regions": "segments"})
    elsewhere = image.affine.copy()
    elsewhere[0, 3] += 5
    for segments, names, words in (
        (Volume(mask, elsewhere), ("mass",), "another place"),
        (Volume(mask, image.affine), (), "1 segments and 0 names"),
    ):
        request = explain(shapley, segments=engine.put(segments), segment_names=names)
        status = ended(engine, engine.start(request))
        assert status.state == "failed"
        assert words in status.error


def test_estimate_is_the_librarys_and_starts_nothing(
    engine: Engine, explain: Explain, classifier: Classifier, image: Volume
):
    result = done(engine, EstimateRequest(explain(LONG, QUICK)))
    assert isinstance(result, EstimateResult)
    methods = select_methods(
        ["occlusion", "gradcam"], ["occlusion.window_mm=20", "occlusion.stride_mm=5"]
    )
    assert result.forward_passes == estimate(image_of(image), classifier, methods).forward_passes
    assert result.seconds > 0


def test_map_grows_while_it_is_computed(engine: Engine, explain: Explain):
    # So many windows that a slow client does not miss all partial maps but one.
    request = explain(MethodChoice("occlusion", {"window_mm": 50.0, "stride_mm": 20.0}))
    shares, passes, left, words = [], [], [], []
    started = time.monotonic()
    job = engine.start(request)
    seen = 0
    status = engine.status(job)
    while status.state in ("waiting", "running"):
        passes.append(status.done)
        words.append(status.doing)
        if status.seconds_left is not None:
            left.append((time.monotonic() - started, status.seconds_left))
        if status.partial > seen:
            seen = status.partial
            partial = engine.partial(job)
            assert partial is not None
            volume = engine.get(partial.maps[0].volume)
            assert volume.values.any()
            shares.append(partial.maps[0].share_done)
        status = engine.status(job, seen=status.version, wait=5.0)
    assert status.state == "done", status
    assert len(shares) >= 2
    assert shares[0] < 1
    assert shares == sorted(shares)
    assert passes == sorted(passes)
    assert status.done == status.total > 100
    assert any("Occlusion" in text for text in words)
    assert left
    assert all(seconds >= 0 for _, seconds in left)
    assert min(when for when, _ in left) >= 0.5
    final = engine.result(job)
    assert isinstance(final, ExplainResult)
    assert final.maps[0].share_done == 1
    last = engine.partial(job)
    assert last is not None
    assert last.maps[0].volume == final.maps[0].volume


def test_budget_gives_the_best_map_so_far(engine: Engine, explain: Explain):
    result = done(engine, replace(explain(MIDDLE), budget_seconds=0.2))
    assert isinstance(result, ExplainResult)
    assert 0 < result.maps[0].share_done < 1
    assert any("budget" in note for note in result.notes)


def test_cancelled_job_stops_soon_and_the_next_one_runs(
    engine: Engine, explain: Explain, opened: ClassifierInfo, image: Volume
):
    job = engine.start(explain(LONG))
    until(engine, job, lambda status: status.done > 0)
    asked = time.monotonic()
    engine.cancel(job)
    assert ended(engine, job).state == "cancelled"
    assert time.monotonic() - asked < 3
    with pytest.raises(Cancelled):
        engine.result(job)
    assert engine.partial(job) is None
    engine.cancel(job)
    assert engine.status(job).state == "cancelled"
    assert isinstance(done(engine, PredictRequest(opened.key, engine.put(image))), PredictResult)


def test_jobs_wait_in_line_and_see_their_place(engine: Engine, explain: Explain):
    first, second, third = (engine.start(explain(LONG, seed=seed)) for seed in range(3))
    until(engine, first, lambda status: status.state == "running")
    waiting = engine.status(third)
    assert (engine.status(second).place, waiting.place) == (1, 2)
    assert "explain that runs" in waiting.doing
    assert [status.job for status in engine.jobs()][-3:] == [first, second, third]
    assert engine.about().jobs == 3
    engine.cancel(second)
    moved = engine.status(third, seen=waiting.version, wait=5.0)
    assert moved.place == 1
    assert engine.status(second).state == "cancelled"
    engine.cancel(first)
    assert until(engine, third, lambda status: status.state == "running").place == 0
    assert engine.status(first).state == "cancelled"


def test_click_is_answered_in_a_pause_and_changes_nothing(
    engine: Engine, explain: Explain, opened: ClassifierInfo, image: Volume
):
    alone = done(engine, explain(MIDDLE))
    job = engine.start(explain(MIDDLE))
    until(engine, job, lambda status: status.done > 0)
    click = ProbeRequest(opened.key, engine.put(image), (0.0, 0.0, 0.0), (10.0,))
    answer = done(engine, click)
    assert engine.status(job).state == "running"
    assert ended(engine, job).state == "done"
    disturbed = engine.result(job)
    assert isinstance(alone, ExplainResult)
    assert isinstance(disturbed, ExplainResult)
    assert disturbed.maps[0].volume == alone.maps[0].volume
    assert isinstance(answer, ProbeResult)
    again = done(engine, click)
    assert isinstance(again, ProbeResult)
    assert again.removals == answer.removals


def test_probe_equals_the_librarys(
    engine: Engine,
    opened: ClassifierInfo,
    image: Volume,
    phantom: Phantom,
    classifier: Classifier,
):
    inside = np.argwhere(phantom.masks["tumour"]).mean(axis=0)
    point = tuple((image.affine @ [*inside, 1])[:3].tolist())
    key = engine.put(image)
    balls = done(engine, ProbeRequest(opened.key, key, point, (5.0, 10.0, 20.0), fill="minimum"))
    assert isinstance(balls, ProbeResult)
    prober = Prober(phantom.image, classifier, compute=Compute("cpu"), fill="minimum")
    direct = prober.at(point, (5.0, 10.0, 20.0))
    assert balls.before == tuple(direct.before.tolist())
    for ours, theirs in zip(balls.removals, direct.removals, strict=True):
        assert (ours.name, ours.radius_mm, ours.voxels) == (
            theirs.name,
            theirs.radius_mm,
            theirs.voxels,
        )
        assert ours.probabilities == tuple(theirs.probabilities.tolist())

    mask = Volume(phantom.masks["tumour"].astype(np.uint8), image.affine)
    request = ProbeRequest(
        opened.key, key, segment=engine.put(mask), segment_name="tumour", fill="minimum"
    )
    whole = done(engine, request)
    assert isinstance(whole, ProbeResult)
    (theirs,) = prober.segment(phantom.masks["tumour"], "tumour").removals
    assert whole.removals[0].name == "tumour"
    assert whole.removals[0].probabilities == tuple(theirs.probabilities.tolist())


def test_last_probe_of_a_stream_wins(
    engine: Engine, explain: Explain, opened: ClassifierInfo, image: Volume
):
    busy = engine.start(explain(LONG))
    until(engine, busy, lambda status: status.done > 0)
    key = engine.put(image)

    def drag(number: int, stream: str) -> str:
        place = (float(number), 0.0, 0.0)
        return engine.start(ProbeRequest(opened.key, key, place, (10.0,), stream=stream))

    other = drag(0, "another panel")
    dragged = [drag(number, "a panel") for number in range(12)]
    states = [ended(engine, job).state for job in dragged]
    assert states[-1] == "done"
    assert "cancelled" in states
    assert set(states) <= {"done", "cancelled"}
    assert ended(engine, other).state == "done"
    assert engine.status(busy).state == "running"
    last = engine.result(dragged[-1])
    assert isinstance(last, ProbeResult)
    alone = done(engine, ProbeRequest(opened.key, key, (11.0, 0.0, 0.0), (10.0,)))
    assert isinstance(alone, ProbeResult)
    assert last.removals == alone.removals


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
        (probe, "The segment 'segment' lies at another place"),
        (CompareRequest(key, {"a": maps[0]}, "x", away, ("t",)), "segments lies at another place"),
        (CompareRequest(key, {"a": maps[1]}, "x", here, ("t",)), "map a lies at another place"),
    ]:
        status = ended(engine, engine.start(request))
        assert status.state == "failed"
        assert told in status.error
    assert done(engine, CompareRequest(key, {"a": maps[0]}, "x", here, ("t",)))


def test_comparison_has_the_command_lines_rows(
    engine: Engine, opened: ClassifierInfo, bundle: Path, tmp_path: Path
):
    from SaliencyExplain.cli.main import application
    from SaliencyExplain.cli.messages import run
    from SaliencyExplain.comparison.table import COLUMNS, read_comparison
    from SaliencyExplain.demo.study import write_phantom_study
    from SaliencyExplain.images.reading import read_image, read_map
    from SaliencyExplain.images.segmentation import read_segmentation

    write_phantom_study(tmp_path / "in", dimensions=3, cases=1, seed=0, marker=False)
    path = tmp_path / "in" / "phantom-001_image.nii.gz"
    truth = tmp_path / "in" / "phantom-001_mask.seg.nrrd"
    words = ["explain", path, "-c", bundle, "-m", "gradcam", "-s", truth, "-o", tmp_path / "out"]
    assert run(application, [*map(str, words), "--case", "one", "--json"]) == 0
    wanted = read_comparison(tmp_path / "out" / "comparison.csv")
    (written,) = (tmp_path / "out" / "one").glob("*gradcam*.nii.gz")
    read = read_image(path)
    segments = read_segmentation(truth, read).segments
    affine = read.affine.numpy()
    masks = np.stack([segment.mask for segment in segments]).astype(np.uint8)
    request = CompareRequest(
        volume=engine.put(Volume(read.numpy(), affine)),
        maps={wanted[0].method: engine.put(Volume(read_map(written).numpy()[0], affine))},
        target_name=wanted[0].target,
        segments=engine.put(Volume(masks, affine)),
        segment_names=tuple(segment.name for segment in segments),
        case="one",
    )
    result = done(engine, request)
    assert isinstance(result, CompareResult)
    assert set(COLUMNS) < set(result.columns)
    assert len(result.rows) == len(wanted) == 3 * len(segments)
    for ours, theirs in zip(result.rows, wanted, strict=True):
        row = theirs.as_json()
        for column in COLUMNS:
            if isinstance(row[column], float):
                assert ours[column] == pytest.approx(row[column], rel=1e-5), column
            else:
                assert ours[column] == row[column]
        assert 0 < ours["energy_chance_body"] < 1
    assert {curve.label for curve in result.curves} == {wanted[0].method, "random", "centre"}
    for curve in result.curves:
        row = next(
            r for r in result.rows if (r["method"], r["segment"]) == (curve.label, curve.segment)
        )
        share = row["energy_chance"]
        area = trapezoid(curve.share_of_segment, curve.share_of_image)
        assert area == pytest.approx(share / 2 + (1 - share) * row["auroc"], abs=1e-3)


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
    )
    result = done(engine, request)
    assert isinstance(result, CompareResult)
    assert {row["segment"] for row in result.rows} == {"tumour"}
    assert any("oedema" in note for note in result.notes)
    # Nothing undefined turns into a number on the way.
    flat = replace(
        request, maps={"flat": engine.put(Volume(np.zeros_like(map_.values), map_.affine))}
    )
    rows = done(engine, flat).rows
    assert rows[0]["hausdorff95_mm"] is None
    assert rows[0]["auroc"] == 0.5


def test_volumes_come_back_to_the_bit(engine: Engine):
    random = np.random.default_rng(0)
    affine = np.diag([0.5, -2.0, 3.25, 1.0]) + np.outer([1, 1, 1, 0], [0.1, 0, 0, 7.0])
    odd = np.array([[0.0, -0.0, np.inf], [np.nan, 1e-40, -3.0]], dtype=np.float32)
    for values in (
        random.standard_normal((2, 30, 20, 10), dtype=np.float32),
        random.integers(0, 3, (40, 30, 20), dtype=np.uint8),
        random.integers(-900, 3000, (30, 20, 10)).astype(np.float32),
        odd,
        np.asfortranarray(random.standard_normal((9, 8, 7), dtype=np.float32)),
    ):
        volume = Volume(values, affine)
        key = engine.put(volume)
        assert key == volume.hash == engine.put(volume)
        back = engine.get(key)
        assert back.values.dtype == values.dtype
        assert back.values.shape == values.shape
        assert back.values.tobytes() == np.ascontiguousarray(values).tobytes()
        assert back.affine.tobytes() == affine.tobytes()


def test_volume_is_kept_as_it_was_put(engine: Engine):
    values = np.ones((3, 4, 5), dtype=np.float32)
    key = engine.put(Volume(values, np.eye(4)))
    values[:] = 2
    assert (engine.get(key).values == 1).all()


@pytest.mark.parametrize(
    ("volume", "told"),
    [
        (Volume(np.zeros((3, 3, 3)), np.eye(4)), "float64"),
        (Volume(np.zeros((3, 3, 3), np.float32), np.zeros((4, 4))), "inverse"),
        (Volume(np.zeros((3, 3, 3), np.float32), np.full((4, 4), np.nan)), "finite"),
        (Volume(np.zeros((3, 3, 3), np.float32), np.eye(3)), "4x4"),
        (Volume(np.zeros((3, 3, 3), np.float32), np.tri(4)), "last row"),
        (Volume(np.zeros(3, np.float32), np.eye(4)), "axes"),
        (Volume(np.zeros((3, 0, 3), np.float32), np.eye(4)), "axes"),
    ],
)
def test_volumes_that_make_no_sense_are_refused(engine: Engine, volume: Volume, told: str):
    with pytest.raises(InputError, match=told) as raised:
        engine.put(volume)
    assert "\n" not in str(raised.value)


def test_what_a_caller_gets_wrong_is_told_before_the_job_waits(
    engine: Engine, explain: Explain, opened: ClassifierInfo, image: Volume
):
    good = explain(QUICK)
    nobody = "0" * 64
    for request, told in [
        (replace(good, classifier=nobody), "classifier"),
        (replace(good, volume=nobody), "volume"),
        (replace(good, methods=()), "No method"),
        (replace(good, methods=(QUICK, QUICK)), "twice"),
        (replace(good, methods=(MethodChoice("grad-cam"),)), "Did you mean 'gradcam'"),
        (replace(good, methods=(MethodChoice("gradcam", {"layer": "x"}),)), "'layers'"),
        (replace(good, methods=(MethodChoice("occlusion", {"stride_mm": "a"}),)), "number"),
        (replace(good, methods=(MethodChoice("occlusion", {"stride_mm": -1}),)), "least"),
        (replace(good, seed=-1), "seed"),
    ]:
        with pytest.raises(InputError, match=told) as raised:
            engine.start(request)
        assert "\n" not in str(raised.value)
    for ask in (engine.status, engine.result, engine.partial, engine.cancel):
        with pytest.raises(InputError, match="no job"):
            ask("0" * 32)
    with pytest.raises(InputError, match="no volume"):
        engine.get(nobody)
    assert engine.status(engine.start(good)).error == ""


def test_failed_job_says_why_in_one_line(
    engine: Engine, explain: Explain, opened: ClassifierInfo, image: Volume
):
    holes = image.values.copy()
    holes[0, 3, 3, 3] = np.nan
    two = np.concatenate([image.values, image.values])
    key = engine.put(image)
    for request, told in [
        (PredictRequest(opened.key, engine.put(Volume(holes, image.affine))), "non-finite"),
        (PredictRequest(opened.key, engine.put(Volume(two, image.affine))), "channel"),
        (PredictRequest(opened.key, engine.put(Volume(image.values[0, 0], image.affine))), "axes"),
        (explain(QUICK, target="glioma"), "glioma-like"),
        (explain(MethodChoice("gradcam", {"layers": "conv"})), "layer"),
        (ProbeRequest(opened.key, key, (500.0, 0.0, 0.0), (5.0,)), "outside"),
        (ProbeRequest(opened.key, key, (0.0, 0.0, 0.0), ()), "radii"),
        (ProbeRequest(opened.key, key), "point"),
        (ProbeRequest(opened.key, key, (0.0, 0.0, 0.0), (5.0,), fill="air"), "fill"),
        (
            CompareRequest(key, {"map": key}, "none", key, ("a",)),
            "map",
        ),
    ]:
        job = engine.start(request)
        status = ended(engine, job)
        assert status.state == "failed", (told, status)
        assert told in status.error
        assert "\n" not in status.error
        assert "Error" in status.details
        with pytest.raises(SaliencyExplainError, match=told):
            engine.result(job)
    assert isinstance(done(engine, PredictRequest(opened.key, key)), PredictResult)


def test_result_of_a_running_job_is_not_there_yet(engine: Engine, explain: Explain):
    job = engine.start(explain(LONG))
    with pytest.raises(InputError, match="not ended"):
        engine.result(job)


def test_classifier_is_described_and_known_by_its_content(
    engine: Engine, bundle: Path, classifier: Classifier, tmp_path: Path
):
    info = engine.open_classifier(str(bundle))
    assert info.key == classifier.identity
    assert info.name == "phantom-3d-honest"
    assert info.classes == classifier.classes
    assert info.channels == classifier.channels
    assert info.input_size == classifier.input_size
    assert info.spacing == classifier.spacing
    assert info.layers == tuple(classifier.network.convolutions())
    zipped = tmp_path / "another name.zip"
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in bundle.rglob("*"):
            archive.write(file, file.relative_to(bundle))
    assert engine.open_classifier(str(zipped)).key == info.key
    assert engine.open_classifier(str(bundle)) == info


def test_classifiers_that_cannot_be_had_are_told_in_one_line(
    engine: Engine, bundle: Path, tmp_path: Path, data: Path
):
    text = tmp_path / "notes.pt"
    text.write_text("no classifier")
    empty = tmp_path / "empty"
    empty.mkdir()
    for path, told in [
        (tmp_path / "nowhere", "no classifier"),
        (text, "no classifier"),
        (empty, "no MONAI bundle"),
    ]:
        with pytest.raises(ClassifierError, match=told) as raised:
            engine.open_classifier(str(path))
        assert "\n" not in str(raised.value)
        # Not the place among the server's temporary files.
        assert str(tmp_path) in str(raised.value) or str(raised.value).startswith("notes.pt ")
    with pytest.raises(ClassifierError, match="--trust"):
        engine.open_classifier(str(bundle), trust=True)
    with pytest.raises(InputError, match="outside the folders"):
        engine.open_classifier(str(bundle), on_server=True)
    link = data / "linked classifier"
    if not link.is_symlink():
        link.symlink_to(bundle)
    with pytest.raises(InputError, match="outside the folders"):
        engine.open_classifier(str(link), on_server=True)


def test_classifier_on_the_engines_own_disk(engine: Engine, bundle: Path, data: Path):
    import shutil

    place = data / "own classifier"
    if not place.exists():
        shutil.copytree(bundle, place)
    opened = engine.open_classifier(str(place), on_server=True)
    assert opened.name == "own classifier"


def test_two_dimensions(engine: Engine):
    from SaliencyExplain.classifiers.loading import load_classifier
    from SaliencyExplain.demo.study import classifier_folder

    folder = classifier_folder("phantom-2d-honest")
    info = engine.open_classifier(str(folder))
    assert info.spatial_dims == 2
    phantom = draw_phantom(GLIOMA, STUDY_SEEDS + 9, dimensions=2)
    picture = volume_of(phantom)
    key = engine.put(picture)
    predicted = done(engine, PredictRequest(info.key, key))
    assert predicted.probabilities == tuple(load_classifier(folder).predict(phantom.image).tolist())
    explained = done(engine, ExplainRequest(info.key, key, (QUICK,)))
    assert engine.get(explained.maps[0].volume).values.shape == picture.values.shape[1:]


def test_probabilities_stay_numbers(engine: Engine, opened: ClassifierInfo, image: Volume):
    result = done(engine, PredictRequest(opened.key, engine.put(image)))
    assert math.isclose(sum(result.probabilities), 1.0, rel_tol=1e-6)
