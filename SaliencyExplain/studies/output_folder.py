"""The output folder of a run: locked by one run, and not written to once it was replaced."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import filelock

from SaliencyExplain.errors import ErrorCode, InputError, OutputError

LOCK = ".lock"


@dataclass(frozen=True)
class HeldFolder:
    """An output folder whose lock this run, or the run that started this process, holds.

    The lock's file stays open for as long as the run lasts, so that its number on the disk is
    given to no other file: a folder of the same name whose lock has another number is another
    folder. Neither the path nor the folder's own number is enough: the number is free again as
    soon as the folder is deleted.

    Attributes:
        path: The folder.
        device: Number of the file system of the lock's file.
        inode: Number of the lock's file there.
    """

    path: Path
    device: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> HeldFolder:
        """The folder with the lock that lies in it now."""
        status = (path / LOCK).stat()
        return cls(path, status.st_dev, status.st_ino)

    @property
    def is_there(self) -> bool:
        """Whether the folder is still the one that is held."""
        try:
            return HeldFolder.of(self.path) == self
        except OSError:
            return False

    def check(self) -> None:
        """Raises OutputError if the folder is no longer the locked one."""
        if not self.is_there:
            raise OutputError(
                ErrorCode.OUTPUT_UNWRITABLE,
                f"{self.path}: the output folder was deleted, moved or replaced during the run. "
                "Nothing more is written; start the run again.",
            )


@contextlib.contextmanager
def only_one(out: Path) -> Iterator[HeldFolder]:
    """Keeps a second run out of the folder; the system frees the lock of a killed one.

    A folder into which nothing was written is gone afterwards.

    Yields:
        The folder, which can check whether it is still the same.

    Raises:
        InputError: Another run is at work in the folder.
        OutputError: The folder cannot be written, or was deleted or replaced meanwhile.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(out / LOCK, timeout=0):
            held = HeldFolder.of(out)
            try:
                yield held
            except (OSError, OutputError):
                # That it is gone says more than the file that could not be written for it.
                held.check()
                raise
            finally:
                if held.is_there and [entry.name for entry in out.iterdir()] == [LOCK]:
                    (out / LOCK).unlink()
                    out.rmdir()
    except filelock.Timeout:
        raise InputError(
            ErrorCode.STUDY_BUSY,
            f"{out}: another run uses this folder. Wait for it, or choose another folder.",
        ) from None
    except OSError as error:
        raise OutputError(
            ErrorCode.OUTPUT_UNWRITABLE, f"{out}: cannot be written ({error.strerror})."
        ) from error
