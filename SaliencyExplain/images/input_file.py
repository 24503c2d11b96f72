"""Checks of input files: only regular files and folders, and none outside a header's folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from SaliencyExplain.errors import ErrorCode, InputError


def check_exists(path: Path) -> None:
    """Checks that the path is a readable file or folder.

    Raises:
        InputError: It does not exist, is not readable, is empty, or is a device, pipe or socket,
            which could block for ever or change its state when opened.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            next(path.iterdir(), None)
            return
        if not stat.S_ISREG(mode):
            raise InputError(
                ErrorCode.FILE_FORMAT,
                f"{path}: is {_kind(mode)} and not a file or folder. Save its content as a file.",
            )
        with path.open("rb") as file:
            empty = not file.read(1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(
            ErrorCode.FILE_MISSING, f"{path}: there is no such file or folder."
        ) from error
    except OSError as error:
        raise InputError(
            ErrorCode.FILE_UNREADABLE, f"{path}: cannot be opened ({error.strerror})."
        ) from error
    except ValueError as error:  # a NUL character in the path
        raise InputError(
            ErrorCode.FILE_MISSING, f"{str(path)!r}: is not a valid path. Give the path of a file."
        ) from error
    if empty:
        raise InputError(ErrorCode.FILE_DAMAGED, f"{path}: the file is empty. Copy it again.")


def _kind(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a pipe"
    if stat.S_ISSOCK(mode):
        return "a socket"
    return "a device"


def file_beside(header: Path, name: str) -> Path:
    """The file of voxels that a header names, which must lie in the header's own folder.

    Args:
        header: The file of the header.
        name: The name in the header, relative to its folder.

    Returns:
        The file: a regular file in that folder or a subfolder, also after following links.

    Raises:
        InputError: It lies elsewhere, or does not exist.
    """
    elsewhere = InputError(
        ErrorCode.FILE_FORMAT,
        f"{header}: it names '{name[:200]}' as the file of its voxels, which lies outside its "
        "folder and is not read. Put the file next to the header and correct the name.",
    )
    try:
        folder = Path(os.path.realpath(header.parent))
        found = Path(os.path.realpath(folder / name))
        inside = found.is_relative_to(folder) and found != folder
    except (OSError, ValueError) as error:
        raise elsewhere from error
    if "\0" in name or not inside:
        raise elsewhere
    try:
        mode = found.stat().st_mode
    except OSError as error:
        raise InputError(
            ErrorCode.FILE_MISSING,
            f"{header}: the file of its voxels, '{name[:200]}', does not exist. Put it next to the "
            "header.",
        ) from error
    if not stat.S_ISREG(mode):
        raise InputError(
            ErrorCode.FILE_FORMAT,
            f"{header}: '{name[:200]}', the file of its voxels, is not a regular file. Put the "
            "file next to the header.",
        )
    return found
