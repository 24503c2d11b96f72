"""One method's failure costs that method alone, wherever several methods are asked."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from monai.transforms import Compose
from torch import Tensor, nn

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.attribution.method_selection import select_methods
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.engine.wire.serialisation import made, parse_json, to_json
from SaliencyExplain.errors import Cancelled, DeviceMemoryError, ErrorCode, InputError
from SaliencyExplain.evaluation.image.map_evaluation import evaluate_maps
from SaliencyExplain.explanation.explain import explain
from SaliencyExplain.explanation.method_costs import estimate
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.images.reading import to_image
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.results.image_explanation import Explanation
from Testing.comparing import assert_same


@dataclass(frozen=True)
class Fails(Method):
    """Fails while it computes, with an error of choice; not in the registry's packages."""

    name: ClassVar[str] = "fails"
    family: ClassVar[str] = "gradient"
    title: ClassVar[str] = "Fails"
    source: ClassVar[str] = "none"
    signed: ClassVar[bool] = True

    def attribute(self, task: Task) -> dict[str, Tensor]:
        raise ERRORS[0]

    def forward_passes(self, task: Task) -> float:
        return 1.0


ERRORS: list[Exception] = []


@pytest.fixture
def classifier() -> Classifier:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 2),
    )
    return Classifier(
        name="small",
        classes=("no", "yes"),
        channels=("image",),
        spatial_dims=2,
        network=ScoreNetwork(network).eval().requires_grad_(False),
        preprocessing=Compose([]),
        identity="0" * 64,
        source=Path("small"),
    )


@pytest.fixture
def image():
    values = np.random.default_rng(0).random((1, 24, 24), dtype=np.float32)
    return to_image(values, np.eye(4), name="image")


def test_the_others_go_on_and_give_what_they_give_alone(classifier, image):
    # CAM wants a mean before the last layer, Deep SHAP wants backgrounds: one cannot be
    # computed, the other not even costed.
    methods = select_methods(["cam", "gradient", "deepshap", "gradcam"])
    done = explain(prepare(image, classifier, "yes"), methods)
    assert [one.method for one in done.attributions] == ["gradient", "gradcam"]
    assert {(one.method, one.code) for one in done.failures} == {
        ("cam", ErrorCode.METHOD_NETWORK.value),
        ("deepshap", ErrorCode.BACKGROUNDS.value),
    }
    for found in done.attributions:
        (alone,) = explain(
            prepare(image, classifier, "yes"), select_methods([found.method])
        ).attributions
        assert_same(found.values, alone.values)


def test_a_layer_that_one_method_cannot_have_costs_no_other_method(classifier, image):
    # They share a pass; in it the layer of one of them is no feature map.
    methods = [*select_methods(["gradcam"], [], ["4"]), *select_methods(["gradient"])]
    done = explain(prepare(image, classifier), methods)
    assert [one.method for one in done.attributions] == ["gradient"]
    assert [one.code for one in done.failures] == [ErrorCode.LAYER_UNSUITABLE.value]


def test_what_cannot_be_costed_does_not_take_the_estimate_down(classifier, image):
    both = estimate(prepare(image, classifier), select_methods(["deepshap", "gradient"]))
    alone = estimate(prepare(image, classifier), select_methods(["gradient"]))
    # A cost in passes counts what is computed beside the network by the time of one pass.
    assert both.forward_passes == pytest.approx(alone.forward_passes, rel=0.5)
    with pytest.raises(InputError) as error:
        estimate(prepare(image, classifier), select_methods(["deepshap"]))
    assert error.value.code is ErrorCode.BACKGROUNDS


def test_where_all_fail_the_first_error_is_raised(classifier, image):
    with pytest.raises(InputError) as error:
        explain(prepare(image, classifier), select_methods(["cam", "deepshap"]))
    # Costs come first: what cannot be costed fails before the others begin.
    assert error.value.code is ErrorCode.BACKGROUNDS


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DeviceMemoryError(ErrorCode.MEMORY, "Too much."), ErrorCode.MEMORY),
        (RuntimeError("mat1 and\nmat2"), ErrorCode.JOB_FAILED),
        (KeyError("x"), ErrorCode.JOB_FAILED),
    ],
)
def test_unforeseen_errors_cost_no_other_method_either(classifier, image, error, code):
    ERRORS[:] = [error]
    done = explain(prepare(image, classifier), [Fails(), *select_methods(["gradient"])])
    assert [one.method for one in done.attributions] == ["gradient"]
    (failure,) = done.failures
    assert (failure.method, failure.code) == ("fails", code.value)
    assert "\n" not in failure.line


def test_a_cancel_is_no_failure(classifier, image):
    ERRORS[:] = [Cancelled()]
    with pytest.raises(Cancelled):
        explain(prepare(image, classifier), [*select_methods(["gradient"]), Fails()])


def test_an_evaluation_is_of_the_maps_that_are_there(classifier, image):
    case = prepare(image, classifier, "yes")
    methods = select_methods(["cam", "gradient", "deepshap"])
    found = evaluate_maps(case, methods, parts=("faithfulness",), budget=1.0).evaluation
    assert [one.label for one in found.maps] == ["gradient"]
    assert {one.method for one in found.failures} == {"cam", "deepshap"}
    assert {one["code"] for one in found.as_json()["failures"]} == {
        ErrorCode.METHOD_NETWORK.value,
        ErrorCode.BACKGROUNDS.value,
    }
    with pytest.raises(InputError):
        evaluate_maps(case, select_methods(["cam"]), parts=("faithfulness",), budget=1.0)


def test_an_engines_answer_carries_the_failures_as_json(classifier, image):
    done = explain(prepare(image, classifier), select_methods(["cam", "gradient"]))
    kept = {one.volume.hash: one.volume for one in done.attributions}
    back = made(Explanation, parse_json(to_json(done)), volumes=kept.__getitem__)
    assert back.failures == done.failures
    assert back.attributions[0].values is done.attributions[0].values
    assert dataclasses.asdict(back.failures[0])["code"] == ErrorCode.METHOD_NETWORK.value
