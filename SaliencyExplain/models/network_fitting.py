"""Bringing a network and weights together that were trained with a changed first or last layer.

What is changed is read from the names and shapes of the weights, and only where one reading gives
every tensor its place.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from SaliencyExplain.errors import ClassifierError, ErrorCode, InputError
from SaliencyExplain.models.checkpoints import Checkpoint, Nearest, fit, nearest, takes_no_part
from SaliencyExplain.models.file_kinds import some
from SaliencyExplain.models.networks import with_channel_count, with_class_count
from SaliencyExplain.models.targets import shown

_OLD_NAME = re.compile(r"(\bdenselayer\d+\.(?:norm|relu|conv))\.([12]\.\w+)$")
_NEW_NAME = re.compile(r"\bdenselayer\d+\.(?:norm|relu|conv)[12]\.\w+$")
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Adapted:
    """A network and weights, changed to fit each other where that is possible.

    Attributes:
        definition: The network's configuration.
        network: Built from it.
        checkpoint: The weights.
        notes: Notes for the user on what was changed.
    """

    definition: dict[str, Any]
    network: nn.Module
    checkpoint: Checkpoint
    notes: tuple[str, ...] = ()


def adapt(
    definition: dict[str, Any],
    network: nn.Module,
    checkpoint: Checkpoint,
    *,
    channels: int,
    activation: str | None,
    build: Callable[[dict[str, Any]], nn.Module],
) -> Adapted:
    """Changes a network's first and last layer to those that its weights are for.

    - the number of classes, where the weights of the last layer have another one;
    - a last layer in a ``Sequential`` with layers that have no weights, such as
      ``Sequential(Dropout, Linear)`` in the place of a ``Linear``, or without a bias;
    - the number of input channels of the first convolution;
    - names in a DenseNet as torchvision wrote them before its version 0.2 (``norm.1``).

    Args:
        definition: The network's configuration.
        network: Built from it.
        checkpoint: The weights.
        channels: How many channels are named for the input.
        activation: The activation that was given, if any.
        build: Makes a network of a configuration.

    Returns:
        The changed network; the given one where the weights fit or where no such change makes them
        fit.

    Raises:
        InputError: The weights are for another number of channels than are named, or a layer
            may follow the last one that is not in the file, such as a sigmoid.
        ClassifierError: The last layer was replaced by several, whose order is not in the file.
    """
    given = Adapted(definition, network, checkpoint)
    expected = network.state_dict()
    if any(map(is_lazy, expected.values())) or fit(checkpoint, expected) is not None:
        return given
    notes: list[str] = []
    renamed = _with_new_names(checkpoint, expected)
    if renamed is not None:
        checkpoint = renamed
        notes.append("Names such as norm.1 in the file are the network's norm1")
        if fit(checkpoint, expected) is not None:
            return Adapted(definition, network, checkpoint, tuple(f"{note}." for note in notes))
    closest = nearest(checkpoint, expected)
    last, first = _last_layer(network), _first_convolution(network)
    if last is None or first is None:
        return given
    head = _head_in_file(closest, expected, last, checkpoint.name)
    if head is None:
        return given
    weight = closest.tensors[f"{head}.weight"]
    if len(weight) != len(expected[f"{last}.weight"]):
        changed = with_class_count(definition, len(weight))
        if changed is None:
            return given
        notes.append(
            f"The network has {len(weight)} outputs and not "
            f"{len(expected[f'{last}.weight'])}, as the weights of its last layer have"
        )
        definition = changed
    count = _channels_in_file(closest, expected, first)
    if count is not None:
        _check_channels(count, channels, first, checkpoint.name)
        definition = with_channel_count(definition, first, count)
        notes.append(
            f"The first convolution ({first}) takes {_channels(count)} and not "
            f"{expected[f'{first}.weight'].shape[1]}, as its weights do"
        )
    if definition is not given.definition:
        network = build(definition)
        expected = network.state_dict()
    bias = f"{last}.bias" in expected and f"{head}.bias" not in closest.tensors
    if head != last or bias:
        zeros = torch.zeros(len(weight)) if bias else None
        checkpoint = _renamed(checkpoint, closest, head, last, zeros)
    if bias:
        notes.append(f"The last layer ({last}) has no bias in the file: it is zero")
    if fit(checkpoint, expected) is None:
        return given
    if head != last:
        _check_end(head, last, activation, checkpoint.name)
        notes.append(
            f"The last layer is {shown(head)} in the file and {shown(last)} in the network: "
            "layers without weights beside it, such as a dropout, are not in the file and are "
            "assumed to have no effect"
        )
    return Adapted(definition, network, checkpoint, tuple(f"{note}." for note in notes))


def _with_new_names(checkpoint: Checkpoint, expected: Mapping[str, Tensor]) -> Checkpoint | None:
    """The weights with the names that torchvision has given to the layers of a DenseNet since 0.2.

    Names of modules have no dots in them since torch 0.4.1; torchvision renames them in the same
    way where it reads old weights. None: there are no such names, or the network has others.
    """
    if not any(_NEW_NAME.search(key) for key in expected):
        return None
    groups = {}
    old = 0
    for path, group in checkpoint.groups.items():
        tensors = {_OLD_NAME.sub(r"\1\2", key): value for key, value in group.tensors.items()}
        if len(tensors) < len(group.tensors):
            return None  # both names are there
        old += tensors.keys() != group.tensors.keys()
        groups[path] = dataclasses.replace(group, tensors=tensors)
    return dataclasses.replace(checkpoint, groups=groups) if old else None


def _last_layer(network: nn.Module) -> str | None:
    """Name of the last layer with a matrix of weights: a linear one, or a convolution."""
    names = [
        name
        for name, module in network.named_modules()
        if isinstance(module, (nn.Linear, *_CONVOLUTIONS)) and name
    ]
    return names[-1] if names else None


def _first_convolution(network: nn.Module) -> str | None:
    return next(
        (name for name, one in network.named_modules() if isinstance(one, _CONVOLUTIONS) and name),
        None,
    )


def _head_in_file(
    closest: Nearest, expected: Mapping[str, Tensor], last: str, name: str
) -> str | None:
    """Name of the last layer in the file; None where it is not found."""
    if f"{last}.weight" in closest.tensors:
        same_kind = closest.tensors[f"{last}.weight"].ndim == expected[f"{last}.weight"].ndim
        return last if same_kind else None
    rest = {
        key: value
        for key, value in closest.tensors.items()
        if key not in expected and not takes_no_part(key, value, "")
    }
    if not rest or not all(_stands_for(key.rpartition(".")[0], last) for key in rest):
        return None
    layers = {key.rpartition(".")[0] for key in rest}
    if len(layers) > 1:
        raise ClassifierError(
            ErrorCode.MODEL_WEIGHTS,
            f"{name} has {len(layers)} layers ({some([shown(one)[1:-1] for one in sorted(layers)])}"
            f") where the network ends in {last}. What lies between them, such as an activation, "
            "is not in the file: give the network's own code as file.py:Class, with --trust.",
        )
    (layer,) = layers
    weight = rest.get(f"{layer}.weight")
    wanted = expected[f"{last}.weight"]
    fits = (
        weight is not None
        and weight.ndim == wanted.ndim == 2
        and rest.keys()
        <= {
            f"{layer}.weight",
            f"{layer}.bias",
        }
    )
    return layer if fits and weight is not None and weight.shape[1] == wanted.shape[1] else None


def _stands_for(layer: str, last: str) -> bool:
    """Whether a layer's name is that of the last one with a ``Sequential`` more or less."""
    if layer.startswith(f"{last}.") or last.startswith(f"{layer}."):
        return True
    (parent, _, number), (other, _, wanted) = layer.rpartition("."), last.rpartition(".")
    return bool(parent) and parent == other and number.isdecimal() and wanted.isdecimal()


