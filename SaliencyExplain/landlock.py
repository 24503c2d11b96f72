"""A thread to which Linux itself closes files and connections (Landlock, from Linux 5.13 on).

An audit hook (:mod:`SaliencyExplain.confinement`) hears of what is done in Python. torch writes
files in C++, of which Python does not know; the kernel refuses those, too. What a thread was
denied it never gets back, which is why the work is done in a thread of its own that ends with it.
"""

from __future__ import annotations

import contextvars
import ctypes
import gc
import sys
import threading
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

_Result = TypeVar("_Result")

# linux/landlock.h; the numbers of the system calls are the same on all processors.
_CREATE_RULESET, _RESTRICT_SELF = 444, 446
_ASK_VERSION = 1
_SET_NO_NEW_PRIVILEGES = 38
#: By the version of Landlock from which on it is known: to run programs, to write files, and to
#: remove and make entries of folders; to link and rename; to cut files off.
_FILES = {1: 0b1_1111_1111_0011, 2: 1 << 13, 3: 1 << 14}
#: From version 4 on: to listen and to connect by TCP.
_CONNECTIONS = {4: 0b11}


class _Ruleset(ctypes.Structure):
    """What a ruleset is about; all of it is denied, since no rule allows anything."""

    _fields_ = (("files", ctypes.c_uint64), ("connections", ctypes.c_uint64))


@cache
def version() -> int:
    """The kernel's version of Landlock; 0 where there is none."""
    if not sys.platform.startswith("linux"):
        return 0
    try:
        return max(0, _library().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _ASK_VERSION))
    except (OSError, AttributeError):
        return 0


def run_apart(function: Callable[[], _Result]) -> _Result:
    """Calls a function in a thread that can neither change files nor connect.

    Where the kernel cannot do that, the function is called as it is.

    Args:
        function: It is called with the caller's context variables.

    Returns:
        What the function returns.

    Raises:
        BaseException: What the function raises.
    """
    if not version():
        return function()
    context, found, failed = contextvars.copy_context(), [], []

    def work() -> None:
        try:
            _restrict()
            found.append(context.run(function))
        except BaseException as error:  # noqa: BLE001  it is raised where the thread is waited for
            failed.append(error)

    # A daemon, so that Ctrl-C ends the program whatever the function does.
    thread = threading.Thread(target=work, name="confined", daemon=True)
    # What the program left to be tidied up, such as a temporary folder, must not be on it.
    collects = gc.isenabled()
    gc.disable()
    try:
        thread.start()
        thread.join()
    finally:
        if collects:
            gc.enable()
    if failed:
        raise failed[0]
    return found[0]


def _restrict() -> None:
    """Denies this thread, and those that it will start, what the ruleset is about.

    Raises:
        OSError: The kernel refuses.
    """
    files = sum(bits for since, bits in _FILES.items() if version() >= since)
    connections = sum(bits for since, bits in _CONNECTIONS.items() if version() >= since)
    rules = _Ruleset(files, connections)
    # Before version 4 the kernel knows the first field alone.
    size = ctypes.sizeof(rules) if connections else ctypes.sizeof(ctypes.c_uint64)
    library = _library()
    descriptor = _checked(
        library.syscall(_CREATE_RULESET, ctypes.byref(rules), ctypes.c_size_t(size), 0)
    )
    try:
        _checked(library.prctl(_SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
        _checked(library.syscall(_RESTRICT_SELF, descriptor, 0))
    finally:
        library.close(descriptor)


@cache
def _library() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _checked(returned: int) -> int:
    if returned < 0:
        number = ctypes.get_errno()
        raise OSError(number, "Landlock does not confine the thread")
    return returned
