"""Turns exceptions of libraries that read a file into one error that names the file."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from SaliencyExplain.errors import Cancelled, ErrorCode, InputError, SaliencyExplainError

_Result = TypeVar("_Result")
_Arguments = ParamSpec("_Arguments")


@contextmanager
def reading(path: Path, kind: type[InputError] = InputError) -> Iterator[None]:
    """Turns any exception while a file is read into one InputError about the file.

    A damaged file can make libraries raise any exception. Errors of this project, cancellations
    and exceptions that end the program (KeyboardInterrupt, SystemExit) pass unchanged.

    Args:
        path: The file or folder that is read.
        kind: The type of the error.

    Raises:
        InputError: An error of that type. Its message contains no value of the file, which may
            identify a patient.
    """
    try:
        yield
    except (SaliencyExplainError, Cancelled):
        raise
    except FileNotFoundError as error:
        raise kind(
            ErrorCode.FILE_MISSING, f"{path}: the file or folder no longer exists."
        ) from error
    except PermissionError as error:
        raise kind(
            ErrorCode.FILE_UNREADABLE, f"{path}: cannot be opened ({error.strerror})."
        ) from error
    except MemoryError as error:
        raise kind(
            ErrorCode.MEMORY,
            f"{path}: there is not enough memory to read it. Crop it, or close other programs.",
        ) from error
    except Exception as error:
        raise kind(
            ErrorCode.FILE_DAMAGED,
            f"{path}: cannot be read, it may be damaged or cut off, or of an unsupported kind "
            f"({type(error).__name__}). Export it again, or convert it to NIfTI or NRRD.",
        ) from error


def reader(
    function: Callable[Concatenate[Path, _Arguments], _Result],
) -> Callable[Concatenate[Path, _Arguments], _Result]:
    """Runs a function within :func:`reading`; its first argument is the path that it reads."""

    @functools.wraps(function)
    def guarded(path: Path, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        with reading(path):
            return function(path, *args, **kwargs)

    return guarded
