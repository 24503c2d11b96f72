"""A phantom that the shipped classifier of slices recognises, and what the API makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

import SaliencyExplain as se
from SaliencyExplain.demo.phantoms import Phantom
from SaliencyExplain.demo.study import write_phantom_study
from SaliencyExplain.models.classifier import Classifier


@pytest.fixture(scope="session")
def phantom() -> Phantom:
    return se.draw_phantom("glioma-like", seed=3, dimensions=2)


@pytest.fixture(scope="session")
def model() -> Classifier:
    return se.load_model("demo:phantom-2d-honest")


@pytest.fixture(scope="session")
def result(phantom: Phantom, model: Classifier) -> se.Result:
    return se.explain(phantom.image, model, [se.GradCAM(), se.Gradient()])


@pytest.fixture(scope="session")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    return write_phantom_study(folder, dimensions=2, cases=2, seed=1, marker=False)
