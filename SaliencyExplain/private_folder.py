"""Folders among the temporary ones for what is private, such as images that were sent or dropped.

They are deleted at the end of their process. What a killed process leaves is deleted by the next
one: each folder holds a file that its process has locked, and the system frees the lock with the
process, however that ends. A process number would not tell, as another process may have it by then.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_PREFIX = "saliency-explain-"
_LOCK = ".in-use"
#: Another process may sweep a folder in the moment before it is locked.
_TRIES = 3


class PrivateFolder:
    """A folder that only its owner reads, deleted at the end of the block or of the process.

    Attributes:
        path: The folder.
    """

    def __init__(self, kind: str) -> None:
        """Makes it, and deletes those that dead processes of the same user have left.

        Args:
            kind: A word for its name.
        """
        sweep()
        for left in reversed(range(_TRIES)):
            # Made for its owner alone: mode 0700.
            self._folder = tempfile.TemporaryDirectory(
                prefix=f"{_PREFIX}{kind}-", ignore_cleanup_errors=True
            )
            self.path = Path(self._folder.name)
            self._lock = _locked(self.path, make=True)
            if self._lock is not None:
                break
            if left:
                self._folder.cleanup()
            else:
                # A file system without locks: a folder without a lock's file is never swept.
                (self.path / _LOCK).unlink(missing_ok=True)

    def cleanup(self) -> None:
        """Deletes it; may be called again."""
        if self._lock is not None:
            # Windows deletes no open file.
            os.close(self._lock)
            self._lock = None
        self._folder.cleanup()

    def __enter__(self) -> Path:
        """The folder."""
        return self.path

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Deletes it."""
        self.cleanup()


def sweep() -> None:
    """Deletes the private folders of this user whose processes have ended.

    Left alone are folders that a process holds, that belong to somebody else or may be read by
    others, that are links, or that have no lock.
    """
    root = Path(tempfile.gettempdir())
    for folder in _candidates(root):
        with contextlib.suppress(OSError):
            descriptor = _locked(folder, make=False)
            if descriptor is not None:
                os.close(descriptor)
                shutil.rmtree(folder, ignore_errors=True)


def _candidates(root: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        if os.name == "posix":
            mode = root.stat().st_mode
            if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
                # Anybody could put another folder in a place that was just looked at.
                return
        with os.scandir(root) as entries:
            found = [Path(one.path) for one in entries if one.name.startswith(_PREFIX)]
        yield from (path for path in found if _is_own(path))


def _is_own(folder: Path) -> bool:
    try:
        status = folder.lstat()
    except OSError:
        return False
    if not stat.S_ISDIR(status.st_mode):
        return False
    return os.name != "posix" or (
        status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & 0o077
    )


def _locked(folder: Path, *, make: bool) -> int | None:
    """The open and locked file of a folder.

    Returns:
        None where another process holds it or the folder has gone meanwhile, and, unless it is to
        be made, where there is no such file.
    """
    path = folder / _LOCK
    flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | (os.O_CREAT if make else 0)
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError:
        return None
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever had the lock before may have deleted the file while this was waiting to open it.
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None
