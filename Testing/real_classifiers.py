"""Trained classifiers of other people, as the data's READMEs describe them."""

from __future__ import annotations

from pathlib import Path

from SaliencyExplain.models.wrapping import wrap

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

#: An image on the grid that the Alzheimer network was trained on.
MRI = "ms-lesions-mni-patient19/T1_N4_noneck_reduced_winsor_regtoFLAIR_brain_N4_regtoMNI.nii.gz"


def write_networks(folder: Path) -> Path:
    """The file of the networks, as a user would have it."""
    path = folder / "networks.py"
    path.write_text(NETWORKS)
    return path


def alzheimer_weights(data: Path) -> tuple[Path, Path]:
    """Files of the backbone and of the head."""
    folder = data / "weights-3d-mri-alzheimer-ncomms2022"
    return folder / "backbone_84.pth", folder / "ADD_84.pth"


def wrap_alzheimer(data: Path, networks: Path, folder: Path) -> Path:
    """The bundle of the 3D CNN for brain MRI, made in a folder."""
    backbone, head = alzheimer_weights(data)
    return wrap(
        f"{networks}:AlzheimerNetwork",
        [f"backbone={backbone}", f"head={head}"],
        ["non-Alzheimer's dementia", "Alzheimer's disease"],
        folder / "alzheimer",
        channels=["T1"],
        size=[182, 218, 182],
        fit="crop",
        intensity="zscore",
        orientation="none",
        trust=True,
    )


def wrap_tiny_vgg(data: Path, networks: Path, folder: Path) -> Path:
    """The bundle of the 2D CNN for chest X-rays, made in a folder."""
    return wrap(
        f"{networks}:TinyVGG",
        data / "weights-2d-cxr-pneumonia-tinyvgg" / "pneumonia_model.pth",
        ["normal", "pneumonia"],
        folder / "tinyvgg",
        channels=["red", "green", "blue"],
        size=[64, 64],
        intensity="window:0,255",
        trust=True,
    )
