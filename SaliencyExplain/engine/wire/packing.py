"""A classifier's files as one file with one hash, the same for the same content."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import zipfile
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO

from SaliencyExplain.errors import ClassifierError, ErrorCode

#: The folders of a MONAI bundle that say what the classifier is.
_PARTS = ("configs", "models", "scripts")
_PIECE = 1 << 20


class Packed(AbstractContextManager["Packed"]):
    """A classifier ready to be sent: a file as it is, a bundle's folder as a zip.

    The zip is not compressed, as weights hardly shrink, and has no times, so that the same
    files give the same bytes. It lies on disk, and is gone at the end of the block.

    Attributes:
        name: The file's name, or the folder's with ``.zip``.
        size: Bytes.
        digest: SHA-256 (hex) of the bytes.
    """

    def __init__(self, path: Path) -> None:
        """Packs and hashes.

        Raises:
            ClassifierError: The file does not exist, the folder is not a bundle, or it cannot be
                read.
        """
        path = Path(path)
        self._stack = ExitStack()
        try:
            if path.is_dir():
                self.name = f"{path.resolve().name}.zip"
                folder = self._stack.enter_context(tempfile.TemporaryDirectory())
                self._file = Path(folder) / "bundle.zip"
                _zip(path, self._file)
            elif path.is_file():
                self.name, self._file = path.name, path
            else:
                raise ClassifierError(
                    ErrorCode.FILE_MISSING, f"The classifier {path} does not exist."
                )
            self.size = self._file.stat().st_size
            self.digest = _digest(self._file)
        except OSError as error:
            self._stack.close()
            raise ClassifierError(
                ErrorCode.FILE_UNREADABLE, f"{path} cannot be read: {error.strerror}."
            ) from error

    def open(self) -> IO[bytes]:
        """The bytes, to be read once."""
        return self._file.open("rb")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Deletes what was packed."""
        self._stack.close()


def _zip(folder: Path, target: Path) -> None:
    files = [
        file
        for part in _PARTS
        for file in sorted((folder / part).rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts
    ]
    if not files:
        raise ClassifierError(
            ErrorCode.MODEL_INCOMPLETE,
            f"{folder} is not a MONAI bundle: the file configs/metadata.json is missing.",
        )
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for file in files:
            entry = zipfile.ZipInfo(file.relative_to(folder).as_posix())
            entry.file_size = file.stat().st_size
            with file.open("rb") as source, archive.open(entry, "w") as sink:
                shutil.copyfileobj(source, sink, _PIECE)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
