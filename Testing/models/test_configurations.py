"""A bundle's metadata and configuration: what is read, and what is wrong named in one line."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.models.loading import load_classifier
from Testing.models.conftest import (
    affine_of,
    image_of,
    one_line,
    small_network,
)

METADATA = "configs/metadata.json"
INFERENCE = "configs/inference.json"


@pytest.mark.slow
def test_a_bundle_as_the_model_zoo_writes_them_needs_no_trust(tmp_path) -> None:
    """Python for devices and data sets stands beside what a classifier needs."""
    from monai.networks.nets import SEResNet50

    torch.manual_seed(0)
    network = SEResNet50(spatial_dims=2, in_channels=3, num_classes=2).eval()
    folder = tmp_path / "zoo"
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    torch.save({"model": network.state_dict()}, folder / "models/model.pt")
    (folder / INFERENCE).write_text(json.dumps(ZOO_INFERENCE))
    (folder / METADATA).write_text(json.dumps(ZOO_METADATA))
    classifier = load_classifier(folder)
    assert classifier.classes == ("in body", "out body")
    assert classifier.channels == ("R", "G", "B")
    assert classifier.colour
    assert classifier.network.activation == "softmax"
    assert classifier.input_size == (64, 64)

    picture = np.random.default_rng(0).integers(0, 255, (3, 80, 96)).astype(float)
    prepared = classifier.prepare(image_of(picture, np.diag([-1.0, -1, 1, 1])))
    resized = torch.nn.functional.interpolate(
        torch.from_numpy(picture).float()[None], (64, 64), mode="bilinear"
    )[0]
    by_hand = (resized - resized.mean((1, 2), keepdim=True)) / resized.std(
        (1, 2), keepdim=True, unbiased=False
    )
    np.testing.assert_allclose(prepared.numpy(), by_hand.numpy(), atol=1e-4)
    with torch.no_grad():
        expected = network(by_hand[None]).softmax(1)[0].numpy()
    picture_image = image_of(picture, np.diag([-1.0, -1, 1, 1]))
    np.testing.assert_allclose(classifier.predict(picture_image), expected, atol=1e-4)


ZOO_INFERENCE = {
    "imports": ["$import json", "$import os", "$import torch"],
    "bundle_root": "/somewhere",
    "output_dir": "$@bundle_root + '/eval'",
    "test_fp": "$open(@bundle_root + '/test.json')",
    "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
    "network_def": {
        "_target_": "SEResNet50",
        "spatial_dims": 2,
        "in_channels": 3,
        "num_classes": 2,
        "pretrained": True,
    },
    "network": "$@network_def.to(@device)",
    "edge": [64, 64],
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": ["image", "label"]},
            {"_target_": "AsChannelFirstd", "keys": "image"},
            {
                "_target_": "Resized",
                "keys": ["image", "label"],
                "spatial_size": "@edge",
                "mode": ["bilinear", "nearest"],
            },
            {"_target_": "CastToTyped", "dtype": "$torch.float32", "keys": "image"},
            {
                "_target_": "NormalizeIntensityd",
                "nonzero": True,
                "channel_wise": True,
                "keys": "image",
            },
            {"_target_": "Flipd", "keys": "label", "spatial_axis": 0},
            {"_target_": "EnsureTyped", "keys": "image", "device": "@device", "track_meta": False},
        ],
    },
    "inferer": {"_target_": "SimpleInferer"},
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [{"_target_": "AsDiscreted", "argmax": True, "keys": ["pred"]}],
    },
    "evaluating": ["$setattr(torch.backends.cudnn, 'benchmark', True)", "$@evaluator.run()"],
}
ZOO_METADATA = {
    "version": "0.2.0",
    "network_data_format": {
        "inputs": {
            "image": {
                "type": "magnitude",
                "format": "RGB",
                "num_channels": 3,
                "spatial_shape": [64, 64],
                "channel_def": {"0": "R", "1": "G", "2": "B"},
            }
        },
        "outputs": {
            "pred": {
                "type": "probabilities",
                "format": "classes",
                "num_channels": 2,
                "spatial_shape": [1, 2],
                "channel_def": {"0": "in body", "1": "out body"},
            }
        },
    },
}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.pop("network_data_format"), "network_data_format"),
        (lambda c: c["network_data_format"]["outputs"]["pred"].pop("channel_def"), "name them in"),
        (
            lambda c: c["network_data_format"]["outputs"]["pred"]["channel_def"].pop("2"),
            "gives 3 scores and 2 classes",
        ),
        (
            lambda c: c["network_data_format"]["inputs"]["image"].update(
                num_channels=2, channel_def={"0": "t1", "1": "t2"}
            ),
            "cannot take an image of 2 channels",
        ),
        (
            lambda c: c["network_data_format"]["inputs"]["image"].update(
                num_channels=4, channel_def={"0": "t1", "1": "t2"}
            ),
            "names 2 channels",
        ),
        (
            lambda c: c["network_data_format"]["outputs"]["pred"].update(
                channel_def={"0": "a", "1": "a", "2": "b"}
            ),
            "same name",
        ),
    ],
)
def test_missing_or_wrong_metadata_is_named(bundle, edit_json, change, says) -> None:
    edit_json(bundle / METADATA, change)
    assert says in one_line(bundle)


def test_steps_in_a_compose_of_their_own_and_moves_between_devices_are_taken(
    bundle, edit_json
) -> None:
    image = image_of(np.random.default_rng(0).random((1, 12, 10, 9)), affine_of(3, "straight"))
    before = load_classifier(bundle).prepare(image)

    def change(content: dict[str, Any]) -> None:
        steps = content["preprocessing"]["transforms"]
        content["preprocessing"]["transforms"] = [
            {"_target_": "ToDeviced", "keys": "image", "device": "cpu"},
            {"_target_": "Compose", "transforms": [{"_target_": "Compose", "transforms": steps}]},
        ]

    edit_json(bundle / INFERENCE, change)
    after = load_classifier(bundle).prepare(image)
    assert torch.equal(before.as_tensor(), after.as_tensor())


def test_a_preprocessing_that_leaves_no_voxel_is_refused(bundle, edit_json) -> None:
    image = image_of(np.random.default_rng(0).random((1, 12, 10, 9)), affine_of(3, "straight"))
    step = {"_target_": "SpatialCropd", "keys": "image", "roi_center": [0] * 3, "roi_size": [0] * 3}
    edit_json(bundle / INFERENCE, lambda c: c["preprocessing"]["transforms"].append(step))
    with pytest.raises(InputError) as error:
        load_classifier(bundle).prepare(image)
    assert error.value.code is ErrorCode.IMAGE_VALUES


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: (c.pop("network_def"), c.pop("network")), "no 'network_def'"),
        (lambda c: c.pop("preprocessing"), "no 'preprocessing'"),
        (lambda c: c.pop("postprocessing"), "Activationsd"),
        (
            lambda c: c["preprocessing"]["transforms"].append(
                {"_target_": "RandFlipd", "keys": "image", "prob": 0.5}
            ),
            "random transform RandFlipd",
        ),
        (
            lambda c: c["preprocessing"]["transforms"].append(
                {"_target_": "Transposed", "keys": "image", "indices": [0, 2, 1, 3]}
            ),
            "Transposed cannot be undone",
        ),
        (
            lambda c: c["preprocessing"]["transforms"].append(
                {"_target_": "Resized", "keys": "scan", "spatial_size": [8, 8, 8]}
            ),
            "name the input 'image'",
        ),
        (lambda c: c["network_def"].update(growth_rate="many"), "cannot be built"),
        (lambda c: c["network_def"].update(_target_="DenseNet999"), "DenseNet999"),
        (
            lambda c: c.update(network_def={"_target_": "monai.transforms.Flip"}, network=None),
            "not a network",
        ),
    ],
)
def test_a_configuration_that_cannot_be_used_is_named(bundle, edit_json, change, says) -> None:
    edit_json(bundle / INFERENCE, change)
    assert says in one_line(bundle)


def test_weights_of_another_network_are_told_by_their_keys(bundle) -> None:
    state = torch.load(bundle / "models/model.pt", weights_only=True)
    first, second = list(state)[:2]
    wrong = dict(state)
    del wrong[first]
    wrong[second] = torch.zeros(1, 2)
    wrong["head.extra"] = torch.zeros(1)
    torch.save(wrong, bundle / "models/model.pt")
    message = one_line(bundle)
    assert f"1 missing ({first})" in message
    assert "1 not in the network (head.extra)" in message
    assert f"{second} (1, 2) instead of" in message
    torch.save(small_network(3).state_dict(), bundle / "models/model.pt")
    assert len(one_line(bundle)) < 600
