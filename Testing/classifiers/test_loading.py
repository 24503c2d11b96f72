"""Loading classifiers in each form, and the one clear line where it cannot be done."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from monai.networks.nets import UNet, ViT

from SaliencyExplain.classifiers.inspection import describe
from SaliencyExplain.classifiers.loading import load_classifier
from SaliencyExplain.classifiers.wrapping import wrap
from SaliencyExplain.errors import ClassifierError, InputError
from Testing.classifiers.conftest import (
    CLASSES,
    affine_of,
    image_of,
    make_bundle,
    small_network,
)

METADATA = "configs/metadata.json"
INFERENCE = "configs/inference.json"


@pytest.fixture
def image():
    return image_of(np.random.default_rng(0).random((1, 30, 28, 12)), affine_of(3, "oblique"))


def zip_of(folder: Path, out: Path, top: str = "") -> Path:
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, f"{top}{path.relative_to(folder)}")
    return out


def one_line(path: Path, *, trust: bool = False) -> str:
    with pytest.raises(ClassifierError) as caught:
        load_classifier(path, trust=trust)
    message = str(caught.value)
    assert "\n" not in message
    assert "Traceback" not in message
    return message


def test_a_zipped_or_renamed_bundle_is_the_same_classifier(bundle, image, tmp_path) -> None:
    original = load_classifier(bundle)
    for path in (
        zip_of(bundle, tmp_path / "flat.zip"),
        zip_of(bundle, tmp_path / "nested.zip", top="some-folder/"),
        shutil.copytree(bundle, tmp_path / "renamed"),
    ):
        other = load_classifier(path)
        assert other.identity == original.identity
        np.testing.assert_array_equal(other.predict(image), original.predict(image))
    assert load_classifier(tmp_path / "flat.zip").name == "flat"


def test_other_weights_or_preprocessing_make_another_identity(bundle, tmp_path, edit_json) -> None:
    identities = {load_classifier(bundle).identity}
    state = torch.load(bundle / "models/model.pt", weights_only=True)
    key = next(iter(state))
    torch.save(state | {key: state[key] + 1e-6}, bundle / "models/model.pt")
    identities.add(load_classifier(bundle).identity)
    edit_json(bundle / INFERENCE, lambda c: c["preprocessing"]["transforms"].pop())
    identities.add(load_classifier(bundle).identity)
    assert len(identities) == 3


def test_a_yaml_configuration_is_read_as_json_is(bundle, image) -> None:
    expected = load_classifier(bundle).predict(image)
    content = json.loads((bundle / INFERENCE).read_text())
    (bundle / INFERENCE).unlink()
    (bundle / "configs/inference.yaml").write_text(yaml.safe_dump(content))
    np.testing.assert_array_equal(load_classifier(bundle).predict(image), expected)


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
            lambda c: c["network_data_format"]["inputs"]["image"].update(num_channels=4),
            "names 1 channels",
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


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state, "optimizer": {"lr": 0.1}},
        lambda state: {f"module.{key}": value for key, value in state.items()},
        lambda state: {"state_dict": {f"model.{key}": value for key, value in state.items()}},
        lambda state: {"network": {f"_orig_mod.module.{k}": v for k, v in state.items()}},
    ],
)
def test_checkpoints_of_training_scripts_are_unwrapped(bundle, image, wrapped) -> None:
    expected = load_classifier(bundle).predict(image)
    state = torch.load(bundle / "models/model.pt", weights_only=True)
    torch.save(wrapped(state), bundle / "models/model.pt")
    np.testing.assert_array_equal(load_classifier(bundle).predict(image), expected)


def test_a_torchscript_file_with_a_bundles_configurations_loads(bundle, image, tmp_path) -> None:
    from monai.data import save_net_with_metadata

    original = load_classifier(bundle)
    script = torch.jit.script(original.network.network)
    path = tmp_path / "exported.ts"
    save_net_with_metadata(
        script,
        str(path),
        meta_values=json.loads((bundle / METADATA).read_text()),
        more_extra_files={"inference.json": (bundle / INFERENCE).read_bytes()},
    )
    classifier = load_classifier(path)
    assert classifier.format == "TorchScript"
    np.testing.assert_allclose(classifier.predict(image), original.predict(image), rtol=1e-5)


def test_a_torchscript_file_alone_says_how_to_make_a_bundle_of_it(bundle, image, tmp_path) -> None:
    original = load_classifier(bundle)
    path = tmp_path / "alone.pt"
    torch.jit.script(original.network.network).save(str(path))
    assert "classifier wrap" in one_line(path)
    wrapped = wrap(
        None,
        path,
        CLASSES,
        tmp_path / "made",
        spacing=[2, 2, 2],
        size=[16, 18, 20],
        intensity="zscore",
    )
    classifier = load_classifier(wrapped)
    assert classifier.format == "MONAI bundle (TorchScript)"
    np.testing.assert_allclose(classifier.predict(image), original.predict(image), rtol=1e-5)


def test_an_exported_program_loads_with_trust_and_takes_any_batch(bundle, image, tmp_path) -> None:
    original = load_classifier(bundle)
    example = torch.zeros(1, 1, 16, 18, 20)
    path = tmp_path / "program.pt2"
    torch.export.save(torch.export.export(original.network.network, (example,)), path)
    assert "--trust" not in one_line(path)  # it says nothing of classes, trusted or not
    with pytest.raises(ClassifierError, match="--trust"):
        wrap(None, path, CLASSES, tmp_path / "untrusted", size=[16, 18, 20])
    wrapped = wrap(
        None,
        path,
        CLASSES,
        tmp_path / "made",
        spacing=[2, 2, 2],
        size=[16, 18, 20],
        intensity="zscore",
        trust=True,
    )
    assert "--trust" in one_line(wrapped)
    classifier = load_classifier(wrapped, trust=True)
    np.testing.assert_allclose(classifier.predict(image), original.predict(image), rtol=1e-5)
    batch = torch.rand(3, 1, 16, 18, 20)
    with torch.no_grad():
        np.testing.assert_allclose(
            classifier.network(batch).numpy(), original.network(batch).numpy(), atol=1e-5
        )
    batch.requires_grad_()
    classifier.network(batch)[:, 0].sum().backward()
    assert batch.grad.abs().sum() > 0


def test_a_network_that_is_no_classifier_is_refused(tmp_path) -> None:
    network = UNet(2, 1, 2, channels=(4, 8), strides=(2,))
    with pytest.raises(ClassifierError, match="not a classifier"):
        wrap(
            "monai.networks.nets.UNet",
            network.state_dict(),
            ["background", "tumour"],
            tmp_path / "unet",
            network_args={
                "spatial_dims": 2,
                "in_channels": 1,
                "out_channels": 2,
                "channels": [4, 8],
                "strides": [2],
            },
            size=[32, 32],
        )
    assert list(tmp_path.iterdir()) == []


def test_a_vision_transformer_that_returns_a_tuple_is_a_classifier(tmp_path) -> None:
    arguments = {
        "in_channels": 1,
        "img_size": [32, 32],
        "patch_size": [8, 8],
        "hidden_size": 24,
        "mlp_dim": 32,
        "num_layers": 2,
        "num_heads": 4,
        "classification": True,
        "num_classes": 3,
        "spatial_dims": 2,
    }
    path = wrap(
        "monai.networks.nets.ViT",
        ViT(**arguments).state_dict(),
        CLASSES,
        tmp_path / "vit",
        network_args=arguments,
        size=[32, 32],
    )
    assert load_classifier(path).network(torch.zeros(2, 1, 32, 32)).shape == (2, 3)


def test_files_that_are_no_classifier_are_told_in_one_line(bundle, tmp_path) -> None:
    assert "There is no classifier" in one_line(tmp_path / "absent")
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    assert "is no classifier" in one_line(text)
    weights = tmp_path / "weights.pt"
    shutil.copy(bundle / "models/model.pt", weights)
    assert "weights without their network" in one_line(weights)
    (tmp_path / "empty").mkdir()
    assert "no MONAI bundle" in one_line(tmp_path / "empty")
    broken = tmp_path / "broken.zip"
    whole = zip_of(bundle, tmp_path / "whole.zip").read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    assert "is no classifier" in one_line(broken)
    damaged = bundle / "models/model.pt"
    damaged.write_bytes(damaged.read_bytes()[:2000])
    assert "model.pt" in one_line(bundle)
    damaged.unlink()
    assert "no model file" in one_line(bundle)
    (bundle / METADATA).write_text("{")
    (bundle / "models/model.pt").write_bytes(b"")
    assert "cannot be parsed" in one_line(bundle)


def test_an_image_that_does_not_fit_says_what_is_wanted(bundle) -> None:
    classifier = load_classifier(bundle)
    affine = affine_of(3, "straight")
    with pytest.raises(InputError, match=r"takes 1 channel \(image\), and the image has 2"):
        classifier.prepare(image_of(np.zeros((2, 8, 8, 8)), affine))
    with pytest.raises(InputError, match="takes 3D images"):
        classifier.prepare(image_of(np.zeros((1, 8, 8)), affine))
    with pytest.raises(InputError, match="non-finite"):
        classifier.prepare(image_of(np.full((1, 8, 8, 8), np.nan), affine))


def test_a_class_is_found_by_name_index_or_prediction(bundle) -> None:
    classifier = load_classifier(bundle)
    probabilities = np.array([0.2, 0.5, 0.3])
    assert classifier.class_index("glioma", probabilities) == 0
    assert classifier.class_index("Pituitary", probabilities) == 2
    assert classifier.class_index("2", probabilities) == 2
    assert classifier.class_index("predicted", probabilities) == 1
    with pytest.raises(InputError, match="Did you mean 'meningioma'"):
        classifier.class_index("menigioma", probabilities)
    for wrong in ("3", "-1"):
        with pytest.raises(InputError, match="classes 0 to 2"):
            classifier.class_index(wrong, probabilities)


def test_inspection_says_what_a_user_needs(bundle) -> None:
    classifier = load_classifier(bundle)
    said = describe(classifier)
    json.dumps(said)
    assert said["classes"] == CLASSES
    assert said["spacing"] == [2, 2, 2]
    assert said["input_size"] == [16, 18, 20]
    assert said["activation"] == "softmax"
    assert said["identity"] == classifier.identity
    assert len(said["identity"]) == 64
    expected = sum(p.numel() for p in classifier.network.parameters())
    assert said["parameters"] == expected > 1000
    names = [layer["name"] for layer in said["candidate_layers"]]
    assert names == classifier.network.convolutions()
    assert said["candidate_layers"][0] == {
        "name": "features.conv0",
        "channels": 4,
        "size": [8, 9, 10],
    }


def test_loading_leaves_a_frozen_network_in_eval_mode(bundle) -> None:
    classifier = load_classifier(bundle)
    assert not any(module.training for module in classifier.network.modules())
    assert not any(parameter.requires_grad for parameter in classifier.network.parameters())
    assert classifier.to("cpu") is classifier
    assert classifier.device == torch.device("cpu")


def test_multi_label_and_one_logit_classifiers_give_their_probabilities(tmp_path, image) -> None:
    labels = load_classifier(make_bundle(tmp_path / "labels", activation="sigmoid"))
    scores = labels.scores(labels.prepare(image))
    np.testing.assert_allclose(labels.predict(image), scores.double().sigmoid().numpy())

    from monai.networks.nets import DenseNet

    arguments = {
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 1,
        "init_features": 4,
        "growth_rate": 2,
        "block_config": [1, 1],
    }
    torch.manual_seed(0)
    state = DenseNet(**arguments).state_dict()
    for names in (["healthy", "tumour"], ["tumour"]):
        path = wrap(
            "monai.networks.nets.DenseNet",
            state,
            names,
            tmp_path / names[0],
            network_args=arguments,
            size=[16, 18, 20],
            activation="sigmoid",
        )
        binary = load_classifier(path)
        probabilities = binary.predict(image)
        assert binary.classes[1] == "tumour"
        assert len(binary.classes) == 2
        with torch.no_grad():
            logit = binary.network.network(binary.prepare(image).as_tensor()[None])[0, 0]
        assert probabilities[1] == pytest.approx(float(logit.double().sigmoid()))
        assert probabilities.sum() == pytest.approx(1)
    with pytest.raises(ClassifierError, match="wants the activation sigmoid"):
        wrap(
            "monai.networks.nets.DenseNet",
            state,
            ["healthy", "tumour"],
            tmp_path / "wrong",
            network_args=arguments,
            size=[16, 18, 20],
        )
