"""scikit-image, which finds regions and is not needed otherwise."""

from __future__ import annotations

import importlib
from types import ModuleType

from SaliencyExplain.errors import ErrorCode, InputError


def scikit_image(part: str) -> ModuleType:
    """A module of it, such as ``segmentation``.

    Raises:
        InputError: It is not installed.
    """
    try:
        return importlib.import_module(f"skimage.{part}")
    except ModuleNotFoundError:
        raise InputError(
            ErrorCode.PACKAGE_MISSING,
            "scikit-image: it is not installed, and finding regions needs it. Run pip install "
            "scikit-image.",
        ) from None
