"""Damages files of every format and gives them to the readers, in a process that may die.

A reader may read a damaged file or refuse it in one line. Found is what it must not do: raise
anything else, end the process, or need more time or memory than :class:`Limits` says.
"""

from __future__ import annotations

import multiprocessing
import shutil
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from SaliencyExplain.errors import SaliencyExplainError
from Testing.fuzz.mutations import damaged
from Testing.fuzz.seed import PATIENT, Seed

#: Seconds that a process may need to start: it loads torch.
_START_SECONDS = 120.0


@dataclass(frozen=True)
class Finding:
    """A damaged file that a reader did not take as it should.

    Attributes:
        number: Of the file, with which it is made again.
        seed: Name of the good file, and the reader.
        what: ``crash``, ``hang``, ``raised``, ``memory`` or ``message``.
        details: For a developer.
    """

    number: int
    seed: str
    what: str
    details: str


@dataclass(frozen=True)
class Limits:
    """What a reader may take for one small file.

    Attributes:
        seconds: Of computing, after which it counts as hanging.
        waiting_seconds: On the clock, computing or not.
        large_bytes: By which the process's memory may grow.
    """

    seconds: float = 10.0
    waiting_seconds: float = 60.0
    large_bytes: int = 2 * 1024**3


@dataclass
class Result:
    """What came of all files.

    Attributes:
        files: How many were given to readers.
        read: How many of each good file were read, damaged as they were.
        refused: How many of each good file were refused.
        findings: What was found.
    """

    files: int = 0
    read: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)


def fuzz(
    numbers: Sequence[int],
    *,
    seed: int = 0,
    only: str = "",
    limits: Limits = Limits(),
    planted: bool = False,
    tell: Callable[[Result], None] = lambda result: None,
) -> Result:
    """Damages files and reads them.

    Args:
        numbers: Of the files; a number and a seed always give the same file.
        seed: Of all randomness.
        only: Part of the names of the good files (with their reader) that are used.
        limits: What a reader may take.
        planted: Whether the readers of :mod:`Testing.fuzz.planted` are used instead.
        tell: Called now and then with what has come so far.
    """
    result = Result()
    work = _Work(seed, only, limits, planted)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        left = list(numbers)
        while left:
            done = _one_process(Path(folder), left, work, result, tell)
            left = left[done:]
    return result


@dataclass(frozen=True)
class _Work:
    seed: int
    only: str
    limits: Limits
    planted: bool


def _one_process(
    folder: Path,
    numbers: list[int],
    work: _Work,
    result: Result,
    tell: Callable[[Result], None],
) -> int:
    """Has a process work until it dies; returns how many files are done."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, folder, numbers, work), daemon=True)
    process.start()
    theirs.close()
    done = 0
    started = ""
    try:
        while done < len(numbers):
            if not (_answers(ours, process, work.limits) if started else ours.poll(_START_SECONDS)):
                result.findings.append(Finding(numbers[done], started, "hang", ""))
                return done + 1
            try:
                kind, name, details = ours.recv()
            except EOFError:
                process.join()
                if not started:
                    raise RuntimeError("the process that reads could not be started") from None
                how = f"exit status {process.exitcode}"
                result.findings.append(Finding(numbers[done], started, "crash", how))
                return done + 1
            if kind == "begins":
                started = name
                continue
            result.files += 1
            if kind == "read":
                result.read[name] += 1
            elif kind == "refused":
                result.refused[name] += 1
            else:
                result.findings.append(Finding(numbers[done], name, kind, details))
            done += 1
            if result.files % 500 == 0:
                tell(result)
        return done
    finally:
        process.kill()
        process.join()
        ours.close()


def _answers(connection: Connection, process: Any, limits: Limits) -> bool:
    """Whether a reader comes to an end: another program's work is not held against it."""
    watched = psutil.Process(process.pid)
    ends = time.monotonic() + limits.waiting_seconds
    computed = sum(watched.cpu_times()[:2])
    while time.monotonic() < ends:
        if connection.poll(min(limits.seconds, 1.0)):
            return True
        if sum(watched.cpu_times()[:2]) - computed > limits.seconds:
            return False
    return False


def _work(connection: Connection, folder: Path, numbers: list[int], work: _Work) -> None:
    from Testing.fuzz.planted import PLANTED

    warnings.simplefilter("ignore")
    if work.planted:
        targets = PLANTED
        seeds = [Seed("a.txt", "bytes", reader, b"text") for reader in PLANTED]
    else:
        # With torch, which the planted ones do without.
        from Testing.fuzz.seeds import all_seeds
        from Testing.fuzz.targets import TARGETS

        targets = TARGETS
        seeds = all_seeds(folder / "seeds")
        seeds = [one for one in seeds if work.only in f"{one.name} as {one.reader}"]
    for number in numbers:
        chosen = seeds[number % len(seeds)]
        name = f"{chosen.name} as {chosen.reader}"
        place = folder / "file"
        shutil.rmtree(place, ignore_errors=True)
        path = write(chosen, number, work.seed, place)
        connection.send(("begins", name, ""))
        connection.send(_outcome(targets[chosen.reader], path, name, work.limits.large_bytes))


def write(chosen: Seed, number: int, seed: int, place: Path) -> Path:
    """Writes a damaged file, and what lies beside it, into a folder that is not there yet."""
    path = place / chosen.name
    for name, content in chosen.beside:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, number])
    path.write_bytes(damaged(chosen.content, chosen.kind, chosen.name, rng))
    return path


def _outcome(
    target: Callable[[Path], object], path: Path, name: str, large_bytes: int
) -> tuple[str, str, str]:
    before = _peak_bytes(again=True)
    try:
        target(path)
        outcome = ("read", name, "")
    except SaliencyExplainError as error:
        message = str(error)
        outcome = ("refused", name, "")
        if "\n" in message.strip() or len(message) > 2000 or PATIENT in message:
            outcome = ("message", name, message[:500])
    except BaseException:  # noqa: BLE001 - that is what is looked for
        outcome = ("raised", name, traceback.format_exc()[-3000:])
    grown = _peak_bytes() - before
    if grown > large_bytes:
        outcome = ("memory", name, f"{grown / 1024**3:.1f} GiB")
    return outcome


def _peak_bytes(again: bool = False) -> int:
    """Most memory of this process so far; from now on where that is begun again (Linux)."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    if again:
        Path("/proc/self/clear_refs").write_text("5")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
