"""Importing torchvision beside a torch that it was not built for.

The wheels of torchvision carry operators for one build of torch and do not load beside another
one, such as the CPU's. timm and many bundles import torchvision for networks that call none of
these operators.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import TypeVar

import torch

_Result = TypeVar("_Result")
#: Operators that torchvision describes to torch while it is imported.
_OPERATORS = ("nms", "qnms")
#: Declared operators are gone with the object that declared them.
_DECLARED: list[torch.library.Library] = []


def load_torchvision() -> ModuleType:
    """The library torchvision; operators that did not load are declared without a body.

    Raises:
        ImportError: It is not installed.
    """
    return with_torchvision(lambda: importlib.import_module("torchvision"))


def with_torchvision(call: Callable[[], _Result]) -> _Result:
    """Calls a function that may import torchvision, and once more where its operators are absent.

    Where the real operators load, nothing is declared.
    """
    try:
        return call()
    except Exception as error:  # an import by name wraps it in an error of its own
        if _DECLARED or not _about_operators(error):
            raise
    # A partly imported module would count as imported.
    for name in [name for name in sys.modules if name.partition(".")[0] in ("torchvision", "timm")]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")
    for operator in _OPERATORS:
        library.define(f"{operator}(Tensor dets, Tensor scores, float threshold) -> Tensor")
    _DECLARED.append(library)
    _hand_on()
    return call()


def _hand_on() -> None:
    """Gives torchvision to the modules of MONAI that did not find it when they were imported."""
    models = importlib.import_module("torchvision.models")
    extraction = importlib.import_module("torchvision.models.feature_extraction")
    for module, names in {
        "torchvision_fc": {"models": models},
        "milmodel": {"models": models},
        "netadapter": {
            name: getattr(extraction, name)
            for name in ("get_graph_node_names", "create_feature_extractor")
        },
    }.items():
        vars(importlib.import_module(f"monai.networks.nets.{module}")).update(names)


def _about_operators(error: BaseException | None) -> bool:
    """Whether an operator of torchvision was missing, also behind another error."""
    while error is not None:
        if "torchvision::" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
