"""The weights that a user gives for a network: one file or several, whole or in parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.models.checkpoints import Checkpoint, fit, nearest, select
from SaliencyExplain.models.saved_content import Group
from SaliencyExplain.models.targets import shown
from SaliencyExplain.models.weights import read_weights

Weights = str | Path | Sequence[str | Path] | Mapping[str, Tensor]


@dataclass(frozen=True)
class Reading:
    """How weight files are read.

    Attributes:
        state_key: Key of the weights in a file, several with dots between them; None: found
            automatically.
        strip_prefix: Prefix of the names in a file that the network's names do not have; names
            without it are left out. None: found automatically.
        trust: Whether code of the file may be run.
    """

    state_key: str | None = None
    strip_prefix: str | None = None
    trust: bool = False


def gather(
    weights: Weights, expected: Mapping[str, Tensor], reading: Reading
) -> tuple[Checkpoint, tuple[str, ...]]:
    """The weights of all files together.

    Args:
        weights: A file; several, as one state dict is stored in parts or, as
            ``submodule=file``, each with the weights of a submodule; or the tensors themselves.
        expected: The network's parameters and buffers by name.
        reading: How the files are read.

    Returns:
        The weights, and what a user must be told of those of submodules.

    Raises:
        InputError: A file cannot be read, or two have a tensor of the same name.
        ClassifierError: A file holds no weights.
    """
    if isinstance(weights, Mapping):
        return Checkpoint("the given tensors", {"": Group(dict(weights))}), ()
    files = [weights] if isinstance(weights, (str, Path)) else list(weights)
    read = []
    for file in files:
        submodule, path = _submodule(file)
        content = read_weights(read_bytes(path), path.name, trust=reading.trust)
        read.append((submodule, select(content, reading.state_key, reading.strip_prefix)))
    if len(read) == 1 and not read[0][0]:
        return read[0][1], ()
    in_submodules = any(submodule for submodule, _ in read)
    state: dict[str, Tensor] = {}
    notes: list[str] = []
    for submodule, checkpoint in read:
        start = f"{submodule}." if submodule else ""
        inner = {
            key.removeprefix(start): value
            for key, value in expected.items()
            if key.startswith(start)
        }
        fitted = fit(checkpoint, inner) if in_submodules else None
        if fitted is not None:
            found = fitted.state
            notes += fitted.notes
        elif in_submodules:
            found = nearest(checkpoint, inner).tensors
        else:
            found = max(checkpoint.groups.values(), key=lambda group: len(group.tensors)).tensors
        for key, value in found.items():
            if start + key in state:
                raise InputError(
                    ErrorCode.NAME_DUPLICATE,
                    f"{checkpoint.name} has the tensor {shown(start + key)}, which is also in "
                    "another of the weight files. Give each tensor once.",
                )
            state[start + key] = value
    names = ", ".join(checkpoint.name for _, checkpoint in read)
    return Checkpoint(names, {"": Group(state)}), tuple(notes)


def read_bytes(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        InputError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            ErrorCode.FILE_UNREADABLE, f"{path} cannot be read: {error.strerror}."
        ) from error


def _submodule(file: str | Path) -> tuple[str, Path]:
    """The submodule and the path of ``submodule=file``; "" where the file has all names."""
    submodule, _, path = str(file).rpartition("=")
    # A path may have an equals sign in it; a submodule has a dotted name.
    if all(piece.isidentifier() or piece.isdecimal() for piece in submodule.split(".")):
        return submodule, Path(path)
    return "", Path(file)
