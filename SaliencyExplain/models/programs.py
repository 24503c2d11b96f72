"""Networks that come as a program: TorchScript and torch.export."""

from __future__ import annotations

import io
import pickle
import zipfile
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from SaliencyExplain.errors import ClassifierError, ErrorCode
from SaliencyExplain.models.bundle import INFERENCE, LARGEST_CONFIG_BYTES, METADATA


def load_script(content: bytes, name: str, *, trust: bool) -> nn.Module:
    """Loads a TorchScript program onto the CPU.

    ``torch.jit.load`` already runs the program's ``__setstate__``, and TorchScript has operators
    that write files, so a program cannot be inspected before a part of it has run.

    Raises:
        ClassifierError: It is not trusted, or cannot be loaded.
    """
    if not trust:
        raise ClassifierError(
            ErrorCode.MODEL_UNTRUSTED,
            f"{name} is a TorchScript program, parts of which run while torch loads it and may "
            "write files: load it with --trust if you trust its source.",
        )
    try:
        return torch.jit.load(io.BytesIO(content), map_location="cpu")
    except (RuntimeError, ValueError, OSError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise ClassifierError(
            ErrorCode.MODEL_FORMAT,
            f"{name} cannot be loaded as TorchScript: {lines[0][:300] if lines else error}",
        ) from error


class ExportedNetwork(nn.Module):
    """A torch.export program as a network that takes batches of any size.

    Programs are usually exported for one image at a time; batches then go through image
    by image.

    Attributes:
        program: The module of the exported program.
        batch: The batch size it was exported for; None where it takes any.
    """

    def __init__(self, program: nn.Module, batch: int | None) -> None:
        super().__init__()
        self.program = program
        self.batch = batch

    def forward(self, images: Tensor) -> Any:
        """What the program returns for a batch of images."""
        if self.batch is None or len(images) == self.batch:
            return self.program(images)
        if len(images) % self.batch:
            raise RuntimeError(f"the program was exported for batches of {self.batch} images")
        parts = [self.program(part) for part in images.split(self.batch)]
        return tree_map(_joined, *parts)

    def train(self, mode: bool = True) -> ExportedNetwork:
        """Keeps the mode the program was exported in; torch cannot change it."""
        self.training = False
        return self


def load_exported(content: bytes, name: str, *, trust: bool) -> nn.Module:
    """Loads a torch.export program onto the CPU.

    ``torch.export.load`` unpickles parts of the file and evaluates expressions in it, so it must be
    trusted as a script.

    Raises:
        ClassifierError: It is not trusted, or cannot be loaded.
    """
    if not trust:
        raise ClassifierError(
            ErrorCode.MODEL_UNTRUSTED,
            f"{name} is a torch.export program, which torch can only load by running pickled "
            "code: load it with --trust if you trust its source.",
        )
    try:
        program = torch.export.load(io.BytesIO(content))
    except (RuntimeError, ValueError, OSError, AssertionError, KeyError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise ClassifierError(
            ErrorCode.MODEL_FORMAT,
            f"{name} cannot be loaded as a torch.export program: {lines[0][:300]}",
        ) from error
    except pickle.UnpicklingError as error:
        raise ClassifierError(
            ErrorCode.MODEL_FORMAT, f"{name} cannot be loaded: {error}"
        ) from error
    return ExportedNetwork(program.module(), _fixed_batch(program)).eval()


def program_files(content: bytes, name: str) -> dict[str, bytes]:
    """The bundle's configurations that MONAI's ``ckpt_export`` put into a program file.

    Args:
        content: The file's bytes.
        name: The file's name, for messages.

    Raises:
        ClassifierError: A configuration is in the file twice.
    """
    wanted = {name.rpartition("/")[2]: name for name in (METADATA, INFERENCE[0])}
    found: dict[str, bytes] = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for info in archive.infolist():
            key = wanted.get(info.filename.rpartition("/")[2])
            if key and "extra" in info.filename and info.file_size <= LARGEST_CONFIG_BYTES:
                if key in found:
                    raise ClassifierError(
                        ErrorCode.MODEL_REFUSED,
                        f"{name} is refused: it contains the file {key} twice. Export it again.",
                    )
                found[key] = archive.read(info)
    return found


def _fixed_batch(program: Any) -> int | None:
    inputs = program.graph_signature.user_inputs
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in inputs:
            size = node.meta["val"].shape[0]
            return size if isinstance(size, int) else None
    return None


def _joined(*values: Any) -> Any:
    """One output of several batches; numbers that are not tensors are constants of the program."""
    first = values[0]
    return torch.cat(values) if isinstance(first, Tensor) and first.ndim else first
