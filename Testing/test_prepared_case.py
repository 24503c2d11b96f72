"""A prepared case is a value: what is computed on it leaves it, and its prediction, as they are."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import SaliencyExplain as se
from SaliencyExplain.attribution.method_selection import select_methods
from SaliencyExplain.errors import ErrorCode
from SaliencyExplain.evaluation.image.map_evaluation import evaluate_maps
from SaliencyExplain.explanation import prepared_case
from SaliencyExplain.explanation.compute import Compute
from SaliencyExplain.explanation.explain import explain
from SaliencyExplain.explanation.loaded_references import LoadedReferences
from SaliencyExplain.explanation.method_costs import estimate
from SaliencyExplain.explanation.prepared_case import PreparedCase, prepare
from SaliencyExplain.explanation.probing import Prober
from SaliencyExplain.images.segmentation import Segment, Segmentation
from SaliencyExplain.specification.spec import Limits
from Testing.corner_classifier import AFFINE, CornerBrightness, bright_image, corner_classifier
from Testing.expected_errors import error_with


def octants(*names: str) -> Segmentation:
    segments = []
    for number, name in enumerate(names):
        mask = np.zeros((20, 24, 16), bool)
        mask[number * 8 : number * 8 + 6, 3:12, 3:12] = True
        segments.append(Segment(name, (1.0, 0.0, 0.0), mask))
    return Segmentation(tuple(segments), AFFINE, ())


def fingerprint(case: PreparedCase) -> dict[str, object]:
    """What a case holds, tensors by their bytes."""
    found: dict[str, object] = {}
    for field in dataclasses.fields(case):
        value = getattr(case, field.name)
        found[field.name] = value.numpy().tobytes() if isinstance(value, torch.Tensor) else value
    return found


@pytest.fixture
def case() -> PreparedCase:
    limits = Limits(seconds=0.0)
    return prepare(
        bright_image(),
        corner_classifier(),
        "corner",
        Compute("cpu", limits),
        LoadedReferences(octants("a"), (bright_image(),)),
    )


def test_what_is_computed_on_a_case_does_not_change_it(case: PreparedCase) -> None:
    before = fingerprint(case)
    # Without time, with a method that fails: as many notes, timings and failures as there can be.
    done = explain(case, select_methods(["occlusion", "cam"], ["occlusion.window_mm=12"]))
    assert len(done.notes) > len(case.notes)
    assert set(done.timings) > set(case.timings)
    evaluate_maps(case, select_methods(["gradient"]), parts=["stability"], budget=1.0)
    Prober(case).at((0.0, 0.0, 20.0), [5.0])
    estimate(case, select_methods(["gradient"]))
    assert fingerprint(case) == before
    with pytest.raises(dataclasses.FrozenInstanceError):
        case.notes = ()  # type: ignore[misc]


def test_two_runs_of_a_case_are_two_equal_explanations(case: PreparedCase) -> None:
    methods = select_methods(["smoothgrad"], ["smoothgrad.samples=2"])
    endless = dataclasses.replace(case, compute=Compute("cpu"))
    first, second = (explain(endless, methods, seed=4) for _ in range(2))
    assert first.attributions[0].values.tobytes() == second.attributions[0].values.tobytes()
    assert first.notes == second.notes


def test_other_references_share_the_prediction(case: PreparedCase) -> None:
    other = case.with_references(octants("b", "c"))
    assert other.prediction is case.prediction
    assert other.input is case.input
    assert other.backgrounds is case.backgrounds
    assert other.task().region_names == ("b", "c")
    assert other.task().regions is not None
    assert int(other.task().regions.max()) == 2
    assert case.task().region_names == ("a",)
    nothing = case.with_references(None, ())
    assert nothing.task().regions is nothing.task().backgrounds is None


def test_a_background_of_another_grid_is_refused(case: PreparedCase) -> None:
    wide = bright_image(np.diag([-4.0, 1.5, 3.0, 1.0]))
    with error_with(ErrorCode.BACKGROUNDS, "bright"):
        case.with_references(None, (wide,))


def test_an_image_is_predicted_once_for_its_maps_and_their_evaluation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    predicted = []
    predict_input = prepared_case.predict_input

    def counted(*given):  # type: ignore[no-untyped-def]
        predicted.append(given)
        return predict_input(*given)

    monkeypatch.setattr(prepared_case, "predict_input", counted)
    image = (bright_image()[0].numpy(), AFFINE)
    result = se.explain(image, corner_classifier(CornerBrightness()), "gradient", progress=False)
    mask = octants("a").segments[0].mask
    for segmentation in (None, {"a": mask}, {"b": ~mask}):
        found = se.evaluate(
            result, segmentation, parts=["stability"], cost_tier="least", progress=False
        )
        assert bool(found.maps[0].rows) == (segmentation is not None)
    assert len(predicted) == 1
