"""Networks by name: MONAI's and timm's by short ones, all others by dotted names."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from SaliencyExplain.confinement import confined
from SaliencyExplain.errors import ClassifierError, ErrorCode, InputError, unknown_name
from SaliencyExplain.landlock import run_apart
from SaliencyExplain.models.allowed import NETWORK_CHANGES
from SaliencyExplain.models.building import building_limited
from SaliencyExplain.models.configuration import Configuration
from SaliencyExplain.models.targets import resolve_target, without_downloads
from SaliencyExplain.models.torchvision_operators import with_torchvision

#: MONAI's classification networks that take images of any size and need nothing but the
#: number of channels and classes (and ViT, which wants its patch_size as well).
MONAI_NETWORKS = (
    *("DenseNet121", "DenseNet169", "DenseNet201", "DenseNet264", "DenseNet"),
    *("resnet10", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnet200"),
    *("SENet154", "SEResNet50", "SEResNet101", "SEResNet152", "SEResNext50", "SEResNext101"),
    *("EfficientNetBN", "ViT"),
)
_MONAI = "monai.networks.nets"
_TIMM = "timm."
_CREATE = "timm.create_model"
#: What the libraries call the number of input channels, and that of the classes.
_CHANNELS = ("in_channels", "n_input_channels", "in_chans")
_CLASSES = ("out_channels", "num_classes", "classes")


def network_definition(
    name: str,
    arguments: Mapping[str, Any],
    *,
    channels: int,
    classes: int,
    spatial_dims: int | None = None,
    size: Sequence[int] | None = None,
    trust: bool = False,
) -> dict[str, Any]:
    """The configuration of a network, its arguments completed by what is known already.

    Args:
        name: A network of MONAI (``DenseNet121``), ``timm.NAME`` (``timm.resnet50``), or a
            dotted name.
        arguments: Its arguments; they stand before anything that is filled in.
        channels: Channels of the input.
        classes: How many classes the network tells apart.
        spatial_dims: 2 or 3, where it is known.
        size: Voxels per axis of the input, where it is fixed.
        trust: Whether a network of any module may be named.

    Returns:
        ``{"_target_": dotted name, argument: value, …}``, such that nothing is downloaded.

    Raises:
        InputError: The network does not exist; the message has the nearest name.
        ClassifierError: It is refused, or needs a package that is not installed.
    """
    arguments = dict(arguments)
    if "." not in name:
        name = _monai_name(name)
    elif name.startswith(_TIMM) and name.count(".") == 1 and name != _CREATE:
        arguments = {"model_name": _timm_name(name.removeprefix(_TIMM)), **arguments}
        name = _CREATE
    try:
        component = resolve_target(name)
    except ClassifierError:
        if trust:
            return {"_target_": name, **arguments}
        raise
    known = _parameters(component)
    for names, value in (
        (("spatial_dims",), spatial_dims),
        (_CHANNELS, channels),
        (_CLASSES, classes),
        (("img_size",), list(size) if size and name.startswith(_MONAI) else None),
        (("classification",), True),
    ):
        wanted = next((one for one in names if one in known), None)
        if wanted and value is not None and not any(one in arguments for one in names):
            arguments[wanted] = value
    return {"_target_": name, **without_downloads(component, arguments)}


def with_class_count(definition: Mapping[str, Any], count: int) -> dict[str, Any] | None:
    """The definition of the same network with another number of classes.

    Returns:
        None where no argument of the network is known to be that number.
    """
    name = _argument_of(definition, _CLASSES)
    return None if name is None else {**definition, name: count}


def with_channel_count(definition: Mapping[str, Any], layer: str, count: int) -> dict[str, Any]:
    """The definition of the same network with another number of input channels.

    Args:
        definition: See :func:`network_definition`.
        layer: Dotted name of the network's first convolution.
        count: Channels of its input.
    """
    name = _argument_of(definition, _CHANNELS)
    if name is not None:
        return {**definition, name: count}
    return {
        "_target_": f"{NETWORK_CHANGES}.with_input_channels",
        "network": dict(definition),
        "layer": layer,
        "channels": count,
    }


def _argument_of(definition: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """The one of several arguments that the network of a definition has; None: no known one."""
    try:
        known = _parameters(resolve_target(definition["_target_"]))
    except ClassifierError:
        known = set()  # a network of the user's own
    return next((name for name in names if name in definition or name in known), None)


def build_network(definition: Mapping[str, Any], *, trust: bool = False) -> nn.Module:
    """Builds the network of a definition, with weights as it initialises them.

    Raises:
        ClassifierError: It is refused, cannot be built, or is not a network.
    """
    configuration = Configuration({"network_def": dict(definition)}, trust=trust)
    if trust:
        built = configuration.build("network_def")
    else:
        name = f"The network {definition['_target_']}"
        with building_limited(name), confined(name):
            built = run_apart(lambda: configuration.build("network_def"))
    if not isinstance(built, nn.Module):
        raise ClassifierError(
            ErrorCode.MODEL_CONFIGURATION,
            f"{definition['_target_']} builds a {type(built).__name__}, not a network.",
        )
    return built


def _monai_name(name: str) -> str:
    by_lower = {known.lower(): known for known in MONAI_NETWORKS}
    if name.lower() not in by_lower:
        raise unknown_name("network", name, [*MONAI_NETWORKS, *_close(name, _timm_names())])
    return f"{_MONAI}.{by_lower[name.lower()]}"


def _timm_names() -> list[str]:
    """Names of timm's networks; none where timm cannot be imported."""
    try:
        timm = with_torchvision(lambda: importlib.import_module("timm"))
        return [f"{_TIMM}{name}" for name in timm.list_models()]
    except (ImportError, RuntimeError, OSError):
        return []


def _timm_name(name: str) -> str:
    if ":" in name or "/" in name:
        raise InputError(
            ErrorCode.MODEL_REFUSED,
            f"The network 'timm.{name}' is refused: it would be downloaded. Give the name of a "
            "network and its weights as a file.",
        )
    # Raises an error that names the missing package where timm cannot be imported.
    resolve_target(_CREATE)
    timm = importlib.import_module("timm")
    if not timm.is_model(name):
        raise unknown_name("network of timm", name, _close(name, timm.list_models()))
    return name


def _close(name: str, known: Sequence[str]) -> list[str]:
    """The names of timm's networks that are similar to a wrong one."""
    return difflib.get_close_matches(name.lower(), known, n=8, cutoff=0.5)


def _parameters(component: Callable[..., Any]) -> set[str]:
    """Names of the arguments that make a network fit its channels and classes."""
    module = component.__module__
    if module.startswith("timm."):
        return {"in_chans", "num_classes"}
    if module.startswith("torchvision.models."):
        return {"num_classes"}
    if module == f"{_MONAI}.resnet" and inspect.isfunction(component):
        component = importlib.import_module(module).ResNet
    return _arguments_of(component)


def _arguments_of(component: Callable[..., Any]) -> set[str]:
    """The arguments of a class and, where it passes on others, of those that it is made of."""
    found: set[str] = set()
    for one in component.__mro__ if inspect.isclass(component) else (component,):
        parameters = inspect.signature(one).parameters
        found |= set(parameters)
        if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
            break
    return found
