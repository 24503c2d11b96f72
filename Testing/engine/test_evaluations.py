"""The evaluation of maps as every engine makes it, in this process and over HTTP alike."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from SaliencyExplain.attribution.methods.cam import GradCAM
from SaliencyExplain.demo.phantoms import Phantom
from SaliencyExplain.engine.interface import Engine
from SaliencyExplain.engine.queue.volume_images import image_of
from SaliencyExplain.engine.wire.requests import EvaluationRequest
from SaliencyExplain.engine.wire.results import EvaluationResult
from SaliencyExplain.errors import Cancelled
from SaliencyExplain.evaluation.image.evaluated_maps import EvaluatedMaps
from SaliencyExplain.evaluation.image.map_evaluation import evaluate_maps
from SaliencyExplain.evaluation.image.trust_card import card_png
from SaliencyExplain.explanation.compute import Compute
from SaliencyExplain.explanation.loaded_references import LoadedReferences
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.images.segment_labels import PALETTE
from SaliencyExplain.images.segmentation import Segment, Segmentation
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.specification.spec import Limits, References
from SaliencyExplain.voxel_volume import Volume
from Testing.engine.conftest import LONG, QUICK, Explain, done, ended, until


@pytest.fixture(scope="module")
def directly(classifier: Classifier, image: Volume, phantom: Phantom) -> EvaluatedMaps:
    """What the library finds of Grad-CAM's map."""
    tumour = phantom.masks["tumour"]
    case = prepare(
        image_of(image, "a phantom"),
        classifier,
        "meningioma-like",
        Compute("cpu"),
        LoadedReferences(Segmentation((Segment("mass", PALETTE[0], tumour),), image.affine, ())),
    )
    return evaluate_maps(case, [GradCAM()], seed=3)


@pytest.mark.slow
def test_evaluation_equals_the_librarys(
    engine: Engine,
    explain: Explain,
    image: Volume,
    phantom: Phantom,
    directly: EvaluatedMaps,
):
    direct = directly.evaluation
    asked = explain(
        QUICK,
        target="meningioma-like",
        seed=3,
        image_name="a phantom",
        limits=Limits(passes=None),
        references=References(
            engine.put(Volume(phantom.masks["tumour"][None].astype(np.uint8), image.affine)),
            ("mass",),
        ),
    )
    same = direct.image_sha256
    result = done(engine, EvaluationRequest(asked, image_sha256=same))
    assert isinstance(result, EvaluationResult)
    evaluation = result.evaluation
    (ours,), (theirs,) = evaluation.maps, direct.maps
    assert (evaluation.target_name, evaluation.cost_tier) == ("meningioma-like", "full")
    assert evaluation.forward_passes == direct.forward_passes
    assert ours.label == theirs.label
    assert ours.answers == theirs.answers
    assert [answer.topic for answer in ours.answers] == [
        "beats chance",
        "depends on the weights",
        "stable",
        "on the mass",
    ]
    deletion = next(curve for curve in ours.curves if curve.name == "deletion")
    # How many images fit into a batch follows the free memory, and with it the last digits.
    assert deletion.ys == pytest.approx(theirs.faithfulness.curves.deletion, abs=1e-5)
    assert deletion.null_median == pytest.approx(theirs.faithfulness.null_deletion[1], abs=1e-5)
    weights = next(curve for curve in ours.curves if curve.name == "weights")
    # A map that random weights make constant is like no other: not a number on both sides.
    alike = [stage.similarity.alike for stage in theirs.sanity.cascading]
    assert weights.ys[1:] == pytest.approx(alike, abs=1e-4, nan_ok=True)
    metric = ours.faithfulness.metric("deletion_area")
    assert metric.value == pytest.approx(theirs.faithfulness.curves.deletion_area, abs=1e-5)
    # The tumour is what this classifier uses: taking it away is noticed, a random place is not.
    assert metric.value < np.mean(metric.null_values)
    assert (
        base64.b64decode(result.cards[ours.label])[:4]
        == card_png(directly, theirs)[:4]
        == b"\x89PNG"
    )


@pytest.mark.slow
def test_evaluation_keeps_to_its_budget_tells_its_progress_and_is_cancelled(
    engine: Engine, explain: Explain
):
    # The whole evaluation of this map takes about 760 forward passes, the least one 714.
    result = done(engine, EvaluationRequest(explain(QUICK, limits=Limits(passes=720))))
    assert isinstance(result, EvaluationResult)
    assert result.evaluation.cost_tier == "least"
    assert result.evaluation.forward_passes <= 720
    assert any("for the budget of 720 forward passes" in note for note in result.evaluation.notes)
    job = engine.start(EvaluationRequest(explain(LONG, limits=Limits(passes=1e9))))
    status = until(engine, job, lambda status: status.done > 0)
    assert "Occlusion" in status.doing
    assert status.total > 60_000
    engine.cancel(job)
    assert ended(engine, job).state == "cancelled"
    with pytest.raises(Cancelled):
        engine.result(job)


def test_evaluation_of_a_map_of_another_image_is_refused(engine: Engine, explain: Explain):
    job = engine.start(EvaluationRequest(explain(QUICK), image_sha256="0" * 64))
    status = ended(engine, job)
    assert status.state == "failed"
    assert "other voxels" in status.error
