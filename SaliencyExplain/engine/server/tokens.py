"""The token of a server's clients, in a file that only its owner can read."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from SaliencyExplain.errors import ErrorCode, InputError, OutputError

#: Characters of a token that is long enough not to be guessed: 16 random bytes.
_LEAST = 22


def token_in(path: Path) -> str:
    """The token of a file that exists.

    Raises:
        InputError: It cannot be read, others may read it, or it holds no token.
    """
    try:
        with path.open("rb") as file:
            state = os.fstat(file.fileno())
            content = file.read(1024)
    except OSError as error:
        raise InputError(
            ErrorCode.FILE_UNREADABLE, f"The token file {path} cannot be read ({error.strerror})."
        ) from error
    if os.name == "posix" and (
        not stat.S_ISREG(state.st_mode) or state.st_mode & 0o077 or state.st_uid != os.geteuid()
    ):
        raise InputError(
            ErrorCode.ENGINE_ACCESS,
            f"The token file {path} can be read by other users: run chmod 600 on it, or delete it "
            "and start the engine again, which makes a new one.",
        )
    token = content.decode("latin-1").strip()
    if len(token) < _LEAST or not token.isascii() or not token.isprintable() or " " in token:
        raise InputError(
            ErrorCode.ENGINE_ACCESS,
            f"The token file {path} holds no token. Delete it and start the engine again, which "
            "makes a new one.",
        )
    return token


def make_token(path: Path) -> str:
    """Writes a new token of 32 random bytes into a file that is not there yet.

    Raises:
        OutputError: It cannot be written.
    """
    token = secrets.token_urlsafe(32)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Private from its creation, and never through an existing link.
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(token + "\n")
    except OSError as error:
        raise OutputError(
            ErrorCode.OUTPUT_UNWRITABLE, f"The token file {path} cannot be made ({error.strerror})."
        ) from error
    return token
