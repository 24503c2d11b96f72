"""Reading trained weights without running code that lies in their file."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from SaliencyExplain.errors import ClassifierError, ErrorCode

FileFormat = Literal["weights", "TorchScript", "torch.export", "bundle", "unknown"]
# Under these keys training scripts and MONAI's CheckpointSaver keep the state dict.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "network", "net", "weights", "module")
# What nn.DataParallel, torch.compile, and Lightning modules put before every key.
_PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "net.")
_SHOWN = 4


def format_of(content: bytes) -> FileFormat:
    """Tells by its content what a model file is; the file's name says nothing for sure."""
    if not zipfile.is_zipfile(io.BytesIO(content)):
        # Before torch 1.6 weights were a bare pickle stream, which starts with a protocol.
        return "weights" if content[:1] == b"\x80" else "unknown"
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
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


def read_weights(content: bytes, name: str) -> dict[str, Tensor]:
    """Reads a state dict onto the CPU; no code in the file is run.

    Args:
        content: The file's bytes.
        name: The file's name, for messages.

    Returns:
        Parameters and buffers by their names, out of the usual wrappings
        (``{"state_dict": …}``, ``module.`` before every key).

    Raises:
        ClassifierError: The file holds code, is broken, or holds no state dict.
    """
    try:
        loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ClassifierError(
            ErrorCode.MODEL_UNTRUSTED,
            f"{name} is refused: it is a pickle with code or objects in it, not only weights, "
            "and nothing of it was run. Save the weights alone: "
            "torch.save(network.state_dict(), …).",
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError, AttributeError) as error:
        raise ClassifierError(
            ErrorCode.MODEL_WEIGHTS,
            f"{name} cannot be read as PyTorch weights: {str(error).splitlines()[0][:200]}",
        ) from error
    return _state_dict(loaded, name)


def load_into(network: nn.Module, weights: Mapping[str, Tensor], name: str) -> None:
    """Loads a state dict into a network.

    Raises:
        ClassifierError: Keys are missing, left over or of another shape; says which.
    """
    expected = network.state_dict()
    fitted = _without_prefix(weights, set(expected))
    # BatchNorm's step counter came with torch 0.4.1; evaluation does not need it.
    missing = [
        key for key in expected if key not in fitted and not key.endswith("num_batches_tracked")
    ]
    left_over = [key for key in fitted if key not in expected]
    other_shape = [
        f"{key} {tuple(fitted[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected
        if key in fitted and fitted[key].shape != expected[key].shape
    ]
    problems = [
        f"{len(keys)} {what} ({_some(keys)})"
        for what, keys in (
            ("missing", missing),
            ("not in the network", left_over),
            ("of another shape", other_shape),
        )
        if keys
    ]
    if problems:
        raise ClassifierError(
            ErrorCode.MODEL_WEIGHTS,
            f"The weights in {name} do not fit the network {type(network).__name__}: "
            + "; ".join(problems),
        )
    network.load_state_dict(fitted, strict=False)


def with_prefix(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The same weights for the submodule of that name, such as ``"backbone"``."""
    return {f"{prefix}.{key}": value for key, value in weights.items()}


def unwrapped(weights: Mapping[str, Tensor], expected: Iterable[str]) -> dict[str, Tensor]:
    """The same weights without a prefix that keeps them from having the expected keys."""
    return _without_prefix(weights, set(expected))


def _state_dict(loaded: Any, name: str) -> dict[str, Tensor]:
    for _ in range(3):
        if not isinstance(loaded, Mapping) or _is_state_dict(loaded):
            break
        inner = [loaded[key] for key in _WRAPPERS if isinstance(loaded.get(key), Mapping)]
        if not inner:
            break
        loaded = inner[0]
    if not isinstance(loaded, Mapping) or not _is_state_dict(loaded):
        found = (
            f"a dictionary with {_some([str(key) for key in loaded])}"
            if isinstance(loaded, Mapping)
            else f"a {type(loaded).__name__}"
        )
        raise ClassifierError(
            ErrorCode.MODEL_WEIGHTS,
            f"{name} holds no state dict of a network but {found}. "
            "Save the weights alone: torch.save(network.state_dict(), …).",
        )
    return {str(key): value for key, value in loaded.items() if isinstance(value, Tensor)}


def _is_state_dict(loaded: Mapping[Any, Any]) -> bool:
    return any(isinstance(value, Tensor) for value in loaded.values())


def _without_prefix(weights: Mapping[str, Tensor], expected: set[str]) -> dict[str, Tensor]:
    current = dict(weights)
    for _ in range(len(_PREFIXES)):
        if expected & set(current):
            return current
        prefix = next((p for p in _PREFIXES if all(key.startswith(p) for key in current)), None)
        if prefix is None:
            return current
        current = {key[len(prefix) :]: value for key, value in current.items()}
    return current


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:_SHOWN]) + (", …" if len(keys) > _SHOWN else "")
