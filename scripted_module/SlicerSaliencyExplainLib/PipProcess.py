"""pip in a process of its own: its lines as they come, a cancel that holds, errors in one line."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from SaliencyExplain.errors import (
    Cancelled,
    ErrorCode,
    InputError,
    OutputError,
    SaliencyExplainError,
)

#: Seconds between two looks at ``cancelled`` while pip says nothing.
_LOOK = 0.1

#: What pip prints when it fails, and what that means to the user, the first that is found.
_NETWORK = (
    "pip reaches no package index: check the network, or the proxy (the environment's HTTPS_PROXY)."
)
_REASONS: tuple[tuple[str, type[SaliencyExplainError], ErrorCode, str], ...] = (
    (
        r"No module named '?pip\b",
        InputError,
        ErrorCode.PACKAGE_MISSING,
        "pip is missing in {python}: name a Python that has it, or another engine.",
    ),
    (
        r"no such option: --(dry-run|report)",
        InputError,
        ErrorCode.PACKAGE_MISSING,
        "pip of {python} is older than 22.2: update it, or name another engine.",
    ),
    (
        r"Errno 28|No space left on device|not enough space on the disk",
        OutputError,
        ErrorCode.OUTPUT_UNWRITABLE,
        "The disk is full: nothing was installed. Make room, or choose another folder.",
    ),
    (
        r"Errno 13|Permission denied|Access is denied|Read-only file system",
        OutputError,
        ErrorCode.OUTPUT_UNWRITABLE,
        "pip may not write where it has to: nothing was installed. Choose another folder.",
    ),
    (
        r"NewConnectionError|ConnectTimeout|ReadTimeout|Failed to establish a new connection"
        r"|name resolution|getaddrinfo failed|Network is unreachable|Connection refused"
        r"|ProxyError|Cannot connect to proxy|Max retries exceeded|RemoteDisconnected",
        InputError,
        ErrorCode.NETWORK,
        _NETWORK,
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|SSLError",
        InputError,
        ErrorCode.NETWORK,
        "The package index's certificate is not trusted here: ask who runs the network for its "
        "certificate and name it in the environment's PIP_CERT.",
    ),
    (
        r"DO NOT MATCH THE HASHES",
        InputError,
        ErrorCode.FILE_DAMAGED,
        "A downloaded package is not the one that was announced: nothing was installed. Try again.",
    ),
)


def run_pip(
    python: Path,
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    on_line: Callable[[str], None],
    cancelled: Callable[[], bool],
) -> None:
    """Runs ``python -m pip`` and waits for it.

    Args:
        python: The Python whose pip runs.
        arguments: What follows ``pip``.
        environment: All variables of the process.
        on_line: Told each line that pip prints.
        cancelled: Asked ten times a second; where it is true, pip and all that it started ends.

    Raises:
        Cancelled: ``cancelled`` was true.
        InputError: There is no such Python, pip or package, or no network.
        OutputError: pip could not write.
    """
    command = [str(python), "-m", "pip", *arguments]
    lines: queue.Queue[str | None] = queue.Queue()
    said: list[str] = []
    try:
        process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            **_group_of_its_own(),
        )
    except OSError as error:
        raise InputError(
            ErrorCode.ENGINE_START, f"{python} cannot be started: {error.strerror}."
        ) from error
    with process:
        reader = threading.Thread(target=_read, args=(process, lines), daemon=True)
        reader.start()
        try:
            while (line := _next(lines, cancelled)) is not None:
                said.append(line)
                on_line(line)
        except BaseException:
            _end_tree(process)
            raise
        finally:
            reader.join()
    if process.returncode:
        raise _reason(python, said) from subprocess.CalledProcessError(
            process.returncode, command, output="\n".join(said)
        )


def _group_of_its_own() -> dict[str, object]:
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NO_WINDOW}
    return {"start_new_session": True}


def _read(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line.rstrip())
    lines.put(None)


def _next(lines: queue.Queue[str | None], cancelled: Callable[[], bool]) -> str | None:
    """The next line, or None when pip has ended."""
    while True:
        if cancelled():
            raise Cancelled
        try:
            return lines.get(timeout=_LOOK)
        except queue.Empty:
            continue


def _end_tree(process: subprocess.Popen[str]) -> None:
    """Ends a process with all that it started: PythonSlicer is a launcher with Python below it."""
    if sys.platform == "win32":
        subprocess.run(
            ["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True, check=False
        )
    else:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            # It ended by itself in the meantime.
            return


def _reason(python: Path, said: Sequence[str]) -> SaliencyExplainError:
    """Why pip failed, in one line."""
    text = "\n".join(said)
    for pattern, kind, code, message in _REASONS:
        if re.search(pattern, text):
            return kind(code, message.format(python=python))
    errors = [line for line in said if line.startswith("ERROR:")]
    last = (errors or [line for line in said if line] or ["it said nothing"])[-1]
    return InputError(
        ErrorCode.ENGINE_START, f"pip did not finish: {last.removeprefix('ERROR:').strip()}"
    )
