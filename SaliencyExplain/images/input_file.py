"""What may be opened as an input: regular files and folders, and nothing a header points out to."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from SaliencyExplain.errors import ErrorCode, InputError


def check_exists(path: Path) -> None:
    """Makes sure that there is a file or folder which can be read.

    Raises:
        InputError: There is none, it may not be read, it is empty, or it is a device, a pipe or
            a socket: opening one of those can wait for ever or change its state.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            next(path.iterdir(), None)
            return
        if not stat.S_ISREG(mode):
            raise InputError(
                ErrorCode.FILE_FORMAT,
                f"{path}: is {_kind(mode)}, and no file or folder. Save its content as a file.",
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
        raise InputError(ErrorCode.FILE_MISSING, f"{str(path)!r}: is no path.") from error
    if empty:
        raise InputError(ErrorCode.FILE_DAMAGED, f"{path}: the file is empty.")


def _kind(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a pipe"
    if stat.S_ISSOCK(mode):
        return "a socket"
    return "a device"


def file_beside(header: Path, name: str) -> Path:
    """The file of voxels that a header names, which must lie in the header's own folder.

    Args:
        header: The file that names it.
        name: What it says, relative to its own folder.

    Returns:
        The file: regular, in that folder or one within, also once links are followed.

    Raises:
        InputError: It lies elsewhere, or there is no such file.
    """
    elsewhere = InputError(
        ErrorCode.FILE_FORMAT,
        f"{header}: its voxels are said to lie in '{name[:200]}', outside of its own folder; that "
        "is not read. Put the file itself beside the header and name it there.",
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
            f"{header}: the file of its voxels, '{name[:200]}', is not there.",
        ) from error
    if not stat.S_ISREG(mode):
        raise InputError(
            ErrorCode.FILE_FORMAT, f"{header}: '{name[:200]}', which it names, is no file."
        )
    return found