def _channels_in_file(closest: Nearest, expected: Mapping[str, Tensor], first: str) -> int | None:
    """The input channels of the first convolution, where only these differ."""
    weight, wanted = closest.tensors.get(f"{first}.weight"), expected[f"{first}.weight"]
    if weight is None or weight.ndim != wanted.ndim or weight.shape[1] == wanted.shape[1]:
        return None
    others_fit = (len(weight), *weight.shape[2:]) == (len(wanted), *wanted.shape[2:])
    return weight.shape[1] if others_fit else None


def _check_channels(count: int, channels: int, first: str, name: str) -> None:
    if count != channels:
        raise InputError(
            ErrorCode.MODEL_INPUT,
            f"The first convolution ({first}) of the weights in {name} takes {_channels(count)} "
            f"and {channels} {'is' if channels == 1 else 'are'} named: name as many with "
            "--channels, in the network's order, such as red,green,blue for colour pictures.",
        )


def _channels(count: int) -> str:
    return "1 input channel" if count == 1 else f"{count} input channels"


def _check_end(head: str, last: str, activation: str | None, name: str) -> None:
    """Refuses a last layer that is followed by an unknown layer."""
    if activation is None and head == f"{last}.0":
        raise InputError(
            ErrorCode.OPTION_MISSING,
            f"The last layer in {name} is {shown(head)}, the first of several: a layer without "
            "weights follows, such as a sigmoid or a softmax, which is not in the file. Give "
            "with --activation how its scores become probabilities.",
        )


def _renamed(
    checkpoint: Checkpoint, closest: Nearest, head: str, last: str, bias: Tensor | None
) -> Checkpoint:
    """The weights with another name for the last layer, and with a bias where it has none."""
    group = checkpoint.groups[closest.path]
    old, new = f"{closest.prefix}{head}.", f"{closest.prefix}{last}."
    tensors = {
        new + key.removeprefix(old) if key in (f"{old}weight", f"{old}bias") else key: value
        for key, value in group.tensors.items()
    }
    if bias is not None:
        tensors[f"{new}bias"] = bias
    groups = {**checkpoint.groups, closest.path: dataclasses.replace(group, tensors=tensors)}
    return dataclasses.replace(checkpoint, groups=groups)
