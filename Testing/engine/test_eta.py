"""The time that is left, by a clock that the test holds."""

from __future__ import annotations

import pytest

from SaliencyExplain.engine.queue.eta import Eta


def told(eta: Eta, done: float, now: float, total: float = 100.0) -> float | None:
    eta.tell(done, now)
    return eta.seconds_left(total, now)


def test_nothing_is_foretold_in_the_first_half_second():
    eta = Eta(10.0)
    assert eta.seconds_left(100, 11.0) is None
    for step in range(1, 6):
        assert told(eta, step, 10 + step * 0.09) is None
    assert told(eta, 6, 10.6) is not None


def test_steady_work_is_foretold_exactly():
    eta = Eta(0.0)
    for step in range(1, 51):
        left = told(eta, step, step * 0.2)
    assert left == pytest.approx(10.0, abs=0.01)
    # Between two words the time that passes is taken off, and never below nothing.
    assert eta.seconds_left(100, 11.0) == pytest.approx(9.0, abs=0.01)
    assert eta.seconds_left(100, 1000.0) == 0


def test_what_an_earlier_run_did_is_no_speed():
    eta = Eta(0.0)
    left = None
    for step in range(11):
        left = told(eta, 50 + step, step * 1.0)
    assert left == pytest.approx(40.0, abs=0.01)


def test_recent_speed_counts_more_and_one_slow_batch_little():
    eta = Eta(0.0)
    for step in range(1, 101):
        told(eta, step, step * 0.1, total=1000)
    hiccup = told(eta, 101, 10.6, total=1000)
    assert 89 < hiccup < 130
    now = 10.6
    for step in range(102, 152):
        now += 0.5
        left = told(eta, step, now, total=1000)
    assert left == pytest.approx((1000 - 151) * 0.5, rel=0.05)


def test_pause_for_another_job_is_left_out():
    eta = Eta(0.0)
    for step in range(1, 21):
        told(eta, step, step * 0.1)
    eta.pause(60.0)
    assert told(eta, 21, 62.1) == pytest.approx(7.9, abs=0.01)
