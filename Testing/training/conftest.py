"""Small labelled images whose class can be seen, and networks that learn it in seconds."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from SaliencyExplain.studies.discovery import discover
from SaliencyExplain.training.train import train_classifier
from SaliencyExplain.training.training_settings import Settings

EDGE = 16
NETWORK = {"init_features": 4, "growth_rate": 4, "block_config": [1]}


def draw(label: str, seed: int) -> np.ndarray:
    """A grey picture with a bright square: small for ``small``, large for ``large``."""
    random = np.random.default_rng(seed)
    picture = random.normal(60, 8, (EDGE, EDGE))
    edge = {"small": 3, "large": 8}[label]
    row, column = random.integers(1, EDGE - edge - 1, 2)
    picture[row : row + edge, column : column + edge] += 120
    return np.clip(picture, 0, 255).astype(np.uint8)


def write_pictures(folder: Path, counts: dict[str, int], first_seed: int = 0) -> Path:
    seed = first_seed
    for label, count in counts.items():
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            Image.fromarray(draw(label, seed)).save(folder / label / f"{number:02d}.png")
            seed += 1
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder per class: 8 pictures each."""
    return write_pictures(tmp_path / "pictures", {"small": 8, "large": 8})


def write_table(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of pictures and the bundle of a finished training with the usual settings."""
    home = tmp_path_factory.mktemp("trained")
    folder = write_pictures(home / "pictures", {"small": 8, "large": 8})
    return folder, train_classifier(discover(folder), settings(), home / "bundle").bundle


def settings(**changes: Any) -> Settings:
    usual: dict[str, Any] = {
        "network": "DenseNet",
        "network_args": NETWORK,
        "size": (EDGE, EDGE),
        "epochs": 2,
        "batch_size": 4,
        "learning_rate": 5e-3,
    }
    return Settings(**(usual | changes))
