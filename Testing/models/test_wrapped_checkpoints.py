"""Bundles made of checkpoints predict as the networks that the checkpoints are of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from SaliencyExplain.errors import ClassifierError, ErrorCode, InputError
from SaliencyExplain.models.loading import load_classifier
from SaliencyExplain.models.wrapping import wrap
from Testing.models.checkpoint_files import (
    under,
)
from Testing.models.conftest import CLASSES

WEIGHTS = ErrorCode.MODEL_WEIGHTS


def test_a_bundle_keeps_what_was_said_of_its_weights(tmp_path) -> None:
    torch.save(
        {"state_dict": {**under("model."), "criterion.weight": torch.ones(3)}}, tmp_path / "w"
    )
    network = {
        "spatial_dims": 2,
        "in_channels": 1,
        "out_channels": 3,
        "block_config": [1],
        "init_features": 4,
        "growth_rate": 2,
    }
    from monai.networks.nets import DenseNet

    torch.save(
        {
            "state_dict": {
                **under("model.", DenseNet(**network).state_dict()),
                "best": torch.ones(()),
            }
        },
        tmp_path / "w.ckpt",
    )
    bundle = wrap(
        "monai.networks.nets.DenseNet",
        tmp_path / "w.ckpt",
        CLASSES,
        tmp_path / "b",
        network_args=network,
        size=[32, 32],
    )
    said = " ".join(str(one) for one in load_classifier(bundle).settings if one.name == "weights")
    assert "model." in said
    assert "best" in said
    # The bundle's own weights are plain, so that nothing has to be said of them.
    assert not [note for note in load_classifier(bundle).notes if "weights" in note]
    content = json.loads((bundle / "configs/metadata.json").read_text())
    assert "w.ckpt" in json.dumps(content)


def small_densenet() -> tuple[nn.Module, dict[str, Any]]:
    from monai.networks.nets import DenseNet

    torch.manual_seed(2)
    arguments = {"init_features": 4, "growth_rate": 2, "block_config": [1]}
    network = DenseNet(spatial_dims=2, in_channels=1, out_channels=3, **arguments).eval()
    return network, arguments


def predicts_as(network: nn.Module, bundle: Path) -> bool:
    """Whether a bundle's network gives what the plain PyTorch network gives."""
    noise = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(
            load_classifier(bundle).network(noise), network(noise), atol=1e-6, rtol=0
        )
    return True


def wrapped(out: Path, weights: Any, **options: Any) -> Path:
    _, arguments = small_densenet()
    return wrap(
        "monai.networks.nets.DenseNet", weights, CLASSES, out, network_args=arguments,
        spatial_dims=2, size=[32, 32], **options,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["pt", "pth", "ckpt", "pth.tar", "safetensors"])
def test_a_file_of_each_kind_predicts_as_the_network_does(tmp_path, suffix) -> None:
    network, _ = small_densenet()
    path = tmp_path / f"w.{suffix}"
    if suffix == "safetensors":
        safetensors.torch.save_file(network.state_dict(), path)
    else:
        torch.save({"state_dict": under("model.", network.state_dict()), "epoch": 3}, path)
    assert predicts_as(network, wrapped(tmp_path / "bundle", path))


def test_weights_in_several_files_are_one_state_dict(tmp_path) -> None:
    network, _ = small_densenet()
    named = list(under("model.", network.state_dict()).items())
    parts = [tmp_path / f"model-0000{part}-of-00002.safetensors" for part in (1, 2)]
    for part, values in zip(parts, (named[::2], named[1::2]), strict=True):
        safetensors.torch.save_file(dict(values), part)
    assert predicts_as(network, wrapped(tmp_path / "bundle", parts))
    with pytest.raises(InputError) as error:
        wrapped(tmp_path / "twice", [parts[0], parts[0]])
    assert error.value.code is ErrorCode.NAME_DUPLICATE


def test_a_key_and_a_prefix_choose_the_weights(tmp_path) -> None:
    network, _ = small_densenet()
    values = network.state_dict()
    other = {key: value + 1 for key, value in values.items()}
    path = tmp_path / "w.pt"
    torch.save(
        {
            "model": other,
            "ema": {**under("a.", values), **under("b.", other), "head.weight": torch.ones(9)},
        },
        path,
    )
    assert not same(network, wrapped(tmp_path / "first", path))
    with pytest.raises(ClassifierError, match=r"ema\.a.*ema\.b.*--state-key") as ambiguous:
        wrapped(tmp_path / "second", path, state_key="ema")
    assert ambiguous.value.code is WEIGHTS
    chosen = wrapped(tmp_path / "third", path, state_key="ema", strip_prefix="a.")
    assert predicts_as(network, chosen)
    said = " ".join(str(one) for one in load_classifier(chosen).settings if one.name == "weights")
    assert "b, head" in said
    assert predicts_as(
        network, wrapped(tmp_path / "dotless", path, state_key="ema", strip_prefix="a")
    )
    for options, named in (
        ({"state_key": "emma"}, "ema"),
        ({"state_key": "ema", "strip_prefix": "c."}, "a."),
    ):
        with pytest.raises(InputError) as unknown:
            wrapped(tmp_path / "fourth", path, **options)
        assert unknown.value.code is ErrorCode.NAME_UNKNOWN
        assert named in str(unknown.value)
    assert not (tmp_path / "fourth").exists()


def same(network: nn.Module, bundle: Path) -> bool:
    noise = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        return torch.allclose(load_classifier(bundle).network(noise), network(noise), atol=1e-6)


@pytest.mark.slow
def test_weights_of_a_layer_that_has_versions_are_of_its_present_one(torchvision, tmp_path):
    torch.manual_seed(0)
    network = torchvision.models.mnasnet0_5(weights=None, num_classes=3).eval()
    torch.save(dict(network.state_dict()), tmp_path / "weights.pt")
    bundle = wrap(
        "torchvision.models.mnasnet0_5", tmp_path / "weights.pt", ["a", "b", "c"],
        tmp_path / "bundle", channels=["r", "g", "b"], size=[64, 64],
    )  # fmt: skip
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = network(image)
        found = load_classifier(bundle).network(image)
    torch.testing.assert_close(found, expected)
