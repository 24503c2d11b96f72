"""The constructs of MONAI's model zoo in configurations, without trust."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import monai.transforms as mt
import numpy as np
import pytest
import torch
import yaml
from monai.data import MetaTensor
from monai.networks.nets import DenseNet121, TorchVisionFCModel

from SaliencyExplain.errors import ErrorCode
from SaliencyExplain.models.checked import followed
from SaliencyExplain.models.configuration import parse_text
from SaliencyExplain.models.loading import load_classifier
from SaliencyExplain.models.metadata import parse
from SaliencyExplain.models.targets import (
    resolve_target,
    without_downloads,
    without_pretrained,
)
from Testing.expected_errors import error_with

CLASSES = ("a", "b", "c", "d")
#: As the template for classification writes its configuration.
TEMPLATE = """
imports:
- $import os
- $import glob
image: $monai.utils.CommonKeys.IMAGE
pred: $monai.utils.CommonKeys.PRED
num_classes: 4
device: $torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')
bundle_root: .
ckpt_path: $@bundle_root + '/models/model.pt'
network_def:
  _target_: DenseNet121
  spatial_dims: 2
  in_channels: 1
  out_channels: '@num_classes'
network: $@network_def.to(@device)
test_fp: "$open(@test_json,'r', encoding='utf8')"
loading:
  _target_: LoadImaged
  keys: '@image'
transforms:
- '@loading'
- _target_: EnsureChannelFirstd
  keys: '@image'
- _target_: ScaleIntensityd
  keys: '@image'
preprocessing:
  _target_: Compose
  transforms: $@transforms
inferer:
  _target_: SimpleInferer
postprocessing:
  _target_: Compose
  transforms:
  - _target_: Activationsd
    keys: '@pred'
    softmax: true
evaluator:
  _target_: SupervisedEvaluator
  device: '@device'
