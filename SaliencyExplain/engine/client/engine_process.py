"""An engine in a process of its own: started, found again, and ended.

Needs no more packages than the client. The token never stands on a command line, where others can
read it, nor in an environment variable, which child processes inherit.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from SaliencyExplain.engine.client.http_client import RemoteEngine
from SaliencyExplain.engine.server.tokens import token_in
from SaliencyExplain.errors import EngineLostError, ErrorCode, InputError, SaliencyExplainError

#: The file in the state folder with the address of a running engine.
STATE = "engine.json"
_STOP = b"stop\n"
_POLITE = 8.0
_LINES = 30


class EngineProcess:
    """A server that this process has started, and that ends with it.

    The server holds the reading end of a pipe to this process. When this process ends, for whatever
    reason, the pipe closes and the server ends as soon as no job runs; a study runs to its end.

    Attributes:
        client: Sends requests to it.
        log: Where it writes what went wrong.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        client: RemoteEngine,
        log: Path,
        state: Path | None,
        *,
        own_log: bool,
    ) -> None:
        """Use :meth:`start`."""
        self.client = client
        self.log = log
        self._process = process
        self._state = state
        self._own_log = own_log

    @classmethod
    def start(
        cls,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        data: Sequence[str] = (),
        trust: bool = False,
        log: Path | None = None,
        state: Path | None = None,
        timeout: float = 300.0,
    ) -> EngineProcess:
        """Starts a server and waits until it answers.

        Args:
            command: Such as ``["/path/.venv/bin/saliency-explain"]``; ``serve`` and its
                options are added.
            environment: All environment variables of the process; None: those of this one.
            data: Folders that jobs may name.
            trust: Whether it may run code that comes with classifiers, where a request allows it.
            log: Where its messages go; None: a new temporary file.
            state: A private folder in which :func:`find_engine` finds it again; None: nowhere.
            timeout: Seconds to start in; the first start on a machine can be slow.

        Raises:
            InputError: The command does not exist.
            EngineLostError: It ended at once, or did not answer in time; the message has its last
                lines.
        """
        words = [*command, "serve", "--end-with-stdin"]
        for folder in data:
            words += ["--data", folder]
        if trust:
            words.append("--trust")
        try:
            path = log or _own_log()
            with path.open("ab") as messages:
                process = subprocess.Popen(
                    words,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=messages,
                    env=None if environment is None else dict(environment),
                    **_apart(),
                )
        except OSError as error:
            raise InputError(
                ErrorCode.ENGINE_START,
                f"The engine cannot be started: {error.filename or command[0]} ({error.strerror}).",
            ) from error
        try:
            said = _first_line(process, timeout)
            address, token_file = said["address"], Path(said["token_file"])
            client = RemoteEngine(address, token_in(token_file))
            client.about()
        except (KeyError, TypeError, ValueError, SaliencyExplainError) as error:
            _end(process, polite=0)
            last = _last_words(path)
            raise EngineLostError(
                ErrorCode.ENGINE_START,
                f"The engine did not start: {last or error or 'it printed nothing'}",
            ) from error
        if state is not None:
            _write_state(state, address, token_file, process.pid)
        return cls(process, client, path, state, own_log=log is None)

    @property
    def pid(self) -> int:
        """The system's number of the process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def stop(self) -> None:
        """Ends the process and its jobs: first by a request, then by a kill.

        A log of its own among the temporary files goes with an engine that ended well.
        """
        self.client.close()
        _end(self._process, polite=_POLITE)
        if self._own_log and self._process.returncode == 0:
            self.log.unlink(missing_ok=True)
        if self._state is not None:
            with contextlib.suppress(OSError):
                (self._state / STATE).unlink()

    def let_go(self) -> None:
        """Leaves the process to end by itself, as soon as no job runs."""
        self.client.close()
        _close(self._process.stdin)

    def log_tail(self) -> str:
        """The last lines that it wrote."""
        return _tail(self.log)


def find_engine(state: Path, *, verify: bool | str | None = None) -> RemoteEngine | None:
    """The engine that an earlier process started and that still runs, or None.

    Args:
        state: The folder given to :meth:`EngineProcess.start`.
        verify: As of :class:`RemoteEngine`.
    """
    path = Path(state) / STATE
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        client = RemoteEngine(known["address"], token_in(Path(known["token_file"])), verify=verify)
        client.about()
    except (OSError, ValueError, KeyError, TypeError, SaliencyExplainError):
        return None
    return client


def _first_line(process: subprocess.Popen[bytes], timeout: float) -> dict[str, Any]:
    """The line of JSON with a server's address; reads on, so that the server never blocks."""
    found: queue.Queue[bytes] = queue.Queue()

    def read() -> None:
        source = process.stdout
        if source is not None:
            found.put(source.readline())
            with contextlib.suppress(OSError, ValueError):
                while source.read(4096):
                    continue
                source.close()

    threading.Thread(target=read, name="engine output", daemon=True).start()
    try:
        line = found.get(timeout=timeout)
    except queue.Empty:
        raise EngineLostError(
            ErrorCode.ENGINE_START, f"it did not answer within {timeout:g} s."
        ) from None
    if not line:
        raise EngineLostError(ErrorCode.ENGINE_START, "it ended at once.")
    said: dict[str, Any] = json.loads(line)
    return said


def _end(process: subprocess.Popen[bytes], polite: float) -> None:
    if process.stdin is not None and polite and process.poll() is None:
        with contextlib.suppress(OSError, ValueError):
            process.stdin.write(_STOP)
            process.stdin.flush()
    _close(process.stdin)
    try:
        process.wait(polite)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _close(stream: IO[bytes] | None) -> None:
    if stream is not None:
        with contextlib.suppress(OSError, ValueError):
            stream.close()


def _apart() -> dict[str, Any]:
    """Ctrl-C in the terminal of the process that started it is not for the engine."""
    if os.name == "nt":
        flags = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
        return {"creationflags": flags | getattr(subprocess, "CREATE_NO_WINDOW", 0)}
    return {"start_new_session": True}


def _own_log() -> Path:
    handle, name = tempfile.mkstemp(prefix="saliency-explain-engine-", suffix=".log")
    os.close(handle)
    return Path(name)


def _tail(log: Path) -> str:
    try:
        content = log.read_bytes()[-65536:]
    except OSError:
        return ""
    return "\n".join(content.decode("utf-8", "replace").splitlines()[-_LINES:])


def _last_words(log: Path) -> str:
    """The line with the reason why the engine ended."""
    said = [line.strip() for line in _tail(log).splitlines() if line.strip()]
    errors = [line for line in said if line.startswith("error:")]
    return (errors or said or [""])[-1].removeprefix("error: ")


def _write_state(state: Path, address: str, token_file: Path, process: int) -> None:
    with contextlib.suppress(OSError):
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial = state / f".{STATE}.{os.getpid()}.{time.monotonic_ns()}"
        known = {"address": address, "token_file": str(token_file), "pid": process}
        partial.write_text(json.dumps(known), encoding="utf-8")
        partial.replace(state / STATE)
