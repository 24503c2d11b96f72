"""Versions of what reads the images and computes the maps, for their provenance."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform

import monai
import numpy as np
import torch

from SaliencyExplain import __version__
from SaliencyExplain.plugins import plugin_packages


def versions() -> dict[str, str]:
    """Versions of what reads the images and computes the maps, by package."""
    readers = {}
    for name in ("scipy", "scikit-image", "SimpleITK", "nibabel"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            readers[name] = importlib.metadata.version(name)
    return {
        "SaliencyExplain": __version__,
        "torch": torch.__version__,
        "monai": monai.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        **readers,
        **plugin_packages(),
    }
