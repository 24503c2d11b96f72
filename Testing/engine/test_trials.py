"""The trial of maps as every engine makes it, in this process and over HTTP alike."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from SaliencyExplain.attribution.cam import GradCAM
from SaliencyExplain.classifiers.classifier import Classifier
from SaliencyExplain.demo.phantoms import Phantom, draw_phantom
from SaliencyExplain.demo.study import STUDY_SEEDS
from SaliencyExplain.demo.tumours import NO_TUMOUR
from SaliencyExplain.engine.again import trial_of_map
from SaliencyExplain.engine.answers import image_of
from SaliencyExplain.engine.interface import ClassifierInfo, Engine
from SaliencyExplain.engine.requests import ExplainRequest, MethodChoice, TrialRequest
from SaliencyExplain.engine.results import MapResult, TrialResult
from SaliencyExplain.engine.volumes import Volume
from SaliencyExplain.errors import Cancelled, InputError
from SaliencyExplain.faithfulness.card import card_png
from SaliencyExplain.faithfulness.trial import trial
from SaliencyExplain.images.labels import PALETTE
from SaliencyExplain.images.segmentation import Segment, Segmentation
from SaliencyExplain.question import Compute, Given, Question
from SaliencyExplain.trial_words import topic
from Testing.engine.conftest import LONG, QUICK, done, ended, until, volume_of

Explain = Callable[..., ExplainRequest]


def test_trial_equals_the_librarys(
    engine: Engine, explain: Explain, classifier: Classifier, image: Volume, phantom: Phantom
):
    tumour = phantom.masks["tumour"]
    question = Question(
        image_of(image, "a phantom"),
        classifier,
        "meningioma-like",
        Compute("cpu"),
        Given(Segmentation((Segment("mass", PALETTE[0], tumour),), image.affine, ())),
    )
    direct = trial(question, [GradCAM()], parts=["faithfulness"], seed=3)
    asked = explain(
        QUICK,
        target="meningioma-like",
        seed=3,
        image_name="a phantom",
        segments=engine.put(Volume(tumour[None].astype(np.uint8), image.affine)),
        segment_names=("mass",),
    )
    same = direct.image_sha256
    result = done(engine, TrialRequest(asked, parts=("faithfulness",), image_sha256=same))
    assert isinstance(result, TrialResult)
    (ours,), (theirs,) = result.maps, direct.maps
    assert (result.target_name, result.effort) == ("meningioma-like", "full")
    assert result.forward_passes == direct.forward_passes
    assert (ours.label, ours.title) == (theirs.label, "Grad-CAM")
    assert [dataclasses.asdict(verdict) for verdict in ours.verdicts] == [
        {"topic": topic(verdict.question), **dataclasses.asdict(verdict)}
        for verdict in theirs.verdicts
    ]
    assert [verdict.topic for verdict in ours.verdicts] == [
        "beats chance",
        "depends on the weights",
        "stable",
        "on the mass",
    ]
    deletion = next(curve for curve in ours.curves if curve.name == "deletion")
    assert deletion.ys == theirs.faithfulness.curves.deletion
    assert deletion.chance == theirs.faithfulness.chance_deletion[1]
    figure = next(figure for figure in ours.figures if figure.name == "deletion_area")
    assert figure.value == theirs.faithfulness.curves.deletion_area
    # The tumour is what this classifier uses: taking it away is noticed, a random place is not.
    assert figure.value < figure.chance
    assert base64.b64decode(ours.card) == card_png(direct, theirs, question)


def test_trial_keeps_to_its_budget_tells_its_progress_and_is_cancelled(
    engine: Engine, explain: Explain
):
    request = TrialRequest(explain(QUICK), parts=("sanity", "stability"), budget=20)
    result = done(engine, request)
    assert isinstance(result, TrialResult)
    assert result.effort == "least"
    assert result.forward_passes <= 20
    assert result.maps[0].verdicts[0].answer == "not known"
    job = engine.start(TrialRequest(explain(LONG), budget=1e9))
    status = until(engine, job, lambda status: status.done > 0)
    assert "tries Occlusion" in status.doing
    assert status.total > 60_000
    engine.cancel(job)
    assert ended(engine, job).state == "cancelled"
    with pytest.raises(Cancelled):
        engine.result(job)


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"parts": ("sanety",)}, "Did you mean 'sanity'"), ({"budget": 0.0}, "1 forward pass")],
)
def test_trial_that_cannot_be_made_is_refused_at_once(
    engine: Engine, explain: Explain, settings: dict[str, object], words: str
):
    with pytest.raises(InputError, match=words):
        engine.start(TrialRequest(explain(QUICK), **settings))


def test_trial_of_a_map_of_another_image_is_refused(engine: Engine, explain: Explain):
    job = engine.start(TrialRequest(explain(QUICK), image_sha256="0" * 64))
    status = ended(engine, job)
    assert status.state == "failed"
    assert "other voxels" in status.error


def test_a_map_is_tried_again_from_what_is_known_of_it(
    engine: Engine, opened: ClassifierInfo, explain: Explain
):
    method = MethodChoice("gradcam", {"layers": ["features.transition1.conv"]})
    (map_,) = done(engine, explain(method, target="glioma-like", seed=9)).maps

    def again(provenance: dict[str, object]) -> TrialRequest:
        return trial_of_map(
            explain(QUICK).volume,
            opened,
            method=map_.method,
            target_name=map_.target_name,
            parameters=map_.parameters,
            provenance=provenance,
            image_name="a phantom",
            budget=5.0,
        )

    result = done(engine, replace(again(map_.provenance), parts=("sanity",)))
    assert isinstance(result, TrialResult)
    assert [one.label for one in result.maps] == [map_.label]
    assert (result.target_name, again(map_.provenance).explain.seed) == ("glioma-like", 9)
    with pytest.raises(InputError, match="open that classifier"):
        again({**map_.provenance, "classifier_sha256": "0" * 64})


#: Cheap methods that weigh segments, and that have backgrounds.
SHAPLEY = MethodChoice("shapley", {"regions": "segments"})
EXPECTED = MethodChoice("expected-gradients", {"samples": 2})


@pytest.fixture
def again(opened: ClassifierInfo, explain: Explain) -> Callable[..., TrialRequest]:
    """Asks for the trial of a map from what is known of it, its weights alone."""

    def make(map_: MapResult, **given: object) -> TrialRequest:
        request = trial_of_map(
            explain(QUICK).volume,
            opened,
            method=map_.method,
            target_name=map_.target_name,
            parameters=map_.parameters,
            provenance=map_.provenance,
            image_name="a phantom",
            budget=1.0,
            **given,
        )
        return replace(request, parts=("sanity",))

    return make


def test_a_map_of_segments_is_tried_with_those_that_it_was_computed_with(
    engine: Engine,
    explain: Explain,
    again: Callable[..., TrialRequest],
    image: Volume,
    phantom: Phantom,
):
    tumour = phantom.masks["tumour"]
    masks = Volume(np.stack([tumour, ~tumour]).astype(np.uint8), image.affine)
    given = {"segments": engine.put(masks), "segment_names": ("mass", "rest")}
    (map_,) = done(engine, explain(SHAPLEY, **given)).maps
    result = done(engine, again(map_, **given))
    assert isinstance(result, TrialResult)
    assert not any("not known" in note for note in result.notes)

    moved = Volume(np.roll(masks.values, 3, axis=1), image.affine)
    for other in (
        {"segments": engine.put(moved), "segment_names": ("mass", "rest")},
        {"segments": given["segments"], "segment_names": ("rest", "mass")},
        {},
    ):
        status = ended(engine, engine.start(again(map_, **other)))
        assert status.state == "failed"
        assert "computed with other segments" in status.error

    # A study of before says nothing of its segments.
    provenance = {k: v for k, v in map_.provenance.items() if k != "segments_sha256"}
    result = done(engine, again(replace(map_, provenance=provenance), **given))
    assert any("with which segments the map was computed is not known" in n for n in result.notes)


def test_a_map_that_weighs_no_segments_is_tried_with_any(
    engine: Engine, explain: Explain, again: Callable[..., TrialRequest], image: Volume,
    phantom: Phantom,
):  # fmt: skip
    (map_,) = done(engine, explain(QUICK)).maps
    masks = Volume(phantom.masks["tumour"][None].astype(np.uint8), image.affine)
    result = done(engine, again(map_, segments=engine.put(masks), segment_names=("mass",)))
    assert isinstance(result, TrialResult)
    assert not any("not known" in note for note in result.notes)


def test_a_map_with_backgrounds_is_tried_with_those_that_it_was_computed_with(
    engine: Engine, explain: Explain, again: Callable[..., TrialRequest]
):
    one, other = (engine.put(volume_of(draw_phantom(NO_TUMOUR, STUDY_SEEDS + n))) for n in (6, 7))
    (map_,) = done(engine, explain(EXPECTED, backgrounds=(one,))).maps
    assert isinstance(done(engine, again(map_, backgrounds=(one,))), TrialResult)
    status = ended(engine, engine.start(again(map_, backgrounds=(one, other))))
    assert "computed with other backgrounds" in status.error
