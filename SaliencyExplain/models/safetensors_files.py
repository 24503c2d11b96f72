"""Reading the tensors of a safetensors file."""

from __future__ import annotations

import safetensors.torch
from torch import Tensor

from SaliencyExplain.errors import ClassifierError, ErrorCode
from SaliencyExplain.models.targets import shown

_LENGTH_BYTES = 8


def is_safetensors(content: bytes) -> bool:
    """Whether a file begins with a length in 8 bytes and a JSON object of that length."""
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    return (
        2 <= length <= len(content) - _LENGTH_BYTES
        and content[_LENGTH_BYTES : _LENGTH_BYTES + 1] == b"{"
    )


def read_safetensors(content: bytes, name: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name.

    The format has no code, and its library checks the header before it reserves memory: the
    tensors must cover the file's data exactly, without gaps and overlaps.

    Args:
        content: The file's bytes.
        name: The file's name, for messages.

    Raises:
        ClassifierError: The header is damaged or claims what the file does not hold, or there
            are no tensors.
    """
    try:
        tensors = safetensors.torch.load(content)
    except KeyError as error:
        raise ClassifierError(
            ErrorCode.MODEL_WEIGHTS,
            f"{name} has numbers of the type {shown(error.args[0])}, which PyTorch does not have. "
            "Save the weights as float32.",
        ) from error
    except Exception as error:
        # The library's own errors, and those of torch for a shape that does not fit.
        raise ClassifierError(
            ErrorCode.FILE_DAMAGED,
            f"{name} is a safetensors file that is cut off or damaged. Download or copy it again.",
        ) from error
    if not tensors:
        raise ClassifierError(ErrorCode.MODEL_WEIGHTS, f"{name} holds no tensors.")
    return dict(tensors)
