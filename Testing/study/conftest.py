"""A tiny study: small volumes with a bright ball, their masks, and a small classifier."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.networks.nets import DenseNet
from numpy.typing import NDArray

from SaliencyExplain.models.wrapping import wrap

NETWORK = {
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "init_features": 4,
    "growth_rate": 4,
    "block_config": [2],
}


def write_nifti(path: Path, values: NDArray[np.generic], spacing: float = 2.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([spacing, spacing, spacing, 1.0])), path)
    return path


def ball(
    seed: int, shape: tuple[int, ...] = (20, 20, 16)
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Noise with a bright ball at a place of its own, and the ball's mask."""
    random = np.random.default_rng(seed)
    centre = np.array([random.integers(5, size - 5) for size in shape])
    distance = np.linalg.norm(np.stack(np.indices(shape), -1) - centre, axis=-1)
    mask = (distance <= 3).astype(np.uint8)
    return (random.normal(0, 0.2, shape) + 3 * mask).astype(np.float32), mask


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MONAI bundle of an untrained DenseNet with the classes ``no tumour`` and ``tumour``."""
    torch.manual_seed(3)
    network = DenseNet(**NETWORK)
    return wrap(
        "monai.networks.nets.DenseNet",
        network.state_dict(),
        ["no tumour", "tumour"],
        tmp_path_factory.mktemp("classifier") / "small",
        network_args=NETWORK,
        size=[20, 20, 16],
        intensity="zscore",
    )


def make_study(folder: Path, count: int) -> Path:
    """Makes a folder of ``P1_image``, ``P1_mask`` … pairs."""
    for number in range(1, count + 1):
        image, mask = ball(number)
        write_nifti(folder / f"P{number}_image.nii.gz", image)
        write_nifti(folder / f"P{number}_mask.nii.gz", mask)
    return folder


@pytest.fixture
def study_folder(tmp_path: Path) -> Callable[[int], Path]:
    """Makes a study of so many cases in the test's folder."""
    return lambda count: make_study(tmp_path / "data", count)
