"""The kind of a file that was given as weights, from its first bytes."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Sequence
from typing import NamedTuple

from SaliencyExplain.errors import ErrorCode
from SaliencyExplain.zip_errors import DAMAGED_ZIP

_SAVE = "save the weights with torch.save(network.state_dict(), …)"
_SHOWN = 3

#: First bytes of files, and the kind of file.
_STARTS: tuple[tuple[bytes, str], ...] = (
    (
        b"version https://git-lfs.github.com/spec",
        "a git-LFS pointer and not the file itself: fetch the file with 'git lfs pull' or "
        "download it",
    ),
    (b"\x89HDF\r\n\x1a\n", f"an HDF5 file, such as Keras writes, and not one of PyTorch: {_SAVE}"),
    (b"\x93NUMPY", f"a NumPy array (.npy) and not a file of PyTorch: {_SAVE}"),
    (b"\x1f\x8b", "compressed with gzip: unpack it first"),
    (b"BZh", "compressed with bzip2: unpack it first"),
    (b"\xfd7zXZ\x00", "compressed with xz: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed with Zstandard: unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive: unpack it first"),
    (b"GGUF", f"a GGUF file of llama.cpp and not one of PyTorch: {_SAVE}"),
    (b"ggml", f"a ggml file and not one of PyTorch: {_SAVE}"),
    (b"\x7fELF", "a program for Linux, not weights"),
    (b"MZ", "a program for Windows, not weights"),
)


class FileKind(NamedTuple):
    """The kind of a file that is not a file of PyTorch.

    Attributes:
        words: A description that follows "… is ".
        code: Of the error: whether the file is damaged, or of a format that is not supported.
    """

    words: str
    code: ErrorCode


def kind_of_file(content: bytes) -> FileKind:
    """Describes a file that is not a file of PyTorch.

    Args:
        content: The file's bytes.
    """
    damage = _damage(content)
    if damage:
        return FileKind(damage, ErrorCode.FILE_DAMAGED)
    return FileKind(_other_format(content), ErrorCode.MODEL_FORMAT)


def _damage(content: bytes) -> str:
    """A description of a file that is empty, cut off or damaged; else ""."""
    if not content:
        return "empty: download or copy it again"
    if content[8:9] == b"{" and not content[:8].decode("latin-1").isprintable():
        return "a safetensors file that is cut off or damaged: download or copy it again"
    if is_zip(content):
        try:
            with zipfile.ZipFile(io.BytesIO(content)):
                return ""
        except (*DAMAGED_ZIP, OSError):
            return "a damaged zip archive: download or copy it again"
    if content[:4] == b"PK\x03\x04":
        return "a zip archive that is cut off, as after an interrupted download: download it again"
    if content[:1] == b"\x80":
        return "a pickle that is cut off or damaged: download or copy it again"
    if not any(content[:4096]):
        return "filled with zeros, as after an interrupted download: download it again"
    return ""


def _other_format(content: bytes) -> str:
    for start, words in _STARTS:
        if content.startswith(start):
            return words
    head = content[:512].lstrip().lower()
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        return (
            "a web page and not the file itself: the address needs a login or leads to a page; "
            "download the file again"
        )
    if content[4:8] == b"TFL3":
        return f"a TensorFlow Lite file and not one of PyTorch: {_SAVE}"
    if is_zip(content):
        return _what_zip(content)
    if _is_tar(content):
        return (
            "a tar archive: unpack it first; weights that PyTorch before 0.4 wrote so have to be "
            "saved anew"
        )
    if is_onnx(content):
        return (
            "an ONNX file, which brings its network: make a bundle of it without naming a network"
        )
    if content[:1] == b"\x08" and b"serve" in content[:1_000_000]:
        return f"a TensorFlow SavedModel and not a file of PyTorch: {_SAVE}"
    if content[:1] == b"{" and b'"weight_map"' in content:
        return (
            "the index of weights in several files and not the weights: give all these files "
            "instead"
        )
    if content[:1] in (b"{", b"["):
        return "a JSON text, not weights"
    return f"of an unknown format: {_SAVE}"


def is_zip(content: bytes) -> bool:
    """Whether a file is a zip archive that can be read."""
    try:
        return zipfile.is_zipfile(io.BytesIO(content))
    except DAMAGED_ZIP:
        # Such as one of several disks.
        return False


def is_onnx(content: bytes) -> bool:
    """Whether a file is a protobuf that begins with a small version and a producer's name."""
    return (
        content[:1] == b"\x08"
        and len(content) > 4
        and content[1] < 32
        and content[2:3] in (b"\x12", b"\x3a", b"\x42")
        and b"serve" not in content[:64]
    )


def some(keys: Sequence[str], most: int = 4) -> str:
    """The first few of many names."""
    return ", ".join(keys[:most]) + (", …" if len(keys) > most else "")


def _is_tar(content: bytes) -> bool:
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            return archive.next() is not None
    except (tarfile.TarError, EOFError, ValueError, OSError):
        return False


def _what_zip(content: bytes) -> str:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
    if "model.weights.h5" in names:
        return f"a Keras file and not one of PyTorch: {_SAVE}"
    if names and all(name.endswith(".npy") for name in names):
        return f"a file of NumPy arrays (.npz) and not one of PyTorch: {_SAVE}"
    if any(name.endswith("saved_model.pb") for name in names):
        return f"a TensorFlow SavedModel and not a file of PyTorch: {_SAVE}"
    inside = some(sorted(names), _SHOWN) or "nothing"
    return f"a zip archive without weights of PyTorch in it (it holds {inside})"
