"""Every classification network of MONAI, in 2D and 3D, goes into a bundle and back."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import numpy as np
import pytest
import torch

from SaliencyExplain.models.inspection import describe
from SaliencyExplain.models.loading import load_classifier
from SaliencyExplain.models.wrapping import wrap
from Testing.models.conftest import CLASSES, affine_of, image_of

LAYERS = {"layers": [1, 1, 1, 1]}


def definitions(dims: int) -> dict[str, tuple[dict[str, Any], int]]:
    """Arguments of each network and the edge of its input."""
    size = [32] * dims
    dense = {"spatial_dims": dims, "in_channels": 2, "out_channels": 3}
    blocks = {"spatial_dims": dims, "in_channels": 2, "num_classes": 3}
    resnet = {"spatial_dims": dims, "n_input_channels": 2, "num_classes": 3}
    basic = {"block": "basic", "layers": [1, 1, 1, 1], "block_inplanes": [4, 8, 8, 8]}
    vit = {
        "in_channels": 2,
        "img_size": size,
        "patch_size": [8] * dims,
        "hidden_size": 24,
        "mlp_dim": 32,
        "num_layers": 2,
        "num_heads": 4,
        "classification": True,
        "num_classes": 3,
        "spatial_dims": dims,
    }
    stack = {
        "in_shape": [2, *size],
        "channels": [4, 8],
        "strides": [2, 2],
    }
    return {
        "DenseNet121": (dense, 32),
        "DenseNet": ({**dense, "init_features": 4, "growth_rate": 2, "block_config": [1, 1]}, 32),
        "resnet10": ({**resnet, "widen_factor": 0.25}, 32),
        "resnet18": ({**resnet, "widen_factor": 0.25, "conv1_t_size": 3}, 32),
        "ResNet": ({**resnet, **basic}, 32),
        "SENet": (
            {**blocks, **LAYERS, "block": "se_resnetxt_bottleneck", "groups": 32, "reduction": 16},
            32,
        ),
        "SEResNet50": ({**blocks, **LAYERS}, 32),
        "SEResNext50": ({**blocks, **LAYERS}, 32),
        "EfficientNetBN": (
            {
                "model_name": "efficientnet-b0",
                "spatial_dims": dims,
                "in_channels": 2,
                "num_classes": 3,
            },
            32,
        ),
        "ViT": (vit, 32),
        "Regressor": ({**stack, "out_shape": [3]}, 32),
        "Classifier": ({**stack, "classes": 3}, 32),
    }


def built(name: str, arguments: dict[str, Any]) -> torch.nn.Module:
    make = getattr(importlib.import_module("monai.networks.nets"), name)
    arguments = dict(arguments)
    if "pretrained" in inspect.signature(make).parameters:
        arguments["pretrained"] = False
    torch.manual_seed(5)
    return make(**arguments).eval()


# The large ones once: their initialization takes seconds.
ONCE = {"DenseNet121": [3], "SENet": [3], "EfficientNetBN": [2]}
CASES = [(name, dims) for name in definitions(2) for dims in ONCE.get(name, [2, 3])]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dims"), CASES)
def test_a_monai_network_gives_the_same_scores_out_of_its_bundle(name, dims, tmp_path) -> None:
    arguments, edge = definitions(dims)[name]
    network = built(name, arguments)
    path = wrap(
        f"monai.networks.nets.{name}",
        network.state_dict(),
        CLASSES,
        tmp_path / name,
        network_args=arguments,
        channels=["t1", "t2"],
        size=[edge] * dims,
        orientation="none",
    )
    classifier = load_classifier(path)
    assert classifier.spatial_dims == dims
    values = np.random.default_rng(0).random((2, *[edge] * dims)).astype(np.float32)
    image = image_of(values, affine_of(dims, "straight"))
    with torch.no_grad():
        expected = network(torch.from_numpy(values)[None])
    expected = expected[0] if isinstance(expected, tuple) else expected
    found = classifier.scores(classifier.prepare(image))
    np.testing.assert_allclose(found.numpy(), expected[0].numpy(), rtol=1e-5, atol=1e-6)
    assert classifier.predict(image).sum() == pytest.approx(1)
    layers = describe(classifier)["candidate_layers"]
    assert layers, "every network of these has a convolution"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "vgg11", "mobilenet_v3_small"])
def test_a_torchvision_network_goes_into_a_bundle(name, torchvision, tmp_path) -> None:
    network = getattr(torchvision.models, name)(weights=None, num_classes=3).eval()
    path = wrap(
        f"torchvision.models.{name}",
        network.state_dict(),
        CLASSES,
        tmp_path / name,
        network_args={"num_classes": 3},
        channels=["red", "green", "blue"],
        size=[64, 64],
        intensity="imagenet",
    )
    noise = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        np.testing.assert_allclose(
            load_classifier(path).network(noise).numpy(), network(noise).numpy(), atol=1e-5
        )
