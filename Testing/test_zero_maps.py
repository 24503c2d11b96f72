"""A map that is zero everywhere says so, with the likely reason."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from SaliencyExplain.attribution.methods.cam import GradCAM
from SaliencyExplain.attribution.methods.gradient import Gradient
from SaliencyExplain.attribution.methods.occlusion import Occlusion
from SaliencyExplain.explanation.explain import explain
from SaliencyExplain.explanation.prepared_case import prepare
from Testing.models.conftest import affine_of, classifier_of, image_of, small_network


@pytest.mark.parametrize(
    ("method", "word"),
    [(GradCAM(), "feature map"), (Gradient(), "gradient"), (Occlusion(), "output=score")],
    ids=lambda value: getattr(value, "name", ""),
)
def test_the_note_reaches_the_terminal_and_the_provenance(method, word):
    network = small_network(2)
    with torch.no_grad():
        network[6].weight.zero_()
    values = np.random.default_rng(0).random((1, 24, 20)).astype(np.float32)
    image = image_of(values, affine_of(2, "straight"))
    found = explain(prepare(image, classifier_of([], 2, network)), [method])
    (one,) = found.attributions
    assert not one.values.any()
    (note,) = [note for note in one.provenance["notes"] if "zero everywhere" in note]
    assert word in note
    assert f"{method.name}: {note}" in found.notes


def test_other_maps_have_no_such_note():
    values = np.random.default_rng(0).random((1, 24, 20)).astype(np.float32)
    image = image_of(values, affine_of(2, "straight"))
    found = explain(prepare(image, classifier_of([], 2)), [Gradient()])
    assert not any("zero everywhere" in note for note in found.notes)
