"""Fixtures of all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real public images, where there is one; tests skip without it."""
    folder = Path(os.environ.get("SALIENCY_EXPLAIN_DATA", PROJECT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("the folder of real images is not here (SALIENCY_EXPLAIN_DATA names it)")
    return folder
