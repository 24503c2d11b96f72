"""The jobs of one device, with work that does what the test tells it."""

from __future__ import annotations

import copy
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from SaliencyExplain.cost_estimate import Estimate
from SaliencyExplain.engine.interface import ENDED, JobStatus
from SaliencyExplain.engine.queue import job_queue
from SaliencyExplain.engine.queue.job import Job, new_name
from SaliencyExplain.engine.queue.job_queue import JobQueue, Reporter
from SaliencyExplain.engine.wire.request_base import Request, Result
from SaliencyExplain.engine.wire.requests import (
    ExplainRequest,
    PredictRequest,
    ProbeRequest,
)
from SaliencyExplain.errors import Cancelled, ErrorCode, InputError
from SaliencyExplain.results.image_explanation import Explanation
from SaliencyExplain.specification.spec import ExplainSpec
from Testing.waiting import until

ANSWER = Estimate(1.0, 1.0)


class Workshop:
    """Work that runs until it is let go, and remembers what ran when."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.threads: set[int] = set()
        self.gates: dict[str, threading.Event] = {}
        self.does: dict[str, Callable[[Reporter], None]] = {}
        self.forgotten: list[str] = []
        self.queue = JobQueue(
            self.work, lambda job: None, lambda job: self.forgotten.append(job.name)
        )

    def add(self, request: Request, does: Callable[[Reporter], None] | None = None) -> str:
        job = Job(request, new_name())
        self.gates[job.name] = threading.Event()
        if does is not None:
            self.does[job.name] = does
        self.queue.add(job)
        return job.name

    def work(self, job: Job, reporter: Reporter) -> Result:
        self.begun.append(job.name)
        self.threads.add(threading.get_ident())
        if job.name in self.does:
            self.does[job.name](reporter)
            return ANSWER
        ticks = 0
        while not self.gates[job.name].wait(0.002):
            ticks += 1
            reporter.progress(ticks, 1000)
        return ANSWER

    def go(self, *names: str) -> None:
        for name in names:
            self.gates[name].set()

    def until(self, name: str, wanted: Callable[[JobStatus], bool]) -> JobStatus:
        seen = [self.queue.status(name, -1, 0)]

        def look() -> None:
            seen[0] = self.queue.status(name, seen[0].version, 0.1)

        until(lambda: wanted(seen[0]), seen, meanwhile=look)
        return seen[0]

    def ended(self, name: str) -> JobStatus:
        return self.until(name, lambda status: status.state in ENDED)

    def runs(self, name: str) -> JobStatus:
        return self.until(name, lambda status: status.state == "running")


@pytest.fixture
def workshop() -> Iterator[Workshop]:
    made = Workshop()
    yield made
    made.queue.close()


def long(seed: int = 0) -> ExplainRequest:
    return ExplainRequest("c", "v", ExplainSpec(seed=seed))


def short() -> PredictRequest:
    return PredictRequest("c", "v")


def probe(stream: str) -> ProbeRequest:
    return ProbeRequest("c", "v", stream=stream)


def test_long_jobs_run_one_after_another_in_their_order(workshop: Workshop):
    names = [workshop.add(long()) for _ in range(4)]
    workshop.runs(names[0])
    assert [workshop.queue.status(name, -1, 0).place for name in names] == [0, 1, 2, 3]
    workshop.go(*names)
    for name in names:
        assert workshop.ended(name).state == "done"
    assert workshop.begun == names
    assert len(workshop.threads) == 1


def test_short_job_runs_in_a_pause_before_long_ones_that_wait(workshop: Workshop):
    host, waiting = workshop.add(long()), workshop.add(long())
    workshop.runs(host)
    click = workshop.add(short())
    workshop.runs(click)
    paused = workshop.queue.status(host, -1, 0)
    assert (paused.state, paused.doing) == ("running", "pauses for a predict")
    second = workshop.add(short())
    told = workshop.queue.status(second, -1, 0)
    assert (told.place, told.state) == (1, "waiting")
    assert workshop.queue.status(waiting, -1, 0).place == 2
    assert "pause" in told.doing
    workshop.go(click, second)
    assert workshop.ended(second).state == "done"
    assert workshop.queue.status(host, -1, 0).state == "running"
    assert "pauses" not in workshop.until(host, lambda s: "pauses" not in s.doing).doing
    workshop.go(host, waiting)
    workshop.ended(waiting)
    assert workshop.begun == [host, click, second, waiting]
    assert len(workshop.threads) == 1


def test_host_gets_a_turn_between_two_short_jobs(workshop: Workshop):
    turns: list[str] = []

    def host(reporter: Reporter) -> None:
        for step in range(4):
            turns.append("host")
            reporter.progress(step, 4)

    blocker = workshop.add(long())
    workshop.runs(blocker)
    workshop.add(long(), host)
    for _ in range(3):
        workshop.add(short(), lambda reporter: turns.append("short"))
    workshop.queue.cancel(blocker)
    for job in workshop.queue.statuses():
        workshop.ended(job.job)
    # The three ran in the blocker's last pause and before the host: short ones go first.
    assert turns.count("short") == 3
    clicks: list[str] = []

    def busy(reporter: Reporter) -> None:
        for _ in range(3):
            workshop.add(short(), lambda reporter: clicks.append("short"))
        for step in range(4):
            clicks.append("host")
            reporter.progress(step, 4)

    workshop.ended(workshop.add(long(), busy))
    assert clicks == ["host", "short", "host", "short", "host", "short", "host"]


def test_short_job_in_a_pause_has_no_pauses_itself(workshop: Workshop):
    host = workshop.add(long())
    workshop.runs(host)
    first, second = workshop.add(short()), workshop.add(short())
    workshop.runs(first)
    workshop.go(second)
    assert workshop.queue.status(second, -1, 0.05).state == "waiting"
    workshop.go(first)
    assert workshop.ended(second).state == "done"
    workshop.go(host)


def test_newer_probe_replaces_those_of_its_stream_alone(workshop: Workshop):
    host = workshop.add(long())
    workshop.runs(host)
    other = workshop.add(probe("b"))
    workshop.runs(other)
    plain = workshop.add(probe(""))
    first, second, third = (workshop.add(probe("a")) for _ in range(3))
    assert workshop.queue.status(first, -1, 0).state == "cancelled"
    assert workshop.queue.status(second, -1, 0).state == "cancelled"
    workshop.go(other, plain)
    workshop.runs(third)
    last = workshop.add(probe("a"))
    # The one that runs stops at its next progress.
    assert workshop.ended(third).state == "cancelled"
    workshop.go(last)
    assert [workshop.ended(name).state for name in (other, plain, last)] == ["done"] * 3
    assert workshop.queue.status(host, -1, 0).state == "running"
    workshop.go(host)


def test_cancelled_host_ends_after_the_pause(workshop: Workshop):
    host = workshop.add(long())
    workshop.runs(host)
    click = workshop.add(short())
    workshop.runs(click)
    workshop.queue.cancel(host)
    assert workshop.queue.status(host, -1, 0).doing == "stops"
    workshop.go(click)
    assert workshop.ended(click).state == "done"
    assert workshop.ended(host).state == "cancelled"


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (InputError(ErrorCode.IMAGE_VALUES, "wrong voxels"), "wrong voxels"),
        (ZeroDivisionError("by zero\nin C:/patients/Doe"), "ZeroDivisionError: by zero"),
        (AttributeError(), "AttributeError"),
        (AssertionError("x" * 5000), "AssertionError"),
        (RecursionError("deep"), "deep"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_whatever_a_job_raises_ends_that_job_alone(
    workshop: Workshop, raised: Exception, told: str
):
    def fail(reporter: Reporter) -> None:
        secret = "a patient's name"
        raise raised from ValueError(secret)

    job = workshop.add(long(), fail)
    status = workshop.ended(job)
    assert status.state == "failed"
    assert told in status.error
    assert "\n" not in status.error
    assert len(status.error) < 500
    assert Path(__file__).name in status.details
    assert "patient" not in status.details
    after = workshop.add(short())
    workshop.go(after)
    assert workshop.ended(after).state == "done"


@pytest.mark.parametrize(
    "raised", [InputError(ErrorCode.SELECTION, "no"), KeyError("no"), Cancelled("no")]
)
def test_failure_keeps_nothing_of_its_work_alive(workshop: Workshop, raised: Exception):
    class Image:
        pass

    images: list[weakref.ref[Image]] = []

    def fail(reporter: Reporter) -> None:
        image = Image()
        images.append(weakref.ref(image))
        # Without the frames of this test itself, which would keep it.
        raise copy.copy(raised)

    workshop.ended(workshop.add(long(), fail))
    assert images[0]() is None


def test_waiting_caller_hears_of_changes_at_once_and_of_progress_calmly(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
):
    seconds = [0.0]
    monkeypatch.setattr(job_queue, "time", SimpleNamespace(monotonic=lambda: seconds[0]))

    def report(reporter: Reporter) -> None:
        for done in range(5001):
            seconds[0] += 0.001
            reporter.progress(done, 5000)

    job = workshop.add(long(), report)
    versions = set()
    status = workshop.queue.status(job, -1, 0)
    while status.state not in ENDED:
        status = workshop.queue.status(job, status.version, 5)
        versions.add(status.version)
    # At most one in a tenth of the five seconds, and those of its beginning and end.
    assert len(versions) <= 55
    assert (status.done, status.total) == (5000, 5000)
    assert workshop.queue.status(job, status.version, 30) == status


def test_partial_results_are_counted_and_gone_with_a_cancel(workshop: Workshop):
    held = threading.Event()

    def publish(reporter: Reporter) -> None:
        for target in range(3):
            reporter.publish(Explanation((), (), target, "", (), (), {}))
        while not held.wait(0.002):
            reporter.progress(1, 2)

    job = workshop.add(long(), publish)
    assert workshop.until(job, lambda status: status.partial == 3).state == "running"
    partial = workshop.queue.job(job).partial
    assert partial is not None
    assert partial.target == 2
    workshop.queue.cancel(job)
    workshop.ended(job)
    assert workshop.queue.job(job).partial is None


def test_old_jobs_are_forgotten_but_long_ones_not_for_clicks(workshop: Workshop):
    kept = workshop.add(long())
    workshop.go(kept)
    workshop.ended(kept)
    for _ in range(200):
        name = workshop.add(short())
        workshop.go(name)
        workshop.ended(name)
    listed = [status.job for status in workshop.queue.statuses()]
    assert kept in listed
    assert len(listed) < 100
    assert len(listed) + len(workshop.forgotten) == 201
    with pytest.raises(InputError, match="no job"):
        workshop.queue.status(workshop.forgotten[0], -1, 0)


def test_same_name_is_one_job(workshop: Workshop):
    job = Job(long(), new_name())
    workshop.gates[job.name] = threading.Event()
    assert workshop.queue.add(job)
    assert not workshop.queue.add(Job(long(), job.name))
    workshop.go(job.name)
    workshop.ended(job.name)
    assert workshop.begun == [job.name]


def test_closing_cancels_everything_and_takes_nothing_more(workshop: Workshop):
    first, second = workshop.add(long()), workshop.add(long())
    workshop.runs(first)
    workshop.queue.close()
    assert {status.state for status in workshop.queue.statuses()} == {"cancelled"}
    assert isinstance(workshop.queue.job(second).failure, Cancelled)
    with pytest.raises(InputError, match="closing"):
        workshop.add(short())
