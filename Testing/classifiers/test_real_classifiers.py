"""Trained classifiers of other people, on real images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from SaliencyExplain.classifiers.loading import load_classifier
from SaliencyExplain.classifiers.wrapping import wrap
from SaliencyExplain.errors import ClassifierError
from SaliencyExplain.images.reading import read_image

# The architectures as the data's READMEs describe them, in a file as a user would have it.
NETWORKS = """
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, before, after, kernel, stride, pool, pool_stride):
        super().__init__()
        self.conv = nn.Conv3d(before, after, kernel, stride, bias=False)
        self.pool = nn.MaxPool3d(pool, pool_stride)
        self.BN = nn.BatchNorm3d(after)
        self.nonlin = nn.LeakyReLU()

    def forward(self, x):
        return self.nonlin(self.BN(self.pool(self.conv(x))))


class Backbone(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.block1 = Block(1, width, 7, 2, 3, 2)
        self.block2 = Block(width, 2 * width, 4, 1, 2, 2)
        self.block3 = Block(2 * width, 4 * width, 3, 1, 2, 2)
        self.block4 = Block(4 * width, 8 * width, 3, 1, 2, 2)

    def forward(self, x):
        return self.block4(self.block3(self.block2(self.block1(x))))


class Dense(nn.Module):
    def __init__(self, before, after, place):
        super().__init__()
        for index in range(place):
            self.add_module(str(index), nn.Identity())
        self.add_module(str(place), nn.Linear(before, after))

    def forward(self, x):
        for layer in self.children():
            x = layer(x)
        return x


class Head(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.dense1 = Dense(features, 30, 1)
        self.dense2 = Dense(30, 2, 2)
        self.nonlin = nn.LeakyReLU()

    def forward(self, x):
        return self.dense2(self.nonlin(self.dense1(x.flatten(1))))


class AlzheimerNetwork(nn.Module):
    def __init__(self, width=20):
        super().__init__()
        self.backbone = Backbone(width)
        self.head = Head(5760)

    def forward(self, x):
        return self.head(self.backbone(x))


class TinyVGG(nn.Module):
    def __init__(self):
        super().__init__()
        def block(before):
            return nn.Sequential(
                nn.Conv2d(before, 10, 3, padding=1), nn.ReLU(),
                nn.Conv2d(10, 10, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            )
        self.conv_block_1 = block(3)
        self.conv_block_2 = block(10)
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(2560, 2))

    def forward(self, x):
        return self.classifier(self.conv_block_2(self.conv_block_1(x)))
"""


@pytest.fixture
def networks(tmp_path: Path) -> Path:
    path = tmp_path / "networks.py"
    path.write_text(NETWORKS)
    return path


def _network(path: Path, name: str) -> nn.Module:
    scope: dict = {"__name__": "networks"}
    exec(path.read_text(), scope)
    return scope[name]().eval()


def test_the_alzheimer_classifier_gives_what_it_gives_by_hand(
    shared_data: Path, networks: Path, tmp_path: Path
) -> None:
    weights = shared_data / "weights-3d-mri-alzheimer-ncomms2022"
    files = [weights / "backbone_84.pth", weights / "ADD_84.pth"]
    path = wrap(
        f"{networks}:AlzheimerNetwork",
        [f"backbone={files[0]}", f"head={files[1]}"],
        ["non-Alzheimer's dementia", "Alzheimer's disease"],
        tmp_path / "alzheimer",
        channels=["T1"],
        size=[182, 218, 182],
        fit="crop",
        intensity="zscore",
        orientation=None,
        trust=True,
    )
    classifier = load_classifier(path, trust=True)
    image = read_image(
        shared_data
        / "ms-lesions-mni-patient19"
        / "T1_N4_noneck_reduced_winsor_regtoFLAIR_brain_N4_regtoMNI.nii.gz"
    )
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
    path = wrap(
        f"{networks}:TinyVGG",
        weights,
        ["normal", "pneumonia"],
        tmp_path / "tinyvgg",
        channels=["red", "green", "blue"],
        size=[64, 64],
        intensity="window:0,255",
        trust=True,
    )
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
