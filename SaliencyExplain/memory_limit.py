"""A piece of work that may not take more memory than there is.

Linux gives out more memory than it has, and when it is used ends the process that it finds
largest, without a word. With a limit on what the process may reserve the allocation itself fails,
as an error that ends the work alone.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_lock = threading.Lock()
_limits: list[int] = []


@contextmanager
def memory_limited(more: float) -> Iterator[None]:
    """Lets the process reserve at most so many bytes more than it has now, until the block ends.

    Elsewhere than on Linux nothing is limited. The limit is the process's: of several blocks that
    overlap the largest holds.

    Args:
        more: Bytes.

    Raises:
        MemoryError: Out of the block, or what a library makes of it, such as the RuntimeError of
            torch.
    """
    held = _reserved()
    if held is None:
        yield
        return
    limit = held + int(more)
    with _lock:
        _limits.append(limit)
        _apply()
    try:
        yield
    finally:
        with _lock:
            _limits.remove(limit)
            _apply()


def _apply() -> None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = max(_limits) if _limits else hard
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _reserved() -> int | None:
    """Bytes of private memory that the process has reserved; None where that is not known."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmData:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None
