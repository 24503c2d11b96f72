"""Readers that do what readers must not, for the fuzzer to find."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from SaliencyExplain.errors import ErrorCode, InputError


def _raises(path: Path) -> None:
    raise KeyError(path)


def _grows(path: Path) -> None:
    np.ones(1 << 25)


def _talks(path: Path) -> None:
    raise InputError(ErrorCode.FILE_DAMAGED, f"{path}: one line\nand another")


#: By what they are found as.
PLANTED: dict[str, Callable[[Path], object]] = {
    "crash": lambda path: os.kill(os.getpid(), signal.SIGSEGV),
    "hang": lambda path: time.sleep(600),
    "raised": _raises,
    "memory": _grows,
    "message": _talks,
}
