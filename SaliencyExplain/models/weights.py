"""Reads trained weights without running code of their file."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from SaliencyExplain.errors import ClassifierError, ErrorCode
from SaliencyExplain.models.checkpoints import (
    Checkpoint,
    check_tensor,
    checkpoint_of,
    fit,
    nearest,
)
from SaliencyExplain.models.file_kinds import is_onnx, is_zip, kind_of_file, some
from SaliencyExplain.models.safetensors_files import is_safetensors, read_safetensors
from SaliencyExplain.models.saved_content import Group
from SaliencyExplain.models.targets import shown
from SaliencyExplain.models.torch_files import read_torch_file
from SaliencyExplain.zip_errors import DAMAGED_ZIP

FileFormat = Literal[
    "weights", "safetensors", "TorchScript", "torch.export", "ONNX", "bundle", "unknown"
]


_PROGRAM = "which brings its network: give it without the name of a network"
#: Descriptions of files that hold more than weights.
_PROGRAMS = {
    "TorchScript": f"a TorchScript program, {_PROGRAM}",
    "torch.export": f"a torch.export program, {_PROGRAM}",
    "ONNX": f"an ONNX file, {_PROGRAM}",
    "bundle": "a MONAI bundle and not only its weights, which are in its folder models",
}


def format_of(content: bytes) -> FileFormat:
    """Detects the kind of a model file by its content; the file's name is not reliable."""
    if not is_zip(content):
        if is_safetensors(content):
            return "safetensors"
        if is_onnx(content):
            return "ONNX"
        # Before torch 1.6 weights were a bare pickle stream, which starts with a protocol.
        return "weights" if content[:1] == b"\x80" else "unknown"
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
    except (*DAMAGED_ZIP, OSError):
        return "unknown"
    if any(name.endswith("configs/metadata.json") for name in names):
        return "bundle"
    if "serialized_exported_program.json" in names or any(
        name.endswith("archive_format") for name in names
    ):
        return "torch.export"
    if any(name.endswith("/constants.pkl") for name in names):
        return "TorchScript"
    if any(name.endswith("data.pkl") for name in names):
        return "weights"
    return "unknown"


def read_weights(content: bytes, name: str, *, trust: bool = False) -> Checkpoint:
    """Reads the tensors of a weight file onto the CPU.

    Args:
        content: The bytes of a file of ``torch.save`` (``.pt``, ``.pth``, ``.ckpt``, ``.tar``)
            or of safetensors; its name is not used.
        name: The file's name, for messages.
        trust: Whether torch may unpickle an object in which no tensors are seen otherwise, which
            runs code of the file.

    Returns:
        The tensors in whatever dictionaries they lie (``{"state_dict": …}``).

    Raises:
        ClassifierError: The file has another format, needs its code to be run, is damaged, or holds
            no state dict; the message says which.
    """
    kind = format_of(content)
    if kind == "safetensors":
        tensors = read_safetensors(content, name)
        return Checkpoint(name, {"": Group(tensors)})
    if kind != "weights":
        if kind in _PROGRAMS:
            raise ClassifierError(ErrorCode.MODEL_FORMAT, f"{name} is {_PROGRAMS[kind]}.")
        found = kind_of_file(content)
        raise ClassifierError(found.code, f"{name} is {found.words}.")
    saved = read_torch_file(content, name)
    try:
        return checkpoint_of(saved, name)
    except ClassifierError as error:
        if not trust or error.code is not ErrorCode.MODEL_UNTRUSTED:
            raise
    return checkpoint_of(_unpickled(content, name), name)


