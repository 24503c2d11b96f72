"""Trained classifiers of other people, on real images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from SaliencyExplain.errors import ClassifierError
from SaliencyExplain.images.reading import read_image
from SaliencyExplain.models.loading import load_classifier
from SaliencyExplain.models.wrapping import wrap
from Testing.real_classifiers import (
    MRI,
    alzheimer_weights,
    wrap_alzheimer,
    wrap_tiny_vgg,
    write_networks,
)


@pytest.fixture
def networks(tmp_path: Path) -> Path:
    return write_networks(tmp_path)


def _network(path: Path, name: str) -> nn.Module:
    scope: dict = {"__name__": "networks"}
    exec(path.read_text(), scope)
    return scope[name]().eval()


@pytest.mark.slow
def test_the_alzheimer_classifier_gives_what_it_gives_by_hand(
    shared_data: Path, networks: Path, tmp_path: Path
) -> None:
    files = alzheimer_weights(shared_data)
    path = wrap_alzheimer(shared_data, networks, tmp_path)
    classifier = load_classifier(path, trust=True)
    image = read_image(shared_data / MRI)
    by_hand = _network(networks, "AlzheimerNetwork")
    state = {}
    for prefix, file in zip(("backbone", "head"), files, strict=True):
        loaded = torch.load(file, map_location="cpu", weights_only=True)
        state |= {f"{prefix}.{key}": value for key, value in loaded.items()}
    by_hand.load_state_dict(state)
    values = image.as_tensor()[None].double()
    scaled = ((values - values.mean()) / values.std(unbiased=False)).float()
    with torch.no_grad():
        expected = by_hand(scaled)[0]

    np.testing.assert_allclose(
        classifier.scores(classifier.prepare(image)).numpy(), expected.numpy(), atol=1e-3
    )
    np.testing.assert_allclose(
        classifier.predict(image), expected.double().softmax(0).numpy(), atol=1e-3
    )
    assert sum(p.numel() for p in classifier.network.parameters()) > 600_000
    with pytest.raises(ClassifierError, match="--trust"):
        load_classifier(path)


def test_the_chest_x_ray_classifier_gives_what_torchvision_code_would(
    shared_data: Path, networks: Path, tmp_path: Path
) -> None:
    weights = shared_data / "weights-2d-cxr-pneumonia-tinyvgg" / "pneumonia_model.pth"
    path = wrap_tiny_vgg(shared_data, networks, tmp_path)
    classifier = load_classifier(path, trust=True)
    by_hand = _network(networks, "TinyVGG")
    by_hand.load_state_dict(torch.load(weights, weights_only=True))
    images = sorted((shared_data / "cxr-nih-boxes").glob("*.png"))[:4]
    assert images
    for file in images:
        picture = np.asarray(Image.open(file).convert("RGB"), dtype=np.float32) / 255
        small = torch.nn.functional.interpolate(
            torch.from_numpy(picture).permute(2, 0, 1)[None], (64, 64), mode="bilinear"
        )
        with torch.no_grad():
            expected = by_hand(small).softmax(1)[0].numpy()
        found = classifier.predict(read_image(file, colour=True))
        np.testing.assert_allclose(found, expected, atol=2e-3)
        # A grey picture is one whose three colours are equal.
        np.testing.assert_allclose(classifier.predict(read_image(file)), found, atol=2e-3)


def test_weight_files_under_the_wrong_submodule_are_told_by_their_keys(
    shared_data: Path, networks: Path, tmp_path: Path
) -> None:
    weights = shared_data / "weights-3d-mri-alzheimer-ncomms2022"
    with pytest.raises(ClassifierError, match=r"missing \(backbone\.block1"):
        wrap(
            f"{networks}:AlzheimerNetwork",
            [f"head={weights / 'backbone_84.pth'}"],
            ["a", "b"],
            tmp_path / "wrong",
            size=[182, 218, 182],
            trust=True,
        )
    with pytest.raises(ClassifierError, match="only with --trust"):
        wrap(f"{networks}:AlzheimerNetwork", [], ["a", "b"], tmp_path / "wrong")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["networks.py"]
