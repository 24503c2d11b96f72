"""Worker processes for a study: each loads the classifier once and takes cases from a pipe."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

import torch

from SaliencyExplain.errors import ErrorCode, SaliencyExplainError
from SaliencyExplain.records.case_entry import CaseEntry, StageFailure
from SaliencyExplain.studies.case_reading import EVALUATION_STAGE, PendingCase
from SaliencyExplain.studies.case_work import CaseWorker
from SaliencyExplain.studies.study_config import StudyConfig

#: A case that is computed and one that is read ahead.
_AHEAD = 2
#: What a process that has nothing more to do may take to end.
_POLITE_SECONDS = 3.0


class _Process:
    """A worker process with its end of the pipe and the cases that it holds."""

    def __init__(self, config: StudyConfig) -> None:
        # Spawn: a forked process would share torch's threads and CUDA's context.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(
            target=_serve, args=(theirs, config), name="study worker", daemon=True
        )
        self.process.start()
        theirs.close()
        self.cases: deque[PendingCase] = deque()

    def send(self, pending_case: PendingCase) -> None:
        self.cases.append(pending_case)
        self.connection.send(pending_case)

    def dismiss(self) -> None:
        """Has the process end by itself, which returns what its libraries took of the system."""
        with contextlib.suppress(OSError):
            self.connection.send(None)
            self.process.join(timeout=_POLITE_SECONDS)

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def run_in_processes(
    config: StudyConfig,
    cases: Sequence[PendingCase],
    jobs: int,
    tick: Callable[[], None],
) -> Iterator[CaseEntry]:
    """Works on the cases in several processes.

    A process that dies (out of memory, a crash in a library) costs the case that it
    was computing, which is recorded as failed; another process takes its place.

    Args:
        config: What all cases have in common.
        cases: The cases.
        jobs: Number of processes.
        tick: Called at least twice a second; may raise Cancelled.

    Yields:
        The journal's entry of each case, in the order in which they are done.

    Raises:
        OutputError: A result cannot be written; the processes are stopped.
    """
    waiting = deque(cases)
    processes = [_Process(config) for _ in range(min(jobs, len(cases)))]
    try:
        while waiting or any(process.cases for process in processes):
            for process in processes:
                _fill(process, waiting)
            ready = wait([process.connection for process in processes], timeout=0.5)
            tick()
            for place, process in enumerate(processes):
                if process.connection not in ready:
                    continue
                try:
                    kind, content = process.connection.recv()
                except (EOFError, ConnectionError):
                    lost = process.cases.popleft() if process.cases else None
                    waiting.extendleft(reversed(process.cases))
                    process.process.join(timeout=5)
                    status = process.process.exitcode
                    process.stop()
                    processes[place] = _Process(config)
                    if lost is not None:
                        yield _lost(lost, status)
                    continue
                if kind == "error":
                    raise content
                process.cases.popleft()
                yield content
        for process in processes:
            process.dismiss()
    finally:
        for process in processes:
            process.stop()


def _fill(process: _Process, waiting: deque[PendingCase]) -> None:
    try:
        while waiting and len(process.cases) < _AHEAD:
            process.send(waiting.popleft())
    except ConnectionError:
        # It has died; receiving from it says so, and takes its cases back.
        return


def _lost(pending_case: PendingCase, status: int | None) -> CaseEntry:
    how = f"signal {-status}" if status is not None and status < 0 else f"exit status {status}"
    reason = f"the worker process died ({how}); most often the machine's memory was exhausted"
    # The maps of a case that has some stay; what was being made beside them is tried again.
    stage = "explaining" if pending_case.entry is None or pending_case.methods else EVALUATION_STAGE
    entry = pending_case.entry or CaseEntry(pending_case.case.case, "", pending_case.case.label)
    return entry.failing(StageFailure(stage, ErrorCode.JOB_FAILED.value, reason))


def _serve(connection: Connection, config: StudyConfig) -> None:
    # Ctrl-C, a closed terminal and the end of a session reach all processes; the main one ends
    # the others.
    for name in ("SIGINT", "SIGHUP", "SIGTERM"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="parent watch", daemon=True).start()
    # As in the main process: warnings of libraries quote headers that name patients.
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    # tqdm, with which torch counts, shares a lock among processes by default: a semaphore, of
    # which Python warns where the process is killed. No bar is drawn here.
    with contextlib.suppress(ImportError):
        importlib.import_module("tqdm").tqdm.set_lock(threading.RLock())
    try:
        torch.set_num_threads(config.threads)
        for entry in CaseWorker(config).run(_received(connection)):
            connection.send(("entry", entry))
    except SaliencyExplainError as error:
        _tell(connection, error)
    except BaseException as error:  # noqa: BLE001 - the main process is to say what ended it
        # As text: not every error can be sent to another process.
        said = " ".join(str(error).split())
        code = ErrorCode.MEMORY if isinstance(error, MemoryError) else ErrorCode.JOB_FAILED
        line = f"A worker process failed ({type(error).__name__}: {said})."
        _tell(connection, SaliencyExplainError(code, line))


def _tell(connection: Connection, error: SaliencyExplainError) -> None:
    # If the main process has ended, the message has no receiver.
    with contextlib.suppress(OSError):
        connection.send(("error", error))


def _end_with_parent() -> None:
    # A killed main process must not leave workers that go on writing results.
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _received(connection: Connection) -> Iterator[PendingCase]:
    while (pending_case := connection.recv()) is not None:
        yield pending_case
