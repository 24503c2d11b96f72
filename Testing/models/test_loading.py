"""Loading classifiers in each form, and the one clear line where it cannot be done."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from monai.networks.nets import AutoEncoder, ViT

from SaliencyExplain.errors import ClassifierError
from SaliencyExplain.models.loading import load_classifier
from SaliencyExplain.models.wrapping import wrap
from Testing.models.bundles import INFERENCE, METADATA, zip_of
from Testing.models.conftest import (
    CLASSES,
    one_line,
)


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
    assert "--trust" in one_line(path)
    classifier = load_classifier(path, trust=True)
    assert classifier.format == "TorchScript"
    assert classifier.trusted
    np.testing.assert_allclose(classifier.predict(image), original.predict(image), rtol=1e-5)


def test_a_torchscript_file_alone_says_how_to_make_a_bundle_of_it(bundle, image, tmp_path) -> None:
    original = load_classifier(bundle)
    path = tmp_path / "alone.pt"
    torch.jit.script(original.network.network).save(str(path))
    assert "model add" in one_line(path)
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
    assert classifier.format == "MONAI bundle (TorchScript)"
    np.testing.assert_allclose(classifier.predict(image), original.predict(image), rtol=1e-5)


@pytest.mark.slow
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


def test_a_network_that_gives_no_scores_is_refused(tmp_path) -> None:
    # Maps at another resolution than the image's: neither scores of classes nor a segmentation.
    network = AutoEncoder(2, 1, 2, channels=(4, 8), strides=(2, 2))
    with pytest.raises(ClassifierError, match="not a classifier"):
        wrap(
            "monai.networks.nets.AutoEncoder",
            network.state_dict(),
            ["background", "tumour"],
            tmp_path / "encoder",
            network_args={
                "spatial_dims": 2,
                "in_channels": 1,
                "out_channels": 2,
                "channels": [4, 8],
                "strides": [2, 2],
            },
            size=[33, 33],
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
    assert "absent" in one_line(tmp_path / "absent")
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    assert "notes.txt" in one_line(text)
    weights = tmp_path / "weights.pt"
    shutil.copy(bundle / "models/model.pt", weights)
    assert "weights without their network" in one_line(weights)
    (tmp_path / "empty").mkdir()
    assert METADATA in one_line(tmp_path / "empty")
    broken = tmp_path / "broken.zip"
    whole = zip_of(bundle, tmp_path / "whole.zip").read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    assert "broken.zip" in one_line(broken)
    damaged = bundle / "models/model.pt"
    damaged.write_bytes(damaged.read_bytes()[:2000])
    assert "model.pt" in one_line(bundle)
    damaged.unlink()
    assert "no model file" in one_line(bundle)
    (bundle / METADATA).write_text("{")
    (bundle / "models/model.pt").write_bytes(b"")
    assert "cannot be parsed" in one_line(bundle)
