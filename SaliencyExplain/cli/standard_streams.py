"""Standard output and error that may be closed, broken or full without a traceback.

A command does not depend on the reader of its output: where the reader has ended (``| head``), the
rest is dropped and the exit status is still that of the command. Where the output is lost for
another reason, such as a full disk, there is a message, and the status is not 0.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import sys
from collections.abc import Callable
from typing import IO, Any

from SaliencyExplain.cli.messages import BAD_INPUT, say_error
from SaliencyExplain.errors import ErrorCode

#: The reader has ended; for a pipe Windows reports it as EINVAL.
_GONE = {errno.EPIPE, errno.ECONNRESET, *((errno.EINVAL,) if sys.platform == "win32" else ())}


class _Descriptor(io.RawIOBase):
    """Writes to a file descriptor; after the first failure it drops all further output.

    Attributes:
        failure: The first failure.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.failure: OSError | None = None
        self._descriptor = descriptor

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def fileno(self) -> int:
        return self._descriptor

    def write(self, content: Any) -> int:
        rest = memoryview(content).cast("B")
        size = len(rest)
        while rest and self.failure is None:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:
                # Another process has made the pipe non-blocking, and it is full.
                select.select([], [self._descriptor], [])
            except OSError as error:
                self.failure = error
        return size


def run_with_streams(command: Callable[[], int]) -> int:
    """Runs a command whose output may be lost.

    Args:
        command: Gives the exit status.

    Returns:
        The exit status: the command's own, or :data:`BAD_INPUT` where that is 0 and the output
        could not be written.
    """
    _fill_closed_descriptors()
    out = _Descriptor(1)
    # Python's own writers to a console on Windows handle its encoding.
    if not (sys.platform == "win32" and out.isatty()):
        sys.stdout = _text(out, sys.stdout)
        sys.stderr = _text(_Descriptor(2), sys.stderr)
    status = command()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    if out.failure is not None and out.failure.errno not in _GONE:
        say_error(
            f"standard output cannot be written ({out.failure.strerror}); "
            "what the command wrote into files is complete.",
            ErrorCode.OUTPUT_UNWRITABLE,
        )
        status = status or BAD_INPUT
    return status


def _fill_closed_descriptors() -> None:
    # The next file to be opened would get the number of a closed standard stream, and what a
    # library prints would go into a result.
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _text(descriptor: _Descriptor, replaced: IO[str] | None) -> io.TextIOWrapper:
    """A text stream like the one that it replaces, which is None where it was closed."""
    errors = getattr(replaced, "errors", None) or "strict"
    encoding = getattr(replaced, "encoding", None) or "utf-8"
    # A name that the terminal's encoding lacks must not cost a result. In the C locale
    # Python's own choice, surrogateescape, fails for it too.
    plain = errors == "surrogateescape" and not encoding.lower().startswith("utf")
    return io.TextIOWrapper(
        io.BufferedWriter(descriptor),
        encoding=encoding,
        errors="backslashreplace" if plain or errors == "strict" else errors,
        line_buffering=getattr(replaced, "line_buffering", True),
    )
