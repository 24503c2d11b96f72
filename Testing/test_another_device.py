"""Explanation, evaluation and click where the classifier is not on the CPU: the same answers."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch
from monai.networks.nets import UNet

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.attribution.registry import find_method
from SaliencyExplain.demo.phantoms import draw_phantom
from SaliencyExplain.demo.study import STUDY_SEEDS, classifier_folder
from SaliencyExplain.errors import DeviceMemoryError, ErrorCode
from SaliencyExplain.evaluation.image.map_evaluation import evaluate_maps
from SaliencyExplain.explanation import prepared_case
from SaliencyExplain.explanation.compute import Compute, choose_device
from SaliencyExplain.explanation.explain import explain
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.explanation.probing import Prober
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.loading import load_classifier
from SaliencyExplain.models.network_in_memory import Model
from Testing.evaluation.phantom_evaluations import FEW, answers, asked
from Testing.pretend import DEVICE, device, send

METHODS = ("gradcam", "smoothgrad", "occlusion")
SETTINGS = {"smoothgrad": {"samples": 4}, "occlusion": {"window_mm": 48.0}}


@pytest.fixture(scope="module")
def phantom():
    return draw_phantom("glioma-like", STUDY_SEEDS + 91_000_003)


@pytest.fixture
def honest():
    return load_classifier(classifier_folder("phantom-3d-honest"))


@pytest.fixture
def elsewhere(monkeypatch):
    """``auto`` is another device than the CPU."""
    moved, autocast = Classifier.to, torch.autocast

    def to(classifier, where):
        if torch.device(where) != DEVICE:
            return moved(classifier, where)
        send(classifier.network)
        return classifier

    monkeypatch.setattr(Classifier, "to", to)
    monkeypatch.setattr(
        torch, "autocast", lambda kind, **rest: autocast("cpu" if kind == "meta" else kind, **rest)
    )
    monkeypatch.setattr(
        prepared_case,
        "choose_device",
        lambda name: DEVICE if name == "auto" else choose_device(name),
    )
    with device():
        yield


def maps(phantom, classifier, where):
    chosen = [find_method(name)(**SETTINGS.get(name, {})) for name in METHODS]
    return explain(
        prepare(phantom.image, classifier, "glioma-like", compute=Compute(where)), chosen
    )


@pytest.mark.slow
@pytest.mark.usefixtures("elsewhere")
def test_the_maps(phantom, honest):
    there = maps(phantom, honest, "auto")
    assert honest.device == DEVICE
    here = maps(phantom, load_classifier(classifier_folder("phantom-3d-honest")), "cpu")
    np.testing.assert_allclose(there.probabilities, here.probabilities, atol=1e-6)
    for found, expected in zip(there.attributions, here.attributions, strict=True):
        values = expected.values
        np.testing.assert_allclose(
            found.values, values, atol=2e-5 * np.abs(values).max(), err_msg=expected.method
        )


@pytest.mark.slow
@pytest.mark.usefixtures("elsewhere")
def test_an_evaluation(phantom, honest):
    found = []
    for where in ("auto", "cpu"):
        case = asked(phantom, honest.to("cpu"), segments=["tumour"], where=where)
        found.append(evaluate_maps(case, [find_method("gradcam")()], cost_tier=FEW).evaluation)
    assert answers(found[0], "gradcam") == answers(found[1], "gradcam")


@pytest.mark.usefixtures("elsewhere")
def test_a_click(phantom, honest):
    place = phantom.image.affine.numpy()[:3] @ [30, 30, 30, 1]
    there = Prober(prepare(phantom.image, honest)).at(place, (6.0, 12.0))
    assert honest.device == DEVICE
    here = Prober(prepare(phantom.image, honest, compute=Compute("cpu"))).at(place, (6.0, 12.0))
    for found, expected in zip(there.removals, here.removals, strict=True):
        np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-6)


class Hungry(Method):
    """A method for which the device's memory does not suffice."""

    name: ClassVar[str] = "hungry"
    title: ClassVar[str] = "Hungry"
    source: ClassVar[str] = "none"
    signed: ClassVar[bool] = False

    def attribute(self, task: Task) -> dict[str, torch.Tensor]:
        if task.input.device == DEVICE:
            raise DeviceMemoryError(ErrorCode.MEMORY, "The memory is full.")
        return {"": task.input[0, 0]}

    def forward_passes(self, task: Task) -> float:
        return 1.0


@pytest.mark.usefixtures("elsewhere")
def test_where_the_memory_is_full_this_method_and_the_later_ones_run_on_the_cpu(phantom, honest):
    case = prepare(phantom.image, honest, "glioma-like")
    gradient = find_method("gradient")()
    for _ in range(2):
        done = explain(case, [gradient, Hungry(), gradient])
        devices = [one.provenance["device"] for one in done.attributions]
        assert devices == [str(DEVICE), "cpu", "cpu"]
        assert [note for note in done.notes if note.startswith("hungry")]
        # The case is still one for the device: the next run begins there again.
        assert case.device == DEVICE
        assert not [note for note in case.notes if "hungry" in note]


@pytest.mark.usefixtures("elsewhere")
def test_the_maps_of_a_region(phantom):
    def found(where):
        torch.manual_seed(0)
        network = UNet(3, 1, 2, channels=(4, 8), strides=(2,))
        model = Model(network, ["background", "tumour"], window=(32, 32, 32), spacing=(4, 4, 4))
        case = prepare(phantom.image, model, "region:tumour", compute=Compute(where))
        assert model.device == torch.device(DEVICE if where == "auto" else "cpu")
        return explain(case, [find_method(name)() for name in ("gradcam", "gradient")])

    for there, here in zip(found("auto"), found("cpu"), strict=True):
        np.testing.assert_allclose(there.values, here.values, atol=1e-6)
