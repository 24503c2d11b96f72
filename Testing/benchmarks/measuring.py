"""Time and memory of runs that take turns."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

_PAGE = 4096


@dataclass
class Figures:
    """What the runs of one way took.

    Attributes:
        seconds: On the clock.
        cpu_seconds: Of this process.
        memory: Highest bytes over what was there before.
        result: What the last run gave.
    """

    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    result: Any = None

    @property
    def median(self) -> float:
        """Seconds of the median run."""
        return statistics.median(self.seconds)

    @property
    def cpu_median(self) -> float:
        """CPU seconds of the median run."""
        return statistics.median(self.cpu_seconds)


def take_turns(
    runs: Mapping[str, Callable[[], Any]],
    device: torch.device,
    repeats: int,
    between: Callable[[], None] = lambda: None,
) -> dict[str, Figures]:
    """Runs each way ``repeats`` times in turn, every other time in the reverse order.

    Args:
        runs: The ways.
        device: Is waited for where it is a GPU.
        repeats: Times.
        between: Called after each run, outside of its time.
    """
    figures = {name: Figures() for name in runs}
    for repeat in range(repeats):
        for name in list(runs) if repeat % 2 == 0 else list(runs)[::-1]:
            one = figures[name]
            one.result = None
            with peak_memory(device, one.memory):
                start, busy = time.perf_counter(), time.process_time()
                one.result = runs[name]()
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                one.seconds.append(time.perf_counter() - start)
                one.cpu_seconds.append(time.process_time() - busy)
            between()
    return figures


@contextmanager
def peak_memory(device: torch.device, found: list[int]) -> Iterator[None]:
    """Appends the highest memory over what was there before, in bytes.

    Resident set on the CPU, read every 5 ms; allocated memory on CUDA.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield
        torch.cuda.synchronize(device)
        found.append(torch.cuda.max_memory_allocated(device) - before)
        return
    before = highest = _resident()
    stop = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not stop.wait(0.005):
            highest = max(highest, _resident())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    found.append(highest - before)


def _resident() -> int:
    """Bytes of this process in memory; 0 where the system does not say it in Linux's way."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
    except OSError:
        return 0
