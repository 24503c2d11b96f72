"""Small classifiers and images with known content."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from scipy.spatial.transform import Rotation
from torch import nn

from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.errors import ClassifierError
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.loading import load_classifier
from SaliencyExplain.models.wrapping import wrap

CLASSES = ["glioma", "meningioma", "pituitary"]


def small_network(spatial_dims: int, channels: int = 1, classes: int = 3) -> nn.Module:
    """Two convolutions, global pooling, a linear layer; random but always the same."""
    torch.manual_seed(7)
    conv = nn.Conv3d if spatial_dims == 3 else nn.Conv2d
    pool = nn.AdaptiveAvgPool3d if spatial_dims == 3 else nn.AdaptiveAvgPool2d
    return nn.Sequential(
        conv(channels, 4, 3, padding=1),
        nn.Softplus(),
        conv(4, 6, 3, stride=2, padding=1),
        nn.Softplus(),
        pool(1),
        nn.Flatten(),
        nn.Linear(6, classes),
    ).eval()


def classifier_of(
    transforms: list[Any], spatial_dims: int, network: nn.Module | None = None
) -> Classifier:
    """A classifier with these transforms, not from any file."""
    return Classifier(
        name="small",
        classes=tuple(CLASSES),
        channels=("image",),
        spatial_dims=spatial_dims,
        network=ScoreNetwork(network or small_network(spatial_dims)).eval(),
        preprocessing=Compose(transforms),
        identity="0" * 64,
        source=Path("small"),
    )


def affine_of(spatial_dims: int, kind: str) -> np.ndarray:
    """A 4x4 affine: straight, flipped, anisotropic or oblique (only in 3D tilted)."""
    spacing = [0.9, 1.3, 3.0] if spatial_dims == 3 else [0.9, 1.3, 1.0]
    affine = np.eye(4)
    if kind == "flipped":
        affine[:3, :3] = np.diag(spacing) @ np.diag([-1, 1, -1 if spatial_dims == 3 else 1])
    elif kind == "permuted":
        order = [2, 0, 1] if spatial_dims == 3 else [1, 0, 2]
        affine[:3, :3] = np.diag(spacing)[:, order] @ np.diag([1, -1, 1])
    elif kind == "oblique":
        angles = [20, 10, -15] if spatial_dims == 3 else [0, 0, 25]
        turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
        affine[:3, :3] = turn @ np.diag(spacing) @ np.diag([1, -1, 1])
    else:
        affine[:3, :3] = np.diag(spacing)
    affine[:3, 3] = [12.0, -31.0, 55.0 if spatial_dims == 3 else 0.0]
    return affine


def world_of(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """The RAS place of each voxel, ``(3, *shape)``."""
    indices = np.zeros((4, int(np.prod(shape))))
    indices[: len(shape)] = np.array(list(itertools.product(*[range(n) for n in shape]))).T
    indices[3] = 1.0
    return (affine @ indices)[:3].reshape(3, *shape)


def image_of(values: np.ndarray, affine: np.ndarray) -> MetaTensor:
    return MetaTensor(
        torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)),
        affine=torch.from_numpy(affine.copy()),
        meta={"name": "planted", "notes": []},
    )


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle of a small 3D DenseNet with all the usual preprocessing."""
    return make_bundle(tmp_path / "small-densenet")


def make_bundle(out: Path, **changes: Any) -> Path:
    from monai.networks.nets import DenseNet

    arguments = {
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 3,
        "init_features": 4,
        "growth_rate": 2,
        "block_config": [1, 1],
    }
    torch.manual_seed(3)
    options: dict[str, Any] = {
        "network_args": arguments,
        "spacing": [2.0, 2.0, 2.0],
        "size": [16, 18, 20],
        "intensity": "zscore",
    }
    return wrap(
        "monai.networks.nets.DenseNet",
        DenseNet(**arguments).state_dict(),
        CLASSES,
        out,
        **(options | changes),
    )


@pytest.fixture
def edit_json() -> Callable[[Path, Callable[[dict[str, Any]], None]], None]:
    """Changes a JSON file in place by a function of its content."""
    import json

    def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return edit


@pytest.fixture
def image():
    return image_of(np.random.default_rng(0).random((1, 30, 28, 12)), affine_of(3, "oblique"))


def one_line(path: Path, *, trust: bool = False) -> str:
    """What is said of a path that is no classifier, which is one line."""
    with pytest.raises(ClassifierError) as caught:
        load_classifier(path, trust=trust)
    message = str(caught.value)
    assert "\n" not in message
    assert "Traceback" not in message
    return message
