"""Fixtures of all tests."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

from SaliencyExplain.classifiers.torchvision_operators import load_torchvision

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real public images, where there is one; tests skip without it."""
    folder = Path(os.environ.get("SALIENCY_EXPLAIN_DATA", PROJECT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("the folder of real images is not here (SALIENCY_EXPLAIN_DATA names it)")
    return folder


@pytest.fixture(scope="session")
def torchvision() -> ModuleType:
    """The library torchvision; tests skip without it."""
    if find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed")
    return load_torchvision()


@pytest.fixture(scope="session")
def timm(torchvision: ModuleType) -> ModuleType:
    """The library timm; tests skip without it."""
    return pytest.importorskip("timm")
