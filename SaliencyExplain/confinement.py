"""Files, programs and other machines, closed to a model that nobody vouches for.

A model without trust is built from listed components, which need none of them. Should one of
them reach for a file or an address all the same, because the list is wrong or the library has
changed, the attempt is refused here. Python tells an audit hook of each such attempt before it is
made (PEP 578); :mod:`SaliencyExplain.landlock` does the same below Python where Linux can.
docs/SECURITY.md says what this covers.
"""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType
from typing import Any, ParamSpec, TypeVar

from SaliencyExplain.errors import ClassifierError, ErrorCode

#: What Python announces before it does more than to read files, by the beginning of the name.
#: Imports are not among them: libraries import parts of themselves when these are needed.
_REFUSED = (
    *("socket.", "urllib.", "http.client.", "ftplib.", "smtplib.", "poplib.", "imaplib."),
    *("nntplib.", "telnetlib.", "webbrowser.", "sqlite3.connect", "subprocess.", "pty.spawn"),
    *("os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.startfile", "os.system", "os.kill"),
    *("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate"),
    *("os.chmod", "os.chown", "os.chflags", "os.utime", "os.setxattr", "os.removexattr"),
    *("os.putenv", "os.unsetenv", "os.chdir", "os.fchdir", "os.lockf", "os.add_dll_directory"),
    *("shutil.", "tempfile.", "fcntl.", "signal.pthread_kill", "resource.setrlimit", "syslog."),
    *("winreg.CreateKey", "winreg.DeleteKey", "winreg.DeleteValue", "winreg.SetValue"),
    *("_winapi.CreateProcess", "msvcrt.locking", "pickle.find_class"),
)
_Result = TypeVar("_Result")
_Arguments = ParamSpec("_Arguments")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_LONGEST_SHOWN = 100

#: What is closed in this context, such as "The model x.zip"; empty: nothing is.
_confined: ContextVar[str] = ContextVar("confined", default="")
_listens = False


class DeniedError(ClassifierError, PermissionError):
    """A model without trust reached for a file, a program or an address.

    As a ``PermissionError`` it lets a library do without a cache that it cannot write.
    """

    def __str__(self) -> str:
        return str(self.args[0])


def raise_denied(error: BaseException) -> None:
    """Raises the :class:`DeniedError` that an error was caused by, where there is one.

    Libraries put errors of their own around it.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, DeniedError):
            raise cause
        cause = cause.__cause__ or cause.__context__


@contextmanager
def confined(what: str) -> Iterator[None]:
    """Refuses, for this thread and until the block ends, what a model has no need of.

    Refused are: to write, rename or remove files, to start programs, to send signals, to open
    connections, and to unpickle objects. Files may be read.

    Args:
        what: Who is confined, for the message.

    Raises:
        DeniedError: Out of whatever was attempted in the block.
    """
    _listen()
    with _set(what):
        yield


@contextmanager
def unconfined() -> Iterator[None]:
    """Lifts :func:`confined` for what the program itself does in between."""
    with _set(""):
        yield


@contextmanager
def _set(what: str) -> Iterator[None]:
    # Not ``reset``: CPython empties the variable's cache before it takes the value away. A garbage
    # collection in between can call the hook, which reads the variable and so caches the old
    # value, a reference that is not counted: the process would stay confined, or crash.
    before = _confined.get()
    _confined.set(what)
    try:
        yield
    finally:
        _confined.set(before)


def is_confined() -> bool:
    """Whether :func:`confined` holds here."""
    return bool(_confined.get())


def lifted(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """The same function, for which nothing is closed: a progress callback of the program's own."""

    def lifted_function(*arguments: _Arguments.args, **named: _Arguments.kwargs) -> _Result:
        with unconfined():
            return function(*arguments, **named)

    return lifted_function


def as_here(function: Callable[[], _Result]) -> Callable[[], _Result]:
    """The same function, confined on whichever thread it is called as the caller is now."""
    what = _confined.get()

    def confined_function() -> _Result:
        with confined(what):
            return function()

    return confined_function if what else function


def _listen() -> None:
    """Adds the hook; there is no way to take one away again."""
    global _listens
    if not _listens:
        _listens = True
        sys.addaudithook(_hear)


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuses what is told of before it is done."""
    if event == "open":
        if not _confined.get() or _reads(arguments):
            return
    elif not event.startswith(_REFUSED) or not _confined.get():
        return
    if _finalizes():
        return
    what = _confined.get()
    about = ascii(arguments[0])[:_LONGEST_SHOWN] if arguments else ""
    raise DeniedError(
        ErrorCode.MODEL_REFUSED,
        f"{what} is refused: it reached for what no model needs ({event} {about}); nothing of "
        "that was done. With --trust it would be.",
    )


def _finalizes() -> bool:
    """Whether the program tidies up after an object of its own, which may happen on any thread."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_name == "__del__" or code is weakref.finalize.__call__.__code__:
            return True
        frame = frame.f_back
    return False


def _reads(arguments: tuple[Any, ...]) -> bool:
    """Whether a file is opened for reading alone."""
    _, mode, flags = (*arguments, None, None, None)[:3]
    if isinstance(mode, str) and set(mode) & set("wax+"):
        return False
    return not (isinstance(flags, int) and flags & _WRITES)
