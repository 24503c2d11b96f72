"""Clicks that every engine answers: as the library, at once, the last one wins."""

from __future__ import annotations

import numpy as np

from SaliencyExplain.demo.phantoms import Phantom
from SaliencyExplain.engine.interface import ClassifierInfo, Engine
from SaliencyExplain.engine.wire.requests import ProbeRequest
from SaliencyExplain.explanation.compute import Compute
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.explanation.probing import Prober
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.probe_result import Probe
from SaliencyExplain.results.image_explanation import Explanation
from SaliencyExplain.voxel_volume import Volume
from Testing.comparing import assert_same
from Testing.engine.conftest import LONG, MIDDLE, Explain, done, ended, until


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
    assert isinstance(balls, Probe)
    prober = Prober(prepare(phantom.image, classifier, compute=Compute("cpu")), fill="minimum")
    direct = prober.at(point, (5.0, 10.0, 20.0))
    assert_same(balls.before, direct.before)
    for ours, theirs in zip(balls.removals, direct.removals, strict=True):
        assert (ours.name, ours.radius_mm, ours.voxels) == (
            theirs.name,
            theirs.radius_mm,
            theirs.voxels,
        )
        assert_same(ours.probabilities, theirs.probabilities)

    mask = Volume(phantom.masks["tumour"].astype(np.uint8), image.affine)
    request = ProbeRequest(
        opened.key, key, segment=engine.put(mask), segment_name="tumour", fill="minimum"
    )
    whole = done(engine, request)
    assert isinstance(whole, Probe)
    (theirs,) = prober.segment(phantom.masks["tumour"], "tumour").removals
    assert whole.removals[0].name == "tumour"
    assert_same(whole.removals[0].probabilities, theirs.probabilities)


def test_click_is_answered_in_a_pause_and_changes_nothing(
    engine: Engine, explain: Explain, opened: ClassifierInfo, image: Volume
):
    click = ProbeRequest(opened.key, engine.put(image), (0.0, 0.0, 0.0), (10.0,))
    long = engine.start(explain(LONG))
    until(engine, long, lambda status: status.done > 0)
    answer = done(engine, click)
    assert engine.status(long).state == "running"
    engine.cancel(long)
    ended(engine, long)
    alone = done(engine, explain(MIDDLE))
    job = engine.start(explain(MIDDLE))
    until(engine, job, lambda status: status.done > 0)
    done(engine, click)
    assert ended(engine, job).state == "done"
    disturbed = engine.result(job)
    assert isinstance(alone, Explanation)
    assert isinstance(disturbed, Explanation)
    assert_same(disturbed.attributions[0].values, alone.attributions[0].values)
    assert isinstance(answer, Probe)
    again = done(engine, click)
    assert isinstance(again, Probe)
    assert_same(again.removals[0].probabilities, answer.removals[0].probabilities)


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
    assert isinstance(last, Probe)
    alone = done(engine, ProbeRequest(opened.key, key, (11.0, 0.0, 0.0), (10.0,)))
    assert isinstance(alone, Probe)
    assert_same(last.removals[0].probabilities, alone.removals[0].probabilities)
