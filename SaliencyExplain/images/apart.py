"""Reading files in a separate process, so that a crash of a reader does not end this process.

The command line reads in its own process: a crash ends one command only. A server and the viewer
would lose jobs and a scene, and call :func:`read_apart` when they start.
"""

from __future__ import annotations

import functools
import importlib
import multiprocessing
import pickle
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import psutil

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.boundary import reading
from SaliencyExplain.images.sizes import memory_free

if sys.platform != "win32":
    import resource

_Result = TypeVar("_Result")
_Arguments = ParamSpec("_Arguments")

#: Time limit for reading one file, in seconds. A series of a few thousand slices on a slow network
#: drive takes a few minutes.
LONGEST_SECONDS = 600.0


class ReadingProcess:
    """A process that reads one file at a time; after a crash a new one replaces it."""

    def __init__(self, seconds: float = LONGEST_SECONDS) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None
        self._ready = False

    def call(
        self,
        function: Callable[Concatenate[Path, _Arguments], _Result],
        path: Path,
        *args: _Arguments.args,
        **kwargs: _Arguments.kwargs,
    ) -> _Result:
        """Runs a function of a module in the process.

        Args:
            function: The reader; defined in a module, so that the process can import it.
            path: The file or folder that it reads.
            args: Further arguments.
            kwargs: Further arguments.

        Returns:
            What the function returns.

        Raises:
            InputError: The process crashed, or exceeded the time limit.
            Exception: What the function raises.
        """
        with self._lock:
            connection = self._started()
            try:
                connection.send((function, path, args, kwargs))
                if not self._ready:
                    # The limit does not include the time for starting the process.
                    connection.recv()
                    self._ready = True
                if not connection.poll(self._seconds):
                    self._stop()
                    raise InputError(
                        ErrorCode.FILE_DAMAGED,
                        f"{path}: could not be read within {self._seconds:g} seconds and may be "
                        "damaged. Convert it to another format, or export it again.",
                    )
                failed, result = _received(connection)
            except (EOFError, ConnectionError) as error:
                raise self._died(path) from error
            except BaseException:
                # Interrupted before the answer arrived; the next request would receive it.
                self._stop()
                raise
        if failed:
            raise result
        return result

    def start(self) -> None:
        """Starts the process, so that the first file does not wait for it."""
        with self._lock:
            self._started()

    def close(self) -> None:
        """Ends the process."""
        with self._lock:
            self._stop()

    def _started(self) -> Connection:
        if self._connection is None or self._process is None or not self._process.is_alive():
            self._stop()
            # Spawned, because a forked process would share the locks of this one's threads.
            context = multiprocessing.get_context("spawn")
            self._connection, theirs = context.Pipe()
            self._process = context.Process(
                target=_work, args=(theirs,), name="reading", daemon=True
            )
            self._process.start()
            theirs.close()
        return self._connection

    def _died(self, path: Path) -> InputError:
        status = None
        if self._process is not None:
            self._process.join(timeout=5)
            status = self._process.exitcode
        self._stop()
        if status == -getattr(signal, "SIGKILL", 9):
            return InputError(
                ErrorCode.MEMORY,
                f"{path}: the system ended the process that read it, usually because the memory "
                "was exhausted. Close other programs, or crop the image.",
            )
        how = f"signal {-status}" if status is not None and status < 0 else f"status {status}"
        return InputError(
            ErrorCode.FILE_DAMAGED,
            f"{path}: cannot be read, it is damaged: the process that read it crashed ({how}).",
        )

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None
        self._ready = False


_reading: ReadingProcess | None = None


def read_apart() -> None:
    """From now on reads files in a separate process, until this process ends."""
    global _reading
    if _reading is None:
        _reading = ReadingProcess()
        _reading.start()


def apart(
    function: Callable[Concatenate[Path, _Arguments], _Result],
) -> Callable[Concatenate[Path, _Arguments], _Result]:
    """Runs a reader in the separate process if there is one.

    In both cases an exception becomes one InputError that names the file; see
    :func:`SaliencyExplain.images.boundary.reading`.
    """

    @functools.wraps(function)
    def somewhere(path: Path, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        with reading(path):
            if _reading is not None:
                return _reading.call(somewhere, path, *args, **kwargs)
            return function(path, *args, **kwargs)

    return somewhere


def _work(connection: Connection) -> None:
    """Answers requests until the other end of the pipe is closed."""
    # Ctrl-C in a terminal reaches all processes; the main process ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # As in the main process: warnings of libraries quote headers that name patients.
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    importlib.import_module("SaliencyExplain.images.label_reading")
    with suppress(EOFError, ConnectionError):
        connection.send("ready")
        while True:
            function, path, args, kwargs = connection.recv()
            _limit_memory()
            try:
                answer = (False, function(path, *args, **kwargs))
            except Exception as error:  # noqa: BLE001 - raised in the other process
                answer = (True, error)
            _send(connection, answer)
            del answer


def _limit_memory() -> None:
    """Limits the memory, so that a library that asks for too much fails and not the machine."""
    if sys.platform == "win32":
        return
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    most = psutil.Process().memory_info().vms + memory_free()
    if hard == resource.RLIM_INFINITY or most < hard:
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))


def _send(connection: Connection, answer: tuple[bool, Any]) -> None:
    # Voxels are sent outside the pickle; inside it they would be copied once more on both sides.
    buffers: list[pickle.PickleBuffer] = []
    content = pickle.dumps(answer, protocol=5, buffer_callback=buffers.append)
    views = [buffer.raw() for buffer in buffers]
    connection.send([view.nbytes for view in views])
    connection.send_bytes(content)
    for view in views:
        connection.send_bytes(view)


def _received(connection: Connection) -> tuple[bool, Any]:
    sizes = connection.recv()
    content = connection.recv_bytes()
    buffers = []
    for size in sizes:
        buffer = bytearray(size)
        if size:
            connection.recv_bytes_into(buffer)
        else:
            connection.recv_bytes()
        buffers.append(buffer)
    return pickle.loads(content, buffers=buffers)
