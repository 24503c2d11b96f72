"""Which classes and functions the configuration of an untrusted bundle may call."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Collection, Mapping
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from SaliencyExplain.confinement import unconfined
from SaliencyExplain.errors import ClassifierError, ErrorCode
from SaliencyExplain.models.allowed import NAMES, NETWORKS, TIMM, TORCHVISION, TRANSFORMS
from SaliencyExplain.models.torchvision_operators import with_torchvision

_RULE = (
    "without --trust a bundle may use the classification networks, layers and preprocessing "
    "transforms of monai, torch.nn, torchvision and timm that are on a list; with --trust "
    "everything that it names is imported and run with your permissions"
)
#: Arguments that say which trained weights to fetch; they are set to fetch none.
PRETRAINED = frozenset({"pretrained", "pretrained_backbone", "weights", "weights_backbone"})
# Parts of names of arguments whose values are files or addresses.
_PLACES = frozenset(
    {
        *("pretrained", "weights", "checkpoint", "ckpt", "cache", "url", "uri", "hub", "repo"),
        *("path", "file", "filename", "filepath", "dir", "directory", "folder", "root"),
    }
)
_ARGUMENT = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_TIMM_NAME = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)?")
_LONGEST_SHOWN = 100


def shown(value: Any) -> str:
    """A value of an untrusted file, shortened to one line for a message."""
    text = ascii(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def resolve_target(target: Any) -> Callable[..., Any]:
    """Finds the class or function of a bundle's ``_target_``, if it is allowed without trust.

    Only the packages of :mod:`SaliencyExplain.models.allowed` are imported, and a name is
    looked up in them alone: nothing is imported by a name that the bundle gives.

    Args:
        target: The text behind ``_target_``: a dotted name, or MONAI's short one.

    Raises:
        ClassifierError: The target does not exist or is not allowed.
    """
    if not isinstance(target, str):
        raise _refused(target)
    parent, _, name = target.rpartition(".")
    package = _package_of(parent, name)
    if package is None:
        raise _refused(target)
    module, names = _namespace(package, parent, target)
    component = vars(module).get(name)
    public = parent in ("", package, module.__name__)
    if component is None and public:
        raise ClassifierError(
            ErrorCode.NAME_UNKNOWN,
            f"The bundle's _target_ {shown(target)} does not exist in the installed {package}.",
        )
    if name not in names or not (inspect.isclass(component) or inspect.isfunction(component)):
        raise _refused(target)
    if not public and not f"{component.__module__}.".startswith(f"{parent}."):
        raise _refused(target)
    return component


def without_downloads(
    component: Callable[..., Any], arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """The arguments such that a network is built without fetching or reading weights.

    The weights come from the bundle; many networks of MONAI, torchvision and timm download others
    first unless an argument disables it.

    Args:
        component: What :func:`resolve_target` gave.
        arguments: Its arguments by name.

    Raises:
        ClassifierError: An argument names a file or an address to load from, or another
            network by a name that is not registered.
    """
    parameters = set(inspect.signature(component).parameters)
    module = component.__module__
    in_torchvision = module.startswith(f"{TORCHVISION}.")
    if component.__name__ == "TorchVisionFCModel":
        _check_wrapped_network(arguments, parameters - {"kwargs"})
    result: dict[str, Any] = {}
    for name, value in arguments.items():
        if not isinstance(name, str) or not _ARGUMENT.fullmatch(name):
            raise ClassifierError(
                ErrorCode.MODEL_REFUSED,
                f"The argument {shown(name)} of {component.__name__} is refused: it is not a "
                "valid name of an argument.",
            )
        if name == "img_size" and component.__name__ == "SwinUNETR" and name not in parameters:
            # Newer versions of MONAI take images of any size.
            continue
        if name in PRETRAINED:
            if not in_torchvision and name.startswith("pretrained"):
                result[name] = False
            elif not in_torchvision:
                result[name] = None
            continue
        if _PLACES & set(name.lower().split("_")) and not isinstance(
            value, (bool, int, float, type(None))
        ):
            raise ClassifierError(
                ErrorCode.MODEL_REFUSED,
                f"The argument {name} of {component.__name__} is refused: it loads a file or "
                "fetches one from an address. Give the weights in the bundle; With --trust the "
                "argument is used.",
            )
        result[name] = value
    if in_torchvision:
        result["weights"] = None
    elif "pretrained" in parameters:
        result["pretrained"] = False
    model_name = result.get("model_name")
    if isinstance(model_name, str) and re.search(r"[:/\\]", model_name):
        raise ClassifierError(
            ErrorCode.MODEL_REFUSED,
            f"The network {shown(model_name)} is refused: it would be downloaded or read from "
            "a folder.",
        )
    if component.__name__ == "create_model" and module.startswith(f"{TIMM}."):
        _check_timm_name(model_name)
    return result


def without_pretrained(definition: Any) -> Any:
    """The definition of a trusted network such that no library fetches weights for it.

    The weights come from the bundle. Values that name a file of the user's own are kept.

    Args:
        definition: As it stands in the configuration.
    """
    if isinstance(definition, list):
        return [without_pretrained(one) for one in definition]
    if not isinstance(definition, Mapping):
        return definition
    of_torchvision = str(definition.get("_target_", "")).startswith(f"{TORCHVISION}.")
    result: dict[Any, Any] = {}
    for name, value in definition.items():
        if name in PRETRAINED and value is True:
            value = False
        elif name in PRETRAINED and of_torchvision:
            value = None
        result[name] = without_pretrained(value)
    return result


def _package_of(parent: str, name: str) -> str | None:
    """The allowed package that a dotted or short name belongs to."""
    if not name.isascii() or not name.isidentifier() or name.startswith("_"):
        return None
    if not parent:
        return next((one for one in (NETWORKS, TRANSFORMS) if name in NAMES[one]), None)
    packages = (*NAMES, TORCHVISION, TIMM)
    return next((p for p in packages if parent == p or parent.startswith(f"{p}.")), None)


def _namespace(package: str, parent: str, target: str) -> tuple[ModuleType, Collection[str]]:
    """The module in which a name is looked up, and the names in it that are allowed."""
    module = _imported(package, target)
    if package in NAMES:
        return module, NAMES[package]
    if package == TORCHVISION:
        if f"{parent}.".startswith(f"{TORCHVISION}.video."):
            module = module.video
        return module, importlib.import_module(TORCHVISION).list_models(module=module)
    if parent == TIMM:
        return module, {"create_model"}
    return module.models, {"create_model", *module.list_models()}


def _imported(package: str, target: str) -> ModuleType:
    try:
        # A package of the list is the program's own; timm makes folders when it is imported.
        with unconfined():
            return with_torchvision(lambda: importlib.import_module(package))
    except ImportError as error:
        missing = (getattr(error, "name", None) or "").split(".")[0]
        if missing and find_spec(missing) is None:
            raise ClassifierError(
                ErrorCode.PACKAGE_MISSING,
                f"The bundle's _target_ {shown(target)} needs the package {missing}: install it.",
            ) from error
        raise _not_imported(target, error) from error
    except (AttributeError, RuntimeError, OSError) as error:
        raise _not_imported(target, error) from error


def _check_timm_name(name: Any) -> None:
    timm = importlib.import_module(TIMM)
    if not isinstance(name, str) or not _TIMM_NAME.fullmatch(name) or not timm.is_model(name):
        raise ClassifierError(
            ErrorCode.MODEL_REFUSED,
            f"The network {shown(name)} is refused: the installed timm has no network of that "
            "name. Check the name, or install another version.",
        )


def _check_wrapped_network(arguments: Mapping[str, Any], known: set[str]) -> None:
    """Checks the name and arguments that MONAI's wrapper of torchvision's networks passes on."""
    name = arguments.get("model_name", "resnet18")
    models = _imported(TORCHVISION, "TorchVisionFCModel")
    if not isinstance(name, str) or name not in models.list_models(module=models):
        raise ClassifierError(
            ErrorCode.MODEL_REFUSED,
            f"The network {shown(name)} is refused: the installed torchvision has no "
            "classification network of that name. Check the name, or install another version.",
        )
    others = sorted(str(one) for one in set(arguments) - known)
    if others:
        raise ClassifierError(
            ErrorCode.MODEL_REFUSED,
            f"The argument {shown(others[0])} of TorchVisionFCModel is refused: arguments are "
            "passed on to torchvision only with --trust.",
        )


def _refused(target: Any) -> ClassifierError:
    return ClassifierError(
        ErrorCode.MODEL_REFUSED, f"The bundle's _target_ {shown(target)} is refused: {_RULE}."
    )


def _not_imported(target: str, error: Exception) -> ClassifierError:
    lines = str(error).splitlines() or [type(error).__name__]
    return ClassifierError(
        ErrorCode.MODEL_CONFIGURATION,
        f"The bundle's _target_ {shown(target)} cannot be imported: {lines[0]}",
    )
