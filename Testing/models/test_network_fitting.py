"""Networks that were changed for training: what their weights say, and when they say too little."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from SaliencyExplain.errors import ClassifierError, ErrorCode, InputError, SaliencyExplainError
from SaliencyExplain.models.loading import load_classifier
from SaliencyExplain.models.networks import build_network
from SaliencyExplain.models.wrapping import wrap

COLOURS = ("red", "green", "blue")


def resnet(torchvision: ModuleType, fc: nn.Module, conv: nn.Module | None = None) -> nn.Module:
    network = torchvision.models.resnet18()
    network.fc = fc
    network.conv1 = conv or network.conv1
    return network


def efficientnet(torchvision: ModuleType, classifier: nn.Module) -> nn.Module:
    network = torchvision.models.efficientnet_b0()
    network.classifier = classifier
    return network


def grey() -> nn.Module:
    return nn.Conv2d(1, 64, 7, 2, 3, bias=False)


Make = Callable[[ModuleType], nn.Module]
#: The network, its name, its channels, and what has to be said.
CHANGED: dict[str, tuple[Make, str, tuple[str, ...], list[str]]] = {
    "dropout before": (
        lambda tv: resnet(tv, nn.Sequential(nn.Dropout(), nn.Linear(512, 2))),
        "resnet18",
        COLOURS,
        ["'fc.1'", "'fc'"],
    ),
    "one channel": (
        lambda tv: resnet(tv, nn.Linear(512, 2), grey()),
        "resnet18",
        ("image",),
        ["conv1", "1 input channel and not 3"],
    ),
    "two channels and a dropout": (
        lambda tv: resnet(
            tv,
            nn.Sequential(nn.Dropout(), nn.Linear(512, 2)),
            nn.Conv2d(2, 64, 7, 2, 3, bias=False),
        ),
        "resnet18",
        ("t1", "t2"),
        ["conv1", "2 input channels and not 3", "'fc.1'"],
    ),
    "no bias": (
        lambda tv: resnet(tv, nn.Linear(512, 2, bias=False)),
        "resnet18",
        COLOURS,
        ["no bias"],
    ),
    "one layer for two": (
        lambda tv: efficientnet(tv, nn.Linear(1280, 2)),
        "efficientnet_b0",
        COLOURS,
        ["'classifier'", "'classifier.1'"],
    ),
    "three layers for two": (
        lambda tv: efficientnet(tv, nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(1280, 2))),
        "efficientnet_b0",
        COLOURS,
        ["'classifier.2'", "'classifier.1'"],
    ),
}


def checkpoint(network: nn.Module, path: Path) -> Path:
    state = {f"model.{key}": value for key, value in network.state_dict().items()}
    torch.save({"state_dict": {**state, "criterion.weight": torch.ones(2)}}, path)
    return path


def made(network: nn.Module, folder: Path, name: str, **options: Any) -> Path:
    options = {"size": [64, 64], "classes": ["no", "yes"], "channels": COLOURS, **options}
    return wrap(
        name,
        checkpoint(network.eval(), folder / "w.ckpt"),
        options.pop("classes"),
        folder / "bundle",
        **options,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGED)
def test_a_changed_network_predicts_as_it_did(name, torchvision, tmp_path) -> None:
    make, library_name, channels, said = CHANGED[name]
    network = make(torchvision)
    bundle = made(network, tmp_path, f"torchvision.models.{library_name}", channels=channels)
    classifier = load_classifier(bundle)
    noise = torch.rand(2, len(channels), 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(classifier.network(noise), network(noise), atol=1e-6, rtol=0)
    notes = " ".join(one.value for one in classifier.settings if one.name == "weights")
    for words in [*said, "criterion.weight"]:
        assert words in notes


@pytest.mark.slow
def test_a_densenet_with_names_of_old_is_read(torchvision, tmp_path) -> None:
    """As the published weights of CheXNet: a wrapper, old names, a sigmoid after the last layer."""
    network = torchvision.models.densenet121()
    network.classifier = nn.Sequential(nn.Linear(1024, 2), nn.Sigmoid())
    old = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))([12])\.")
    state = {
        "module.densenet121." + old.sub(r"\1.\2.", key): value
        for key, value in network.eval().state_dict().items()
    }
    torch.save({"state_dict": state, "best_loss": 0.1, "epoch": 3}, tmp_path / "m.pth.tar")
    bundle = wrap(
        "torchvision.models.densenet121",
        tmp_path / "m.pth.tar",
        ["atelectasis", "effusion"],
        tmp_path / "bundle",
        size=[64, 64],
        channels=COLOURS,
        activation="sigmoid",
    )
    classifier = load_classifier(bundle)
    noise = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        scores = classifier.network(noise)
        torch.testing.assert_close(scores.sigmoid(), network(noise), atol=1e-6, rtol=0)
    notes = " ".join(one.value for one in classifier.settings if one.name == "weights")
    for words in ("norm.1", "classifier.0", "module.densenet121."):
        assert words in notes


DENSE = {"init_features": 4, "growth_rate": 2, "block_config": [1]}


def densenet(channels: int = 1, classes: int = 2) -> nn.Module:
    from monai.networks.nets import DenseNet

    torch.manual_seed(4)
    return DenseNet(spatial_dims=2, in_channels=channels, out_channels=classes, **DENSE)


@pytest.mark.parametrize("arguments", [{"out_channels": 9}, {"in_channels": 5}])
def test_the_weights_have_the_last_word_on_numbers(arguments, tmp_path) -> None:
    network = densenet()
    bundle = made(
        network,
        tmp_path,
        "monai.networks.nets.DenseNet",
        network_args={**DENSE, **arguments},
        channels=("image",),
        spatial_dims=2,
    )
    classifier = load_classifier(bundle)
    noise = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(classifier.network(noise), network(noise), atol=1e-6, rtol=0)
    assert any(str(next(iter(arguments.values()))) in one.value for one in classifier.settings)


def test_two_names_and_one_logit_are_a_network_of_one_output(tmp_path) -> None:
    network = densenet(classes=1)
    bundle = made(
        network,
        tmp_path,
        "monai.networks.nets.DenseNet",
        network_args=DENSE,
        channels=("image",),
        spatial_dims=2,
        activation="sigmoid",
    )
    classifier = load_classifier(bundle)
    assert classifier.classes == ("no", "yes")
    assert classifier.network.one_logit


def refusal(network: nn.Module, folder: Path, name: str, **options: Any) -> SaliencyExplainError:
    with pytest.raises((ClassifierError, InputError)) as error:
        made(network, folder, name, **options)
    assert not (folder / "bundle").exists()
    return error.value


def test_what_the_weights_do_not_say_is_asked_for(torchvision, tmp_path) -> None:
    several = nn.Sequential(nn.Linear(512, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 2))
    error = refusal(resnet(torchvision, several), tmp_path, "torchvision.models.resnet18")
    assert error.code is ErrorCode.MODEL_WEIGHTS
    assert "fc.0" in str(error)
    assert "fc.3" in str(error)

    followed = resnet(torchvision, nn.Sequential(nn.Linear(512, 2), nn.Sigmoid()))
    error = refusal(followed, tmp_path, "torchvision.models.resnet18")
    assert error.code is ErrorCode.OPTION_MISSING
    assert "'fc.0'" in str(error)
    assert "--activation" in str(error)
    bundle = made(followed, tmp_path, "torchvision.models.resnet18", activation="sigmoid")
    noise = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        scores = load_classifier(bundle).network(noise)
        torch.testing.assert_close(scores.sigmoid(), followed(noise), atol=1e-6, rtol=0)


def test_channels_and_classes_that_are_not_named_are_asked_for(tmp_path) -> None:
    dense = {"network_args": DENSE, "spatial_dims": 2}
    name = "monai.networks.nets.DenseNet"
    error = refusal(densenet(channels=3), tmp_path, name, channels=("image",), **dense)
    assert error.code is ErrorCode.MODEL_INPUT
    assert "3 input channels" in str(error)
    error = refusal(densenet(3, 4), tmp_path, name, **dense)
    assert "4 scores and 2 classes" in str(error)


@pytest.mark.parametrize("layer", ["fc", "layer1", "nothing", "__class__", ""])
def test_a_bundle_cannot_change_what_is_no_convolution(layer, torchvision) -> None:
    definition = {
        "_target_": "SaliencyExplain.models.network_changes.with_input_channels",
        "network": {"_target_": "torchvision.models.resnet18"},
        "layer": layer,
        "channels": 1,
    }
    with pytest.raises(ClassifierError) as error:
        build_network(definition)
    assert error.value.code is ErrorCode.MODEL_CONFIGURATION
