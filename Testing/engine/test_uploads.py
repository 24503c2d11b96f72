"""Archives that are sent, before they are unpacked."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import pytest

from SaliencyExplain.engine.server.uploads import check_archive
from SaliencyExplain.errors import ClassifierError, ErrorCode


def archive(path: Path, content: bytes = b"x" * 100) -> bytes:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/b.txt", content)
    return path.read_bytes()


def test_an_archive_that_python_cannot_read_is_told_by_its_name(tmp_path: Path):
    path = tmp_path / "parts.zip"
    whole = archive(path)
    # A locator of the end of a zip64 archive, as the first of two parts.
    path.write_bytes(whole[:-22] + struct.pack("<4sLQL", b"PK\6\7", 0, 0, 2) + whole[-22:])
    with pytest.raises(ClassifierError) as error:
        check_archive(path, 1000)
    assert error.value.code is ErrorCode.FILE_DAMAGED
    assert str(error.value).startswith("parts.zip: ")


def test_what_an_archive_unpacks_to_is_counted(tmp_path: Path):
    archive(tmp_path / "a.zip")
    check_archive(tmp_path / "a.zip", 100)
    with pytest.raises(ClassifierError) as error:
        check_archive(tmp_path / "a.zip", 99)
    assert error.value.code is ErrorCode.MODEL_REFUSED