"""


def metadata(channels: dict[str, str], count: int, shape: list[Any]) -> dict[str, Any]:
    return {
        "network_data_format": {
            "inputs": {
                "image": {
                    "num_channels": count, "spatial_shape": shape, "channel_def": channels
                }
            },
            "outputs": {"pred": {"channel_def": {str(i): name for i, name in enumerate(CLASSES)}}},
        }
    }  # fmt: skip


def bundle(
    folder: Path, configuration: str, described: dict[str, Any], network: torch.nn.Module
) -> Path:
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "configs" / "inference.yaml").write_text(configuration)
    (folder / "configs" / "metadata.json").write_text(json.dumps(described))
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    return folder


@pytest.mark.slow
def test_the_references_and_names_of_the_template_are_followed(tmp_path):
    torch.manual_seed(0)
    network = DenseNet121(2, 1, 4).eval()
    path = bundle(tmp_path / "b", TEMPLATE, metadata({"0": "image"}, 1, [64, 64]), network)
    classifier = load_classifier(path)
    assert classifier.classes == CLASSES
    assert not classifier.trusted
    values = torch.rand((1, 64, 64), generator=torch.Generator().manual_seed(1)) * 9
    image = MetaTensor(values, affine=torch.eye(4))
    prepared = classifier.prepare(image)
    np.testing.assert_allclose(prepared.numpy(), mt.ScaleIntensity()(values).numpy(), atol=1e-6)
    with torch.no_grad():
        expected = network(prepared.as_tensor()[None]).softmax(1)[0]
    np.testing.assert_allclose(classifier.predict(image), expected.numpy(), atol=1e-5)


WRAPPED = {
    "network_def": {
        "_target_": "TorchVisionFCModel", "model_name": "resnet18", "num_classes": 4,
        "pool": None, "use_conv": False, "bias": True, "pretrained": True,
    },
    "network": "$@network_def.to(@device)",
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image"},
            {"_target_": "EnsureChannelFirstd", "keys": "image", "channel_dim": 2},
            {"_target_": "ScaleIntensityd", "keys": "image"},
            {"_target_": "Resized", "keys": "image", "spatial_size": [64, 64]},
        ],
    },
    "postprocessing": {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
}  # fmt: skip


@pytest.mark.slow
def test_a_picture_with_one_name_for_three_channels_is_one_of_colours(torchvision, tmp_path):
    torch.manual_seed(0)
    network = TorchVisionFCModel("resnet18", 4, pool=None, use_conv=False, pretrained=False)
    path = bundle(
        tmp_path / "b", yaml.safe_dump(WRAPPED), metadata({"0": "image"}, 3, [64, 64]), network
    )
    # With the network of this machine out of reach a download would fail.
    classifier = load_classifier(path)
    assert classifier.channels == ("red", "green", "blue")
    settings = {one.name: one.source for one in classifier.settings}
    assert settings["channel order"] == "guessed"


def test_one_name_for_several_channels_of_volumes_is_numbered(tmp_path):
    read = parse(metadata({"0": "image"}, 3, [96, 96, 96]))
    assert read.channels == ("image 1", "image 2", "image 3")
    with error_with(ErrorCode.MODEL_CONFIGURATION, "2 channels"):
        parse(metadata({"0": "t1", "1": "t2"}, 4, [96, 96, 96]))


def test_references_in_a_circle_and_to_nothing_are_refused():
    with error_with(ErrorCode.MODEL_CONFIGURATION, "@a"):
        followed({"a": "$@b", "b": "@a"}, "@a")
    with error_with(ErrorCode.MODEL_CONFIGURATION, "absent"):
        followed({}, "@absent")
    assert followed({"a": {"b": ["c"]}}, "$@a::b#0") == "c"


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    ["$monai.utils.CommonKeys.__class__", "$monai.utils.CommonKeys.IMAGE.upper()", "$os.name"],
)
def test_other_expressions_are_refused(tmp_path, text):
    path = bundle(
        tmp_path / "b",
        TEMPLATE.replace("$monai.utils.CommonKeys.IMAGE", text),
        metadata({"0": "image"}, 1, [64, 64]),
        DenseNet121(2, 1, 4),
    )
    with error_with(ErrorCode.MODEL_UNTRUSTED, text):
        load_classifier(path)


#: Folder with the bundles of MONAI's model zoo, their configurations as published.
ZOO = os.environ.get("SALIENCY_EXPLAIN_ZOO", "")


@pytest.mark.slow
@pytest.mark.skipif(not ZOO, reason="SALIENCY_EXPLAIN_ZOO names no folder of bundles")
@pytest.mark.parametrize(
    "name",
    [
        *("breast_density_classification", "classification_template"),
        *("endoscopic_inbody_classification", "pathology_tumor_detection"),
        *("spleen_ct_segmentation", "swin_unetr_btcv_segmentation"),
    ],
)
def test_published_configurations_are_understood(torchvision, tmp_path, name):
    folder = tmp_path / name
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    for file in (Path(ZOO) / name / "configs").iterdir():
        (folder / "configs" / file.name).write_bytes(file.read_bytes())
    inference = next((folder / "configs").glob("inference.*"))
    content = parse_text(inference.read_bytes(), inference.name)
    definition = {key: followed(content, value) for key, value in content["network_def"].items()}
    component = resolve_target(definition.pop("_target_"))
    network = component(**without_downloads(component, definition))
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    assert not load_classifier(folder).trusted


def test_a_trusted_network_is_not_fetched_either():
    definition = {
        "_target_": "TorchVisionFCModel", "pretrained": True, "weights": "mine.pt",
        "backbone": {"_target_": "torchvision.models.resnet18", "weights": "DEFAULT"},
    }  # fmt: skip
    assert without_pretrained(definition) == {
        "_target_": "TorchVisionFCModel", "pretrained": False, "weights": "mine.pt",
        "backbone": {"_target_": "torchvision.models.resnet18", "weights": None},
    }  # fmt: skip


@pytest.mark.slow
def test_a_trusted_bundle_loads_where_nothing_can_be_fetched(torchvision, tmp_path, monkeypatch):
    def no_connection(*_, **__):
        raise AssertionError("the network was reached for")

    monkeypatch.setattr("socket.socket.connect", no_connection)
    monkeypatch.setattr("socket.getaddrinfo", no_connection)
    torch.manual_seed(0)
    network = TorchVisionFCModel("resnet18", 4, pool=None, use_conv=False, pretrained=False)
    code = {**WRAPPED, "device": "$torch.device('cpu')"}
    path = bundle(
        tmp_path / "b", yaml.safe_dump(code), metadata({"0": "image"}, 3, [64, 64]), network
    )
    assert load_classifier(path, trust=True).classes == CLASSES


@pytest.mark.slow
def test_a_classifier_of_windows_is_refused_by_name(tmp_path):
    torch.manual_seed(0)
    inferer = "inferer:\n  _target_: SlidingWindowInferer\n  roi_size: [32, 32]\n"
    configuration = TEMPLATE.replace("inferer:\n  _target_: SimpleInferer\n", inferer)
    assert configuration != TEMPLATE
    described = metadata({"0": "image"}, 1, [64, 64])
    path = bundle(tmp_path / "b", configuration, described, DenseNet121(2, 1, 4))
    with error_with(ErrorCode.MODEL_REFUSED, "SlidingWindowInferer"):
        load_classifier(path)
