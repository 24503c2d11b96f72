"""A map is evaluated again from what is known of it, in this process and over HTTP alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from SaliencyExplain.engine.client.repeat_request import evaluation_of_map
from SaliencyExplain.engine.interface import ClassifierInfo, Engine
from SaliencyExplain.engine.wire.requests import EvaluationRequest
from SaliencyExplain.engine.wire.results import EvaluationResult
from SaliencyExplain.errors import InputError
from SaliencyExplain.results.attribution_map import Attribution
from SaliencyExplain.specification.spec import NO_REFERENCES, MethodChoice, References
from SaliencyExplain.voxel_volume import Volume
from Testing.engine.conftest import QUICK, Explain, done, ended
from Testing.study.conftest import ball
from Testing.study.conftest import bundle as bundle  # a small network: whole evaluations are quick

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
#: Cheap methods that weigh segments, and that have backgrounds.
SHAPLEY = MethodChoice("shapley", {"regions": "segments"})
EXPECTED = MethodChoice("expected-gradients", {"samples": 2})


@pytest.fixture(scope="module")
def image() -> Volume:
    """Noise with a bright ball."""
    return volume_with_a_ball(1)


def volume_with_a_ball(seed: int) -> Volume:
    return Volume(ball(seed)[0][None], AFFINE)


@pytest.fixture
def again(opened: ClassifierInfo, explain: Explain) -> Callable[..., EvaluationRequest]:
    """Asks for the evaluation of a map from what is known of it, with the least cost."""

    def make(map_: Attribution, references: References = NO_REFERENCES) -> EvaluationRequest:
        return evaluation_of_map(
            explain(QUICK).volume,
            opened,
            method=map_.method,
            target_name=map_.target_name,
            parameters=map_.parameters,
            provenance=map_.provenance,
            image_name="a ball",
            passes=1.0,
            references=references,
        )

    return make


@pytest.mark.slow
def test_a_map_is_evaluated_from_what_is_known_of_it(
    engine: Engine, explain: Explain, again: Callable[..., EvaluationRequest]
):
    predicted = done(engine, explain(QUICK)).attributions[0].target_name
    (other,) = {"no tumour", "tumour"} - {predicted}
    method = MethodChoice("gradcam", {"layers": ["features.conv0"]})
    (map_,) = done(engine, explain(method, target=other, seed=9)).attributions
    request = again(map_)
    result = done(engine, request)
    assert isinstance(result, EvaluationResult)
    assert [one.label for one in result.evaluation.maps] == [map_.label]
    assert (result.evaluation.target_name, request.explain.spec.seed) == (other, 9)
    with pytest.raises(InputError, match="open that classifier"):
        again(replace(map_, provenance={**map_.provenance, "classifier_sha256": "0" * 64}))


@pytest.mark.slow
def test_a_map_of_segments_is_evaluated_with_those_that_it_was_computed_with(
    engine: Engine,
    explain: Explain,
    again: Callable[..., EvaluationRequest],
):
    _values, mass = ball(1)
    masks = Volume(np.stack([mass, 1 - mass]), AFFINE)
    given = References(engine.put(masks), ("mass", "rest"))
    (map_,) = done(engine, explain(SHAPLEY, references=given)).attributions
    result = done(engine, again(map_, given))
    assert isinstance(result, EvaluationResult)
    assert not any("not known" in note for note in result.evaluation.notes)

    moved = Volume(np.roll(masks.values, 3, axis=1), AFFINE)
    for other in (
        References(engine.put(moved), ("mass", "rest")),
        References(given.segmentation, ("rest", "mass")),
        NO_REFERENCES,
    ):
        status = ended(engine, engine.start(again(map_, other)))
        assert status.state == "failed"
        assert "computed with other segments" in status.error

    # A study of before says nothing of its segments.
    provenance = {k: v for k, v in map_.provenance.items() if k != "segments_sha256"}
    result = done(engine, again(replace(map_, provenance=provenance), given))
    assert any("segments of the map are not recorded" in n for n in result.evaluation.notes)


@pytest.mark.slow
def test_a_map_that_weighs_no_segments_is_evaluated_with_any(
    engine: Engine, explain: Explain, again: Callable[..., EvaluationRequest]
):
    (map_,) = done(engine, explain(QUICK)).attributions
    masks = Volume(ball(1)[1][None], AFFINE)
    result = done(engine, again(map_, References(engine.put(masks), ("mass",))))
    assert isinstance(result, EvaluationResult)
    assert not any("not known" in note for note in result.evaluation.notes)


@pytest.mark.slow
def test_a_map_with_backgrounds_is_evaluated_with_those_that_it_was_computed_with(
    engine: Engine, explain: Explain, again: Callable[..., EvaluationRequest]
):
    one, other = (engine.put(volume_with_a_ball(seed)) for seed in (6, 7))
    (map_,) = done(
        engine, explain(EXPECTED, references=References(backgrounds=(one,)))
    ).attributions
    assert isinstance(done(engine, again(map_, References(backgrounds=(one,)))), EvaluationResult)
    status = ended(engine, engine.start(again(map_, References(backgrounds=(one, other)))))
    assert "computed with other backgrounds" in status.error
