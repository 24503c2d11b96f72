"""Networks with known answers, and tasks made of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.demo.phantoms import Phantom, draw_phantom
from SaliencyExplain.demo.study import STUDY_SEEDS, classifier_folder
from SaliencyExplain.evaluation.image.evaluation_passes import Work, probabilities_of_images
from SaliencyExplain.evaluation.image.removal_baselines import Baseline
from SaliencyExplain.explanation.compute import Compute
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.loading import load_classifier


class Small(nn.Module):
    """Three convolutions, a mean over space and a linear layer, for two or three axes."""

    def __init__(self, axes: int = 3, classes: int = 3, channels: int = 1) -> None:
        super().__init__()
        convolution = nn.Conv3d if axes == 3 else nn.Conv2d
        self.first = convolution(channels, 6, 3, padding=1)
        self.second = convolution(6, 8, 3, padding=1)
        self.third = convolution(8, 8, 3, padding=1)
        self.relu = nn.ReLU()
        self.last = nn.Linear(8, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.relu(self.first(images))
        features = self.relu(self.third(self.relu(self.second(features))))
        return self.last(features.flatten(2).mean(dim=2))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def small() -> Callable[..., ScoreNetwork]:
    return lambda **settings: ScoreNetwork(Small(**settings)).eval()


@pytest.fixture
def black() -> Callable[[Task], Baseline]:
    """The baseline of zeros."""

    def make(task: Task) -> Baseline:
        values = torch.zeros_like(task.input[0])
        images = [task.input[0], values]
        found = probabilities_of_images(task, 2, lambda index: images[index])
        return Baseline(values, "black", found[0], found[1])

    return make


@pytest.fixture
def work() -> Work:
    return Work(1e9)


@pytest.fixture(scope="session")
def phantom() -> Phantom:
    """A head with a tumour that the honest classifier recognises, without the marker."""
    return draw_phantom("glioma-like", STUDY_SEEDS + 91_000_000)


@pytest.fixture(scope="session")
def honest() -> Classifier:
    return load_classifier(classifier_folder("phantom-3d-honest"))


@pytest.fixture(scope="session")
def phantom_task(phantom: Phantom, honest: Classifier) -> Task:
    made = prepare(phantom.image, honest, "glioma-like", Compute("cpu")).task()
    # One draw of random weights for all: some figures lie near a threshold.
    return dataclasses.replace(made, seed=0)
