"""Each kind of request has one handler; a kind added in one file works in process and over HTTP."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from SaliencyExplain.engine.client.engine_process import EngineProcess
from SaliencyExplain.engine.interface import Engine
from SaliencyExplain.engine.queue.handlers.handler import Handler
from SaliencyExplain.engine.queue.handlers.handler_registry import find_handler
from SaliencyExplain.engine.wire import requests
from SaliencyExplain.engine.wire.request_base import KINDS, Request
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.voxel_volume import Volume
from Testing.engine.conftest import done, environment
from Testing.engine.voxel_count import CountRequest, CountResult

#: A server that knows the added kind, as a program with a plug-in of its own would start it.
WITH_COUNT = "import Testing.engine.voxel_count\nfrom SaliencyExplain.cli.main import main\nmain()"
VOLUME = Volume(np.arange(24, dtype=np.float32).reshape(2, 3, 4), np.eye(4))


@pytest.fixture(scope="module")
def counting_server() -> Iterator[EngineProcess]:
    process = EngineProcess.start([sys.executable, "-c", WITH_COUNT], environment=environment())
    yield process
    process.stop()


@pytest.fixture(params=["in this process", "over http"])
def counting(request: pytest.FixtureRequest) -> Engine:
    if request.param == "in this process":
        return request.getfixturevalue("local")
    return request.getfixturevalue("counting_server").client


def test_every_kind_that_is_shipped_has_one_handler() -> None:
    shipped = [kind for kind in KINDS.values() if kind.__module__ == requests.__name__]
    assert {"predict", "explain", "estimate", "probe", "compare", "study"} <= {
        kind.kind for kind in shipped
    }
    handlers = [find_handler(kind.__new__(kind)) for kind in shipped]
    assert len(set(handlers)) == len(shipped)
    assert all(issubclass(handler, Handler) for handler in handlers)


def test_an_added_kind_is_answered(counting: Engine) -> None:
    request = CountRequest(counting.put(VOLUME), above=5.0)
    assert done(counting, request) == CountResult((6, 12))
    (job,) = [one for one in counting.jobs() if one.kind == "count"][-1:]
    assert (job.state, job.done, job.total, job.partial) == ("done", 2, 2, 2)
    assert counting.partial(job.job) == CountResult((6, 12))


@pytest.mark.parametrize("above", [13.0, 1e6])
def test_limits_and_checks_of_an_added_kind_refuse_it_before_it_waits(
    counting: Engine, above: float
) -> None:
    before = len(counting.jobs())
    with pytest.raises(InputError) as error:
        counting.start(CountRequest(counting.put(VOLUME), above=above))
    assert error.value.code is ErrorCode.VALUE_RANGE
    assert "above" in str(error.value)
    assert len(counting.jobs()) == before


def test_an_engine_refuses_a_kind_that_it_does_not_know(engine: Engine) -> None:
    @dataclass(frozen=True)
    class WeighRequest(Request, kind="weigh", result=CountResult):
        volume: str

    try:
        with pytest.raises(InputError) as error:
            engine.start(WeighRequest(engine.put(VOLUME)))
    finally:
        del KINDS["weigh"]
    assert error.value.code is ErrorCode.ENGINE_REQUEST
    assert "weigh" in str(error.value)


def test_a_name_of_a_kind_is_given_once() -> None:
    with pytest.raises(ValueError, match="predict"):

        @dataclass(frozen=True)
        class OtherRequest(Request, kind="predict", result=CountResult):
            volume: str
