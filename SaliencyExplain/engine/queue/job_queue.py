"""The jobs of one device: one runs at a time, the others wait with a place in the queue.

Short jobs (a probe, a prediction, an estimate) go before long ones. While a long job runs, short
ones run in its pauses: each time it reports its progress, one short job runs on the same thread
before it continues. A click is thus answered within one batch of an explanation, and only one job
computes at a time. No job is cancelled for another, except a probe for the next one of its stream.
"""

from __future__ import annotations

import copy
import threading
import time
from collections import deque
from collections.abc import Callable

from SaliencyExplain.engine.interface import (
    CANCELLED,
    DONE,
    ENDED,
    FAILED,
    RUNNING,
    WAITING,
    JobStatus,
)
from SaliencyExplain.engine.queue.eta import Eta
from SaliencyExplain.engine.queue.job import Job
from SaliencyExplain.engine.queue.job_failures import frames, unforeseen
from SaliencyExplain.engine.wire.request_base import Result
from SaliencyExplain.errors import Cancelled, ErrorCode, InputError, SaliencyExplainError
from SaliencyExplain.progress import stopped_by

#: Ended jobs that stay listed, of each length.
_KEPT_SHORT, _KEPT_LONG = 64, 32
#: A waiting caller hears of progress at most this often, in seconds.
_TELL_EVERY = 0.1
_IDLE_CHECK = 3600.0


class Reporter:
    """Reports the progress of a running job to the queue, and stops a cancelled job."""

    def __init__(self, queue: JobQueue, job: Job) -> None:
        self._queue = queue
        self.job = job

    def progress(self, done: float, total: float) -> None:
        """Reports the progress, and runs one short job in between.

        Raises:
            Cancelled: The job should stop.
        """
        self._queue._tell(self.job, done, total)
        self._queue._pause(self.job)
        self.check()

    def check(self) -> None:
        """Raises Cancelled where the job should stop."""
        if self.job.stopping:
            raise Cancelled("The job was cancelled.")

    def doing(self, words: str) -> None:
        """Reports the current step."""
        self._queue._say(self.job, words)

    def publish(self, result: Result) -> None:
        """Shows a partial result."""
        self._queue._publish(self.job, result)


Work = Callable[[Job, Reporter], Result]


