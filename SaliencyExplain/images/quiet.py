"""Suppresses terminal output of libraries that are not written in Python."""

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
    """Suppresses the process's standard error within the context; exceptions are not affected.

    ITK and libtiff write to it directly and not through Python, so the file descriptor is
    redirected. The last of several threads restores it.
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
