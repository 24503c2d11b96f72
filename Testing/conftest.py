"""Fixtures of all tests."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
import torch

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real public images, where there is one; tests skip without it."""
    folder = Path(os.environ.get("SALIENCY_EXPLAIN_DATA", PROJECT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("the folder of real images is not here (SALIENCY_EXPLAIN_DATA names it)")
    return folder


@pytest.fixture(scope="session")
def torchvision() -> Iterator[ModuleType]:
    """The library torchvision; tests skip without it.

    Its wheels carry operators for one build of torch only and do not load beside another
    one. No network here calls them: declared without a body they let the import through.
    """
    if find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed")
    declared = None
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        declared = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            declared.define(f"{operator}(Tensor dets, Tensor scores, float threshold) -> Tensor")
    yield importlib.import_module("torchvision")
    del declared


@pytest.fixture(scope="session")
def timm(torchvision: ModuleType) -> ModuleType:
    """The library timm; tests skip without it."""
    return pytest.importorskip("timm")
