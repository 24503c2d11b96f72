"""The one place where what a library raises about a file becomes one line that names the file."""

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
    """Turns whatever is raised while a file is read into one InputError about the file.

    A damaged file makes libraries raise anything at all. Errors that are meant for the user,
    a cancellation and what ends the program (KeyboardInterrupt, SystemExit) go through.

    Args:
        path: What is read; a file or folder.
        kind: The error that it becomes.

    Raises:
        InputError: Of that kind. Its message holds no value of the file, which may identify a
            patient.
    """
    try:
        yield
    except (SaliencyExplainError, Cancelled):
        raise
    except FileNotFoundError as error:
        raise kind(
            ErrorCode.FILE_MISSING, f"{path}: there is no such file or folder any more."
        ) from error
    except PermissionError as error:
        raise kind(
            ErrorCode.FILE_UNREADABLE, f"{path}: cannot be opened ({error.strerror})."
        ) from error
    except MemoryError as error:
        raise kind(
            ErrorCode.MEMORY, f"{path}: this machine's memory does not suffice to read it."
        ) from error
    except Exception as error:
        raise kind(
            ErrorCode.FILE_DAMAGED,
            f"{path}: cannot be read, it may be damaged or cut off, or of a kind that is not read "
            f"here ({type(error).__name__}).",
        ) from error


def reader(
    function: Callable[Concatenate[Path, _Arguments], _Result],
) -> Callable[Concatenate[Path, _Arguments], _Result]:
    """Makes a function whose first argument is what it reads do so within :func:`reading`."""

    @functools.wraps(function)
    def guarded(path: Path, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        with reading(path):
            return function(path, *args, **kwargs)

    return guarded
