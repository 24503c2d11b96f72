"""An ensemble of several weight files: the mean of its members' scores, and of their maps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.data import MetaTensor
from monai.networks.nets import DenseNet
from torch import Tensor

from SaliencyExplain.attribution.registry import find_method
from SaliencyExplain.errors import ErrorCode
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.loading import load_classifier
from SaliencyExplain.models.wrapping import wrap
from SaliencyExplain.specification.target import LOGIT
from Testing.expected_errors import error_with

CLASSES = ["a", "b", "c"]
ARGUMENTS = {"init_features": 8, "growth_rate": 4, "block_config": [2, 2]}
WORDS = {"size": [32, 32], "orientation": "none", "activation": "softmax"}


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Weight files of three networks of one kind."""
    folder = tmp_path_factory.mktemp("folds")
    for seed in range(3):
        torch.manual_seed(seed)
        network = DenseNet(2, 1, 3, **ARGUMENTS)
        torch.save({"state_dict": network.state_dict()}, folder / f"fold{seed}.pt")
    return sorted(folder.glob("*.pt"))


def bundle(weights: list[Path], out: Path, *, ensemble: bool) -> Classifier:
    path = wrap(
        "monai.networks.nets.DenseNet", weights, CLASSES, out, network_args=ARGUMENTS,
        spatial_dims=2, ensemble=ensemble, **WORDS,
    )  # fmt: skip
    return load_classifier(path)


@pytest.fixture(scope="module")
def models(
    folds: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Classifier, list[Classifier]]:
    """The ensemble and its members."""
    folder = tmp_path_factory.mktemp("bundles")
    members = [bundle([one], folder / one.stem, ensemble=False) for one in folds]
    return bundle(folds, folder / "ensemble", ensemble=True), members


def image() -> MetaTensor:
    values = torch.rand((1, 32, 32), generator=torch.Generator().manual_seed(4))
    return MetaTensor(values, affine=torch.eye(4))


def map_of(model: Classifier, name: str) -> Tensor:
    task = prepare(image(), model, f"{LOGIT}:b").task()
    return next(iter(find_method(name)().attribute(task).values()))


def test_the_scores_are_the_mean_of_the_members_scores_without_trust(models):
    ensemble, members = models
    assert not ensemble.trusted
    found = ensemble.scores(ensemble.prepare(image()))
    expected = torch.stack([one.scores(one.prepare(image())) for one in members]).mean(0)
    torch.testing.assert_close(found, expected)
    assert {one.name: one.value for one in ensemble.settings}["ensemble"].endswith("3 networks")


@pytest.mark.parametrize("name", ["gradient-times-input", "respondcam"])
def test_a_map_is_the_mean_of_the_members_maps(models, name):
    ensemble, members = models
    expected = torch.stack([map_of(one, name) for one in members]).mean(0)
    torch.testing.assert_close(map_of(ensemble, name), expected, atol=1e-5, rtol=1e-3)


def test_a_class_activation_map_sums_a_tensor_of_each_member(models):
    ensemble, _ = models
    task = prepare(image(), ensemble, "a").task()
    maps = find_method("gradcam")().attribute(task)
    # Of the third the name says that there is one more.
    assert list(maps) == ["members.0.class_layers.relu+members.1.class_layers.relu+1"]


def test_one_file_and_a_program_are_no_ensemble(folds, tmp_path):
    with error_with(ErrorCode.OPTION_MISSING, "two"):
        bundle(folds[:1], tmp_path / "one", ensemble=True)
    with error_with(ErrorCode.OPTION_MISSING, "network"):
        wrap(None, folds, CLASSES, tmp_path / "none", ensemble=True)
    assert not (tmp_path / "one").exists()
