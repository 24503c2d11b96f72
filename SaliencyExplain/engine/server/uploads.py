"""Files that clients send: counted while they come, on disk until read, then gone."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
import zipfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from SaliencyExplain.engine.wire.volume_format import decode
from SaliencyExplain.errors import ClassifierError, ErrorCode, InputError, OutputError
from SaliencyExplain.images.boundary import reading
from SaliencyExplain.studies.case import safe_name
from SaliencyExplain.voxel_volume import Volume

#: Most bytes of a request that is not a file.
_SMALL = 4 * 1024**2


class TooLargeError(InputError):
    """More was sent, or announced, than the engine takes."""


class Uploads:
    """Receives files, in a folder of its own.

    Attributes:
        largest: Most bytes of an upload, and of what it unpacks to.
    """

    def __init__(self, folder: Path, largest: int) -> None:
        self.largest = largest
        self._folder = folder
        self._lock = threading.Lock()
        self._keys: dict[tuple[str, bool], str] = {}

    def check_size(self, size: int) -> None:
        """Raises TooLargeError where so many bytes are not accepted."""
        if size > self.largest:
            raise TooLargeError(
                ErrorCode.ENGINE_LIMIT,
                f"The engine takes uploads of at most {self.largest} bytes (--max-upload), "
                f"and this one has {size}.",
            )

    def key_of(self, digest: str, trust: bool) -> str | None:
        """The classifier of a file of that hash; None if unknown."""
        with self._lock:
            return self._keys.get((digest, trust))

    def remember(self, digest: str, trust: bool, key: str) -> None:
        """Records the classifier of a file."""
        with self._lock:
            self._keys[digest, trust] = key

    async def small(self, request: Request) -> bytes:
        """The body of a request that is not a file.

        Raises:
            TooLargeError: It is too large, or says that it is.
        """
        content = bytearray()
        _check_small(_announced(request))
        async for piece in request.stream():
            content += piece
            _check_small(len(content))
        return bytes(content)

    @asynccontextmanager
    async def volume(self, request: Request, key: str) -> AsyncIterator[Volume]:
        """The volume in the body.

        Raises:
            TooLargeError: It is too large.
            InputError: It is damaged, or is not the one of that hash.
            OutputError: The disk does not take it.
        """
        with _disk_named(), tempfile.TemporaryFile(dir=self._folder) as file:
            await self._receive(request, file)
            volume = await run_in_threadpool(self._decoded, file)
        if await run_in_threadpool(lambda: volume.hash) != key:
            raise InputError(
                ErrorCode.ENGINE_REQUEST,
                "The volume does not have the hash of its address. Send it again.",
            )
        yield volume

    @asynccontextmanager
    async def classifier(self, request: Request, digest: str, name: str) -> AsyncIterator[Path]:
        """The classifier's file in the body, under its own name, for as long as it is read.

        Raises:
            TooLargeError: It is too large.
            ClassifierError: It would unpack to more than may be uploaded, or leads out of
                its folder.
            InputError: It is not the one of that hash.
            OutputError: The disk does not take it.
        """
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            path = Path(folder) / safe_name(name)
            with _disk_named(), path.open("wb") as file:
                came = await self._receive(request, file)
            if came != digest:
                raise InputError(
                    ErrorCode.FILE_DAMAGED, "The classifier was damaged on the way; send it again."
                )
            await run_in_threadpool(check_archive, path, self.largest)
            try:
                yield path
            except ClassifierError as error:
                # The sender's name of the file; its place on this machine is not disclosed.
                said = str(error).replace(f"{folder}{os.sep}", "")
                raise ClassifierError(error.code, said) from error

    async def _receive(self, request: Request, file: IO[bytes]) -> str:
        """Writes the body into a file and returns its SHA-256."""
        self.check_size(_announced(request))
        digest = hashlib.sha256()
        size = 0
        async for piece in request.stream():
            size += len(piece)
            self.check_size(size)
            digest.update(piece)
            file.write(piece)
        file.flush()
        if not size:
            raise InputError(ErrorCode.ENGINE_REQUEST, "The upload is empty.")
        return digest.hexdigest()

    def _decoded(self, file: IO[bytes]) -> Volume:
        file.seek(0)
        return decode(file.read(), largest=self.largest)


@contextmanager
def _disk_named() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            ErrorCode.OUTPUT_UNWRITABLE,
            f"The engine cannot write the upload to its disk ({error.strerror}); nothing was kept.",
        ) from error


def check_archive(path: Path, largest: int) -> None:
    """Refuses archives that unpack to more than is taken, or name places outside.

    Raises:
        ClassifierError: It is such an archive, or damaged.
    """
    with reading(Path(path.name), ClassifierError):
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    if sum(entry.file_size for entry in entries) > largest:
        raise ClassifierError(
            ErrorCode.MODEL_REFUSED,
            f"{path.name} unpacks to more than the {largest} bytes that are allowed.",
        )
    for entry in entries:
        parts = entry.filename.replace("\\", "/").split("/")
        if ".." in parts or parts[0] == "" or ":" in parts[0]:
            raise ClassifierError(
                ErrorCode.MODEL_REFUSED,
                f"{path.name} is refused: the path '{entry.filename[:200]}' in it points outside "
                "of it.",
            )


def _announced(request: Request) -> int:
    """The length that a request announces, in bytes; 0 where it announces none."""
    said = request.headers.get("content-length", "")
    return int(said) if said.isdecimal() and len(said) <= 20 else 0


def _check_small(size: int) -> None:
    if size > _SMALL:
        raise TooLargeError(ErrorCode.ENGINE_LIMIT, f"A request has at most {_SMALL} bytes.")
