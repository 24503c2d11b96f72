"""Requests without an end are refused before they wait; a job that fails ends alone."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from SaliencyExplain.engine.interface import ENDED
from SaliencyExplain.engine.queue.job import Job
from SaliencyExplain.engine.queue.job_failures import unforeseen
from SaliencyExplain.engine.queue.job_queue import JobQueue
from SaliencyExplain.engine.wire.request_base import Request
from SaliencyExplain.engine.wire.request_limits import check_request
from SaliencyExplain.engine.wire.requests import (
    CompareRequest,
    EvaluationRequest,
    ExplainRequest,
    PredictRequest,
    ProbeRequest,
    StudyRequest,
)
from SaliencyExplain.engine.wire.serialisation import made, parse_json, to_json
from SaliencyExplain.errors import ErrorCode, InputError, SaliencyExplainError
from SaliencyExplain.progress import may_stop
from SaliencyExplain.specification.spec import ExplainSpec, Limits, MethodChoice, References
from Testing.waiting import until

SPEC = ExplainSpec((MethodChoice("lime"),))
EXPLAIN = ExplainRequest("c", "v", SPEC)
PROBE = ProbeRequest("c", "v", (0.0, 0.0, 0.0), (5.0,))
COMPARE = CompareRequest("v", {"a": "m"}, "x", "s", ("one",))
STUDY = StudyRequest("in", "c", SPEC, "out")
NUMBERS = (math.nan, math.inf, -math.inf, -1.0, -(10**400), 10**400, 10**5000)

ABSURD: list[tuple[Request, str]] = [
    *((replace(PROBE, radii_mm=(number,)), "radii_mm") for number in NUMBERS),
    (replace(PROBE, radii_mm=(1.0,) * 100_000), "radii_mm"),
    *((replace(COMPARE, resolutions_mm={"a": number}), "resolutions_mm") for number in NUMBERS),
    (replace(COMPARE, maps={str(n): "m" for n in range(100_000)}), "maps"),
    (replace(COMPARE, segment_names=("x" * 10**6,)), "segment_names"),
    (replace(COMPARE, seed=-1), "seed"),
    *((replace(STUDY, jobs=number), "jobs") for number in (0, -1, 10**9, 10**400, 2.5)),
    (replace(EXPLAIN, image_name="x" * 10**6), "image_name"),
    (replace(EXPLAIN, spec=replace(SPEC, methods=(MethodChoice("x" * 10**6),))), "name"),
    (
        replace(EXPLAIN, spec=replace(SPEC, methods=(MethodChoice("a", {"b": "x" * 10**6}),))),
        "parameters",
    ),
    (
        EvaluationRequest(
            replace(
                EXPLAIN, spec=replace(SPEC, references=References(segment_names=("x" * 10**6,)))
            )
        ),
        "segment_names",
    ),
]


@pytest.mark.parametrize(("request_", "field"), ABSURD)
def test_a_request_without_an_end_is_refused_by_the_name_of_its_field(request_, field) -> None:
    with pytest.raises(InputError) as error:
        check_request(request_)
    assert error.value.code in (
        ErrorCode.VALUE_RANGE,
        ErrorCode.VALUE_FORM,
        ErrorCode.ENGINE_LIMIT,
    )
    assert field in str(error.value)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    "request_",
    [
        EXPLAIN,
        replace(EXPLAIN, spec=replace(SPEC, limits=Limits(seconds=0.0), seed=2**63 - 1)),
        EvaluationRequest(EXPLAIN),
        PROBE,
        COMPARE,
        replace(STUDY, jobs=8, evaluate=True),
        PredictRequest("c", "v"),
    ],
)
def test_usual_requests_pass_as_they_were_made_and_as_a_server_reads_them(request_) -> None:
    check_request(request_)
    read = made(type(request_), parse_json(to_json(request_)))
    check_request(read)
    assert read == request_


@pytest.fixture
def job_queue():
    made: list[JobQueue] = []

    def make(work: Any) -> JobQueue:
        made.append(JobQueue(work, lambda job: None, lambda job: None))
        return made[-1]

    yield make
    for one in made:
        one.close()


def ended(queue: JobQueue, job: Job) -> Job:
    until(lambda: queue.status(job.name, job.version, 0.1).state in ENDED, "the job's end", pause=0)
    return job


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError(), ErrorCode.MEMORY),
        (np._core._exceptions._ArrayMemoryError((10**9,), np.dtype(float)), ErrorCode.MEMORY),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            ErrorCode.MEMORY,
        ),
        (RecursionError("maximum recursion depth"), ErrorCode.JOB_FAILED),
        (SystemExit(3), ErrorCode.JOB_FAILED),
        (KeyboardInterrupt(), ErrorCode.JOB_FAILED),
        (OverflowError("int too large"), ErrorCode.JOB_FAILED),
    ],
)
def test_a_job_that_fails_ends_alone(job_queue, error, code) -> None:
    def work(job: Job, _reporter: Any) -> Any:
        if job.name == "bad":
            raise error

    queue = job_queue(work)
    bad, good = Job(EXPLAIN, "bad"), Job(EXPLAIN, "good")
    queue.add(bad)
    queue.add(good)
    assert ended(queue, bad).state == "failed"
    assert isinstance(bad.failure, SaliencyExplainError)
    assert bad.failure.code is code
    assert "\n" not in str(bad.failure)
    assert ended(queue, good).state == "done"


def test_more_memory_than_there_is_is_one_clear_error() -> None:
    with pytest.raises((MemoryError, RuntimeError)) as caught:
        np.ones(2**62, dtype=np.uint8)
    assert unforeseen(caught.value).code is ErrorCode.MEMORY


def test_a_loop_without_progress_hears_of_a_cancel(job_queue) -> None:
    def work(_job: Job, _reporter: Any) -> Any:
        while True:
            may_stop()
            time.sleep(0.001)

    queue, job = None, Job(EXPLAIN, "endless")
    queue = job_queue(work)
    queue.add(job)
    queue.status(job.name, job.version, 1.0)
    queue.cancel(job.name)
    assert ended(queue, job).state == "cancelled"
