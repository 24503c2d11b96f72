"""Which classes and functions the configuration of a stranger's bundle may call."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from monai.bundle import ComponentLocator
from monai.transforms import Transform
from torch import nn

from SaliencyExplain.errors import ClassifierError, ErrorCode

# Only from these modules, and of them only what `_is_allowed` says: a class of layers or
# transforms builds an object, while a free function of torch may read, write or download.
_MODULES = (
    "monai.networks",
    "monai.transforms",
    "monai.apps",
    "torch.nn",
    "torchvision.models",
    "torchvision.ops",
    "timm",
)
# Transforms that read or write files, and a network that fetches a language model.
_DENIED = ("monai.transforms.io", "monai.networks.nets.transchex")
_MONAI_FUNCTIONS = {f"resnet{depth}" for depth in (10, 18, 34, 50, 101, 152, 200)}
_RULE = (
    "without --trust a bundle may use the networks and transforms of monai, torch.nn, "
    "torchvision and timm only"
)


@functools.cache
def _locator() -> ComponentLocator:
    """MONAI's table of short names; to make it takes 70 ms."""
    return ComponentLocator()


def resolve_target(target: Any) -> Callable[..., Any]:
    """Finds what a ``_target_`` of a bundle means, if it is allowed without trust.

    Args:
        target: The text behind ``_target_``: a dotted name, or MONAI's short one.

    Raises:
        ClassifierError: The target does not exist or is not allowed.
    """
    if not isinstance(target, str):
        raise ClassifierError(
            ErrorCode.MODEL_REFUSED, f"The bundle's _target_ {target!r} is refused: {_RULE}."
        )
    found = _locator().get_component_module_name(target)
    module_name = found[0] if isinstance(found, list) else found
    dotted = f"{module_name}.{target}" if module_name else target
    parent, _, attribute = dotted.rpartition(".")
    parts = dotted.split(".")
    listed = any(parent == module or parent.startswith(f"{module}.") for module in _MODULES)
    if not listed or any(part.startswith("_") for part in parts[1:]):
        raise ClassifierError(
            ErrorCode.MODEL_REFUSED, f"The bundle's _target_ '{target}' is refused: {_RULE}."
        )
    try:
        # A module is imported by its own name and never reached through another one:
        # torch.nn.functional has attributes that lead to all of Python.
        component = getattr(importlib.import_module(parent), attribute)
    except (ImportError, AttributeError, RuntimeError, OSError) as error:
        package = (getattr(error, "name", None) or "").split(".")[0]
        if isinstance(error, ImportError) and package and find_spec(package) is None:
            raise ClassifierError(
                ErrorCode.PACKAGE_MISSING,
                f"The bundle's _target_ '{target}' needs the package {package}: install it.",
            ) from error
        if isinstance(error, (RuntimeError, OSError)):
            raise ClassifierError(
                ErrorCode.MODEL_CONFIGURATION,
                f"The bundle's _target_ '{target}' cannot be imported: "
                f"{str(error).splitlines()[0]}",
            ) from error
        raise ClassifierError(
            ErrorCode.NAME_UNKNOWN,
            f"The bundle's _target_ '{target}' does not exist in the installed {parts[0]}.",
        ) from error
    if not _is_allowed(component):
        raise ClassifierError(
            ErrorCode.MODEL_REFUSED, f"The bundle's _target_ '{target}' is refused: {_RULE}."
        )
    return component


def without_downloads(component: Callable[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments such that a network is built without fetching or reading weights.

    The weights come from the bundle; many networks of MONAI, torchvision and timm would
    fetch others first where they are not told otherwise.

    Raises:
        ClassifierError: An argument names a file or an address to load from.
    """
    result = dict(arguments)
    names = set(inspect.signature(component).parameters)
    for argument in ("pretrained", "weights", "weights_backbone"):
        if result.get(argument):
            if argument != "pretrained" and isinstance(component, type):
                continue
            result[argument] = False if argument == "pretrained" else None
        elif argument == "pretrained" and argument in names:
            result[argument] = False
    for argument in ("checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay"):
        if result.get(argument):
            raise ClassifierError(
                ErrorCode.MODEL_REFUSED,
                f"The network's argument {argument} is refused: it loads a file.",
            )
    model_name = result.get("model_name")
    if isinstance(model_name, str) and (":" in model_name or "/" in model_name):
        raise ClassifierError(
            ErrorCode.MODEL_REFUSED,
            f"The network '{model_name}' is refused: it would be downloaded.",
        )
    return result


def _is_allowed(component: Any) -> bool:
    module = getattr(component, "__module__", "") or ""
    if module in _DENIED or module.startswith(tuple(f"{name}." for name in _DENIED)):
        return False
    if module.split(".")[0] not in {"monai", "torch", "torchvision", "timm"}:
        return False
    if inspect.isclass(component):
        return issubclass(component, (nn.Module, Transform))
    if not inspect.isfunction(component):
        return False
    name = component.__name__
    if module == "monai.networks.nets.resnet":
        return name in _MONAI_FUNCTIONS
    if module.startswith("torchvision.models."):
        return name in importlib.import_module("torchvision.models").list_models()
    if module.startswith("timm."):
        timm = importlib.import_module("timm")
        return name == "create_model" or bool(timm.is_model(name))
    return False