def _unpickled(content: bytes, name: str) -> object:
    """Reads a trusted file with torch, running its code."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=False)
    except Exception as error:
        # Code of the file may raise any exception.
        raise unreadable(name, error) from error
    state = getattr(loaded, "state_dict", None)
    return state() if callable(state) else loaded


def _of_present_version(state: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """A state dict that says of the layers that are not torch's that it has their present version.

    Weight files keep no versions. Layers that read older ones differently, as torchvision's MNASNet
    does, fail without; those of torch take what has no version as it is.
    """
    versioned: Any = OrderedDict(state)
    versioned._metadata = {
        name: {"version": module._version}
        for name, module in network.named_modules()
        if not type(module).__module__.startswith("torch.nn.")
    }
    found: dict[str, Tensor] = versioned
    return found


def load_into(
    network: nn.Module, weights: Checkpoint | Mapping[str, Tensor], name: str
) -> tuple[str, ...]:
    """Loads a state dict into a network.

    Args:
        network: Whose parameters and buffers are set.
        weights: A file's tensors, or tensors by name.
        name: Of the weights, for messages.

    Returns:
        Notes for the user, such as a prefix that was removed from the names.

    Raises:
        ClassifierError: Keys are missing, left over, of another shape or of another type; the
            message says which.
    """
    if not isinstance(weights, Checkpoint):
        for key, tensor in weights.items():
            check_tensor(key, tensor, name)
        weights = Checkpoint(name, {"": Group(dict(weights))})
    expected = network.state_dict()
    if any(map(is_lazy, expected.values())):
        raise ClassifierError(
            ErrorCode.MODEL_CONFIGURATION,
            f"The network {type(network).__name__} has layers whose size is not known before it "
            "has run (torch.nn.Lazy…): give their sizes.",
        )
    fitted = fit(weights, expected)
    if fitted is None:
        raise _no_fit(network, weights, expected)
    wrong = [
        f"{key} {_type(value)} instead of {_type(expected[key])}"
        for key, value in fitted.state.items()
        if not _becomes(value, expected[key])
    ]
    if wrong:
        raise ClassifierError(
            ErrorCode.MODEL_WEIGHTS,
            f"The weights in {name} do not fit the network {type(network).__name__}: "
            f"{len(wrong)} of another type ({some(wrong)})",
        )
    try:
        network.load_state_dict(_of_present_version(fitted.state, network), strict=False)
    except Exception as error:
        raise unreadable(name, error) from error
    return fitted.notes


def unreadable(name: str, error: Exception) -> ClassifierError:
    """The error for a weight file for which torch raises an unexpected exception."""
    lines = str(error).splitlines() or [type(error).__name__]
    return ClassifierError(
        ErrorCode.MODEL_WEIGHTS,
        f"{name} cannot be read as PyTorch weights: {shown(lines[0])[1:-1]}",
    )


def unwrapped(weights: Checkpoint, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors without the prefix before the expected names."""
    fitted = fit(weights, expected)
    return nearest(weights, expected).tensors if fitted is None else fitted.state


def _no_fit(
    network: nn.Module, weights: Checkpoint, expected: Mapping[str, Tensor]
) -> ClassifierError:
    closest = nearest(weights, expected)
    prefix, given = closest.prefix, closest.tensors
    instead = {key: what for key, what in closest.others.items() if key in expected}
    if instead:
        key, what = next(iter(instead.items()))
        return ClassifierError(
            ErrorCode.MODEL_WEIGHTS,
            f"{weights.name} holds {what} ({shown(prefix + key)}) where the network "
            f"{type(network).__name__} has a tensor; only plain tensors are read.",
        )
    missing = [key for key in expected if key not in given]
    left_over = [key for key in given if key not in expected]
    other_shape = [
        f"{key} {tuple(given[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected
        if key in given and given[key].shape != expected[key].shape
    ]
    problems = [
        f"{len(keys)} {what} ({some([shown(key)[1:-1] for key in keys])})"
        for what, keys in (
            ("missing", [key for key in missing if not key.endswith("num_batches_tracked")]),
            ("not in the network", left_over),
            ("of another shape", other_shape),
        )
        if keys
    ]
    found = len(expected) - len(missing)
    under = f" under the prefix {shown(prefix)}" if prefix else ""
    return ClassifierError(
        ErrorCode.MODEL_WEIGHTS,
        f"The weights in {weights.name} do not fit the network {type(network).__name__}: {found} "
        f"of its {len(expected)} tensors are there by name{under}; " + "; ".join(problems),
    )


def _becomes(value: Tensor, wanted: Tensor) -> bool:
    """Whether a tensor may be taken for another type without losing its meaning.

    Integers in the place of fractions are weights of a quantised network without their scales.
    """
    if value.is_complex() != wanted.is_complex():
        return False
    return value.is_floating_point() or not wanted.is_floating_point() or value.numel() == 1


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
