"""Loads libraries that are installed without the torch they were built for."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import torch

_DECLARED: list[torch.library.Library] = []


def load_torchvision() -> ModuleType:
    """The library torchvision.

    Its wheels carry operators for one build of torch only and do not load beside another
    one. No network here calls them: declared without a body they let the import through.

    Raises:
        ImportError: It is not installed.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float threshold) -> Tensor")
        # Gone with the library's object.
        _DECLARED.append(library)
    return importlib.import_module("torchvision")
