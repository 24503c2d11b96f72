"""Explanation, evaluation and click where the classifier is not on the CPU: the same answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from SaliencyExplain import question as questions
from SaliencyExplain.attribution.registry import find_method
from SaliencyExplain.demo.phantoms import draw_phantom
from SaliencyExplain.demo.study import STUDY_SEEDS, classifier_folder
from SaliencyExplain.evaluation.image.map_evaluation import evaluate_maps
from SaliencyExplain.explanation import explain
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.loading import load_classifier
from SaliencyExplain.probing import Prober
from SaliencyExplain.question import Compute
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
    chosen = questions.choose_device
    monkeypatch.setattr(
        questions, "choose_device", lambda name: DEVICE if name == "auto" else chosen(name)
    )
    with device():
        yield


def maps(phantom, classifier, where):
    chosen = [find_method(name)(**SETTINGS.get(name, {})) for name in METHODS]
    return explain(phantom.image, classifier, chosen, target="glioma-like", compute=Compute(where))


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
        question = asked(phantom, honest.to("cpu"), segments=["tumour"], where=where)
        found.append(evaluate_maps(question, [find_method("gradcam")()], cost_tier=FEW))
    assert answers(found[0], "gradcam") == answers(found[1], "gradcam")


@pytest.mark.usefixtures("elsewhere")
def test_a_click(phantom, honest):
    place = phantom.image.affine.numpy()[:3] @ [30, 30, 30, 1]
    there = Prober(phantom.image, honest).at(place, (6.0, 12.0))
    assert honest.device == DEVICE
    here = Prober(phantom.image, honest, compute=Compute("cpu")).at(place, (6.0, 12.0))
    for found, expected in zip(there.removals, here.removals, strict=True):
        np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-6)
