"""ONNX files whose weights are in another file beside them, as PyTorch's exporter writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from SaliencyExplain.errors import ClassifierError, ErrorCode
from SaliencyExplain.models.given_weights import read_bytes
from SaliencyExplain.models.onnx_files import EXTERNAL, libraries, read_model, tensors
from SaliencyExplain.models.targets import shown

#: Largest size of a file of the format.
_LARGEST = 2**31 - 1


def with_weights_inside(content: bytes, path: Path) -> bytes:
    """The same ONNX file with all of its weights in it.

    Args:
        content: The file's bytes.
        path: Where it was read. Only files in its folder are read, by their plain names.

    Raises:
        ClassifierError: It names a file elsewhere or numbers that are not there, or is too large.
        InputError: A file cannot be read.
    """
    onnx, _ = libraries(path.name)
    model = read_model(onnx, content, path.name)
    outside = [one for one in tensors(model.graph) if one.data_location == EXTERNAL]
    if not outside:
        return content
    read: dict[str, bytes] = {}
    total = 0
    for tensor in outside:
        values = _values(tensor, path, read)
        total += len(values)
        if total > _LARGEST - len(content):
            raise ClassifierError(
                ErrorCode.MODEL_REFUSED,
                f"{path.name} has weights of more than 2 GiB, the limit of one ONNX file: use the "
                "PyTorch network that it was exported from.",
            )
        tensor.raw_data = values
        del tensor.external_data[:]
        tensor.data_location = 0
    return bytes(model.SerializeToString(deterministic=True))


def _values(tensor: Any, path: Path, read: dict[str, bytes]) -> bytes:
    """The bytes of one tensor."""
    told = {one.key: one.value for one in tensor.external_data}
    location = told.get("location", "")
    beside = path.parent / location
    if not location or Path(location).name != location or beside.is_symlink():
        raise ClassifierError(
            ErrorCode.MODEL_REFUSED,
            f"{path.name} is refused: its weights are in {shown(location)}, which is not a file "
            "in its folder.",
        )
    if location not in read:
        read[location] = read_bytes(beside)
    content = read[location]
    numbers = (told.get("offset", "0"), told.get("length", str(len(content))))
    if not all(one.isascii() and one.isdecimal() and len(one) < 20 for one in numbers):
        start, length = 0, -1
    else:
        start, length = map(int, numbers)
    if length < 0 or start + length > len(content):
        raise ClassifierError(
            ErrorCode.MODEL_WEIGHTS,
            f"{path.name} has weights in {shown(location)} that are missing: fetch both files "
            "again.",
        )
    return content[start : start + length]
