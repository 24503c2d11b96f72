"""Answers come back on the thread that asked, and only there."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from SlicerSaliencyExplainLib.BackgroundCalls import BackgroundCalls

from Testing.waiting import HUNG, until


def _deliver(calls: Any) -> None:
    until(lambda: calls.deliver() or not calls.outstanding, "the answers", pause=0)


def test_runs_elsewhere_and_answers_here() -> None:
    calls = BackgroundCalls()
    seen: list[Any] = []
    calls.call(
        lambda factor: (factor * 2, threading.get_ident()),
        21,
        done=lambda answer: seen.append((*answer, threading.get_ident())),
    )
    assert not seen
    _deliver(calls)
    ((product, there, here),) = seen
    assert product == 42
    assert here == threading.get_ident() != there
    calls.close()


def test_a_failure_is_told_or_raised_where_answers_are_delivered() -> None:
    calls = BackgroundCalls()
    told: list[Exception] = []
    calls.call(lambda: 1 / 0, failed=told.append)
    _deliver(calls)
    assert isinstance(told[0], ZeroDivisionError)
    calls.call(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        _deliver(calls)
    calls.close()


def test_a_cancelled_call_is_not_answered() -> None:
    calls = BackgroundCalls()
    seen: list[Any] = []
    gate = threading.Event()
    call = calls.call(gate.wait, HUNG, done=seen.append)
    call.cancel()
    gate.set()
    _deliver(calls)
    assert seen == []
    assert call.finished
    calls.close()


def test_a_slow_call_does_not_hold_up_quick_ones() -> None:
    calls = BackgroundCalls()
    seen: list[int] = []
    gate = threading.Event()
    calls.call(gate.wait, HUNG, done=lambda _: seen.append(-1))
    for number in range(20):
        calls.call(int, number, done=seen.append)
    until(lambda: calls.deliver() or len(seen) >= 20, "the quick answers", pause=0)
    assert sorted(seen) == list(range(20))
    gate.set()
    _deliver(calls)
    calls.close()


def test_asks_in_the_pauses_of_a_thread_that_keeps_the_lock() -> None:
    """In Slicer the main thread gives up Python's lock only inside ``deliver``."""
    import sys

    calls = BackgroundCalls()
    seen: list[int] = []
    before = sys.getswitchinterval()
    # Nothing but a sleep makes the main thread give up the lock.
    sys.setswitchinterval(1000)
    try:
        calls.call(lambda: 7, done=seen.append)
        # Without a pause of its own: the lock is given up inside of deliver or not at all.
        until(lambda: seen, meanwhile=calls.deliver)
    finally:
        sys.setswitchinterval(before)
    assert seen == [7]
    calls.close()