class JobQueue:
    """Jobs that wait, run and ended, and the one thread that works on them."""

    def __init__(self, work: Work, ended: Callable[[Job], None], forgotten: Callable[[Job], None]):
        """Starts the thread.

        Args:
            work: Runs a job; an exception ends only that job.
            ended: Called with each ended job, before its end is visible to others.
            forgotten: Called with each job that is no longer listed.
        """
        self._work = work
        self._ended = ended
        self._forgotten = forgotten
        self._changed = threading.Condition()
        self._jobs: dict[str, Job] = {}
        self._short: deque[Job] = deque()
        self._long: deque[Job] = deque()
        self._running: list[Job] = []
        self._closed = False
        self._listeners: list[Callable[[], None]] = []
        self._thread = threading.Thread(target=self._serve, name="engine jobs", daemon=True)
        self._thread.start()

    def add(self, job: Job) -> bool:
        """Puts a job in the queue; a probe replaces those of its stream.

        Returns:
            Whether it was put in; False: the same request is listed under its name.

        Raises:
            InputError: Another request is listed under its name, or the engine is closing.
        """
        with self._changed:
            if self._closed:
                raise InputError(
                    ErrorCode.ENGINE_ACCESS, "The engine is closing and does not accept jobs."
                )
            if job.name in self._jobs:
                if self._jobs[job.name].request != job.request:
                    raise InputError(
                        ErrorCode.ENGINE_REQUEST,
                        f"The name {job.name[:64]} is that of a job with another request. Give "
                        "this job another name.",
                    )
                return False
            if job.stream:
                for other in [*self._short, *self._running]:
                    if other.stream == job.stream:
                        self._stop(other)
            self._jobs[job.name] = job
            (self._short if job.short else self._long).append(job)
            self._moved()
            return True

    def cancel(self, name: str) -> None:
        """Removes a waiting job from the queue, and stops a running one."""
        with self._changed:
            self._stop(self._job(name))
            self._moved()

    def status(self, name: str, seen: int, wait: float) -> JobStatus:
        """The progress of a job; waits for a change where there is none."""
        until = time.monotonic() + wait
        with self._changed:
            job = self._job(name)
            while job.version <= seen and job.state not in ENDED:
                left = until - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            return self._status(job)

    def statuses(self) -> list[JobStatus]:
        """Of all listed jobs, the oldest first."""
        with self._changed:
            return [self._status(job) for job in self._jobs.values()]

    def busy(self) -> int:
        """How many jobs wait or run."""
        with self._changed:
            return len(self._running) + len(self._short) + len(self._long)

    def job(self, name: str) -> Job:
        """The job of that name.

        Raises:
            InputError: It does not exist, or is no longer listed.
        """
        with self._changed:
            return self._job(name)

    def listen(self, listener: Callable[[], None]) -> None:
        """Calls the listener after each change, on the thread that made the change."""
        with self._changed:
            self._listeners.append(listener)

    def forget_oldest(self) -> bool:
        """Drops the ended job with volumes that ended first, but never the only one.

        Returns:
            Whether there was one.
        """
        with self._changed:
            held = [job for job in self._ended_jobs() if job.holds]
            if len(held) > 1:
                self._forget(held[0])
            return len(held) > 1

    def close(self) -> None:
        """Cancels everything and waits for the running job to stop."""
        with self._changed:
            self._closed = True
            for job in [*self._short, *self._long, *self._running]:
                self._stop(job)
            self._moved()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=30)

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not self._closed and not (self._short or self._long):
                    self._changed.wait(_IDLE_CHECK)
                if self._closed:
                    return
                job = (self._short or self._long).popleft()
                self._begin(job)
            self._do(job)

    def _pause(self, host: Job) -> None:
        """Works on one short job in a pause of a long one."""
        if host.short or not self._short:
            return
        with self._changed:
            if not self._short:
                return
            job = self._short.popleft()
            doing, host.doing = host.doing, f"pauses for a {job.kind}"
            host.version += 1
            self._begin(job)
        started = time.monotonic()
        self._do(job)
        with self._changed:
            host.doing = "stops" if host.stopping else doing
            host.eta.pause(time.monotonic() - started)
            host.version += 1
            self._notify()

    def _begin(self, job: Job) -> None:
        job.state = RUNNING
        job.doing = "starts"
        job.eta = Eta(time.monotonic())
        self._running.append(job)
        self._moved()

    def _do(self, job: Job) -> None:
        reporter = Reporter(self, job)
        state: str = DONE
        result: Result | None = None
        failure: Exception | None = None
        try:
            reporter.check()
            # Loops without progress reports are stopped as well.
            with stopped_by(reporter.check, alone=True):
                result = self._work(job, reporter)
        except Cancelled as error:
            state, failure = CANCELLED, error
        except SaliencyExplainError as error:
            state, failure = FAILED, error
        except BaseException as error:  # noqa: BLE001  the engine survives any exception of a job,
            # also a network's own sys.exit().
            state, failure = FAILED, unforeseen(error)
        details = frames(failure) if state == FAILED else ""
        if failure is not None:
            # Without the frames, whose variables hold whole images.
            failure = copy.copy(failure)
        with self._changed:
            job.result, job.failure, job.details = result, failure, details
            self._running.remove(job)
            self._end(job, state)
            self._moved()

    def _end(self, job: Job, state: str) -> None:
        job.state = state
        job.doing = ""
        job.seconds_left = None
        job.version += 1
        job.partial = None if state != DONE else job.partial
        job.ended_at = time.monotonic()
        self._ended(job)
        for length, kept in ((True, _KEPT_SHORT), (False, _KEPT_LONG)):
            for old in [other for other in self._ended_jobs() if other.short == length][:-kept]:
                self._forget(old)

    def _ended_jobs(self) -> list[Job]:
        """The ended jobs, in the order of their ends."""
        over = [job for job in self._jobs.values() if job.state in ENDED]
        return sorted(over, key=lambda job: job.ended_at)

    def _forget(self, job: Job) -> None:
        del self._jobs[job.name]
        self._forgotten(job)

    def _stop(self, job: Job) -> None:
        if job.state == WAITING:
            (self._short if job.short else self._long).remove(job)
            job.failure = Cancelled("The job was cancelled before it began.")
            self._end(job, CANCELLED)
        elif job.state == RUNNING and not job.stopping:
            job.stopping = True
            job.doing = "stops"
            job.version += 1

    def _tell(self, job: Job, done: float, total: float) -> None:
        now = time.monotonic()
        with self._changed:
            job.eta.tell(done, now)
            job.done, job.total = done, total
            job.seconds_left = job.eta.seconds_left(total, now)
            if now - job.told >= _TELL_EVERY or done >= total:
                job.told = now
                job.version += 1
                self._notify()

    def _say(self, job: Job, words: str) -> None:
        with self._changed:
            if not job.stopping and words != job.doing:
                job.doing = words
                job.version += 1
                self._notify()

    def _publish(self, job: Job, result: Result) -> None:
        with self._changed:
            job.partial = result
            job.partial_count += 1
            job.version += 1
            self._notify()

    def _moved(self) -> None:
        for job in (*self._short, *self._long):
            job.version += 1
        self._notify()

    def _notify(self) -> None:
        self._changed.notify_all()
        for listener in self._listeners:
            listener()

    def _job(self, name: str) -> Job:
        if name not in self._jobs:
            raise InputError(
                ErrorCode.ENGINE_UNKNOWN,
                f"The engine has no job '{name[:64]}', or no longer lists it. Send the request "
                "again.",
            )
        return self._jobs[name]

    def _status(self, job: Job) -> JobStatus:
        place = 0
        doing = job.doing
        if job.state == WAITING:
            place = [*self._short, *self._long].index(job) + 1
            doing = self._waits_for(job, place)
        return JobStatus(
            job=job.name,
            kind=job.kind,
            state=job.state,
            place=place,
            done=job.done,
            total=job.total,
            seconds_left=job.seconds_left,
            doing=doing,
            partial=job.partial_count,
            version=job.version,
            error=str(job.failure) if job.state == FAILED else "",
            details=job.details,
        )

    def _waits_for(self, job: Job, place: int) -> str:
        before = f", {place - 1} before it in the queue" if place > 1 else ""
        if not self._running:
            return f"waits{before}"
        host = self._running[0]
        if job.short and not host.short:
            return f"waits for a pause of the running {host.kind}{before}"
        return f"waits for the running {host.kind}{before}"
