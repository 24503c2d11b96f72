"""Keeps libraries that are not Python from writing to the terminal."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_users = 0
_kept = -1


@contextmanager
def quiet() -> Iterator[None]:
    """Turns the process's standard error away for the moment; what fails raises all the same.

    ITK and libtiff write there past Python, so it is the file descriptor that is turned away. The
    last of several threads turns it back.
    """
    global _users, _kept
    with _lock:
        if _users == 0:
            _kept = os.dup(2)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 2)
            os.close(nowhere)
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                os.dup2(_kept, 2)
                os.close(_kept)
