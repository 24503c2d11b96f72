"""Jobs of every engine: they grow, wait, end early, are cancelled and fail."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from SaliencyExplain.engine.interface import ClassifierInfo, Engine
from SaliencyExplain.engine.wire.requests import (
    CompareRequest,
    ExplainRequest,
    PredictRequest,
    ProbeRequest,
)
from SaliencyExplain.errors import Cancelled, InputError, SaliencyExplainError
from SaliencyExplain.results.class_prediction import Prediction
from SaliencyExplain.results.image_explanation import Explanation
from SaliencyExplain.specification.spec import Limits, MethodChoice
from SaliencyExplain.voxel_volume import Volume
from Testing.engine.conftest import LONG, MIDDLE, QUICK, Explain, done, ended, until


def changed(request: ExplainRequest, **fields: object) -> ExplainRequest:
    """The request with other fields of its specification."""
    return replace(request, spec=replace(request.spec, **fields))


@pytest.mark.slow
def test_map_grows_while_it_is_computed(engine: Engine, explain: Explain):
    # It takes minutes, so that a client that is slow to ask sees several partial maps.
    shares, passes, left, words = [], [], [], []
    job = engine.start(explain(LONG))
    seen = 0
    status = engine.status(job)
    while len(shares) < 3 or not left:
        assert status.state in ("waiting", "running"), status
        passes.append(status.done)
        words.append(status.doing)
        if status.seconds_left is not None:
            left.append(status.seconds_left)
        if status.partial > seen:
            seen = status.partial
            partial = engine.partial(job)
            assert partial is not None
            volume = partial.attributions[0]
            assert volume.values.any()
            shares.append(partial.attributions[0].share_done)
        status = engine.status(job, seen=status.version, wait=5.0)
    assert shares == sorted(shares)
    assert passes == sorted(passes)
    assert shares[-1] < 1
    assert any("Occlusion" in text for text in words)
    assert left
    assert min(left) >= 0
    engine.cancel(job)
    ended(engine, job)


def test_last_partial_map_is_the_result(engine: Engine, explain: Explain):
    job = engine.start(explain(MIDDLE))
    status = ended(engine, job)
    assert status.state == "done", status
    assert status.done == status.total > 100
    final = engine.result(job)
    assert isinstance(final, Explanation)
    assert final.attributions[0].share_done == 1
    last = engine.partial(job)
    assert last is not None
    assert last.attributions[0] == final.attributions[0]


def test_budget_gives_the_best_map_so_far(engine: Engine, explain: Explain):
    result = done(engine, explain(MIDDLE, limits=Limits(seconds=0.2)))
    assert isinstance(result, Explanation)
    assert 0 < result.attributions[0].share_done < 1
    assert any("budget" in note for note in result.notes)


def test_cancelled_job_stops_soon_and_the_next_one_runs(
    engine: Engine, explain: Explain, opened: ClassifierInfo, image: Volume
):
    job = engine.start(explain(LONG))
    until(engine, job, lambda status: status.done > 0)
    engine.cancel(job)
    status = ended(engine, job)
    assert status.state == "cancelled"
    # The rest, which would take minutes, was not computed.
    assert status.done < status.total / 2
    with pytest.raises(Cancelled):
        engine.result(job)
    assert engine.partial(job) is None
    engine.cancel(job)
    assert engine.status(job).state == "cancelled"
    assert isinstance(done(engine, PredictRequest(opened.key, engine.put(image))), Prediction)


def test_jobs_wait_in_line_and_see_their_place(engine: Engine, explain: Explain):
    first, second, third = (engine.start(explain(LONG, seed=seed)) for seed in range(3))
    until(engine, first, lambda status: status.state == "running")
    waiting = engine.status(third)
    assert (engine.status(second).place, waiting.place) == (1, 2)
    assert "running explain" in waiting.doing
    assert [status.job for status in engine.jobs()][-3:] == [first, second, third]
    assert engine.about().jobs == 3
    engine.cancel(second)
    until(engine, third, lambda status: status.place == 1)
    assert engine.status(second).state == "cancelled"
    engine.cancel(first)
    assert until(engine, third, lambda status: status.state == "running").place == 0
    assert engine.status(first).state == "cancelled"


def test_result_of_a_running_job_is_not_there_yet(engine: Engine, explain: Explain):
    job = engine.start(explain(LONG))
    with pytest.raises(InputError, match="not ended"):
        engine.result(job)


def test_what_a_caller_gets_wrong_is_told_before_the_job_waits(
    engine: Engine, explain: Explain, opened: ClassifierInfo, image: Volume
):
    good = explain(QUICK)
    nobody = "0" * 64
    for request, told in [
        (replace(good, classifier=nobody), "classifier"),
        (replace(good, volume=nobody), "volume"),
        (changed(good, methods=()), "none was given"),
        (changed(good, methods=(QUICK, QUICK)), "twice"),
        (changed(good, methods=(MethodChoice("grad-cam"),)), "Did you mean 'gradcam'"),
        (changed(good, methods=(MethodChoice("gradcam", {"layer": "x"}),)), "'layers'"),
        (changed(good, methods=(MethodChoice("occlusion", {"stride_mm": "a"}),)), "number"),
        (changed(good, methods=(MethodChoice("occlusion", {"stride_mm": -1}),)), "least"),
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
    assert isinstance(done(engine, PredictRequest(opened.key, key)), Prediction)
