"""Connections that keep a server waiting are closed, and many of them keep nobody out."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import pytest

from SaliencyExplain.engine.client.engine_process import EngineProcess
from SaliencyExplain.engine.server.slow_connections import (
    BODY_SECONDS,
    HEAD_SECONDS,
    SLOWEST_BODY,
    Patience,
    Wait,
)

pytestmark = pytest.mark.server


class Clock:
    """Seconds that pass when they are told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_half_a_request_is_waited_for_no_longer_than_its_time() -> None:
    clock = Clock()
    patience = Patience(10, clock)
    begun, kept = Wait("head", 0), Wait("idle", 1)
    assert patience.late({"begun": begun, "kept": kept}) == []
    clock.now = HEAD_SECONDS
    assert patience.late({"begun": begun, "kept": kept}) == []
    clock.now += 1
    assert patience.late({"begun": begun, "kept": kept}) == ["begun"]


def test_each_request_of_a_connection_has_its_own_time() -> None:
    clock = Clock()
    patience = Patience(10, clock)
    for number in range(10):
        assert patience.late({"client": Wait("head", number)}) == []
        clock.now += HEAD_SECONDS


def test_a_body_must_come_fast_enough_and_work_takes_its_time() -> None:
    clock = Clock()
    patience = Patience(10, clock)
    for second in range(4 * round(BODY_SECONDS)):
        clock.now = second
        late = patience.late(
            {
                "fast": Wait("body", 0, 1000 + second * SLOWEST_BODY),
                "drops": Wait("body", 1, 1000 + second),
                "work": Wait("work", 2),
            }
        )
        assert late == (["drops"] if second > BODY_SECONDS else [])


def test_of_too_many_the_ones_that_wait_longest_for_a_request_make_room() -> None:
    clock = Clock()
    patience = Patience(3, clock)
    waits = {"working": Wait("work", 0), "old": Wait("idle", 1)}
    assert patience.late(waits) == []
    clock.now = 1.0
    waits |= {"new": Wait("head", 2)}
    assert patience.late(waits) == []
    waits |= {"newer": Wait("body", 3), "newest": Wait("work", 4)}
    assert patience.late(waits) == ["old", "new"]


def test_hundreds_of_silent_connections_keep_nobody_out(server: EngineProcess) -> None:
    place = urlsplit(server.client.address)
    assert place.hostname is not None
    silent = []
    try:
        for _ in range(300):
            one = socket.create_connection((place.hostname, place.port or 0), timeout=30)
            one.sendall(b"GET /about HTTP/1.1\r\nHost:")
            silent.append(one)
        assert server.client.about().version
        silent[0].settimeout(30)
        # Closed, long before its time: it was the first one.
        assert silent[0].recv(1) == b""
    except ConnectionResetError:
        pass
    finally:
        for one in silent:
            one.close()
    assert server.client.about().version
