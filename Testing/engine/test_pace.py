"""The time that is left, by a clock that the test holds."""

from __future__ import annotations

import pytest

from SaliencyExplain.engine.queue.eta import Pace


def told(pace: Pace, done: float, now: float, total: float = 100.0) -> float | None:
    pace.tell(done, now)
    return pace.seconds_left(total, now)


def test_nothing_is_foretold_in_the_first_half_second():
    pace = Pace(10.0)
    assert pace.seconds_left(100, 11.0) is None
    for step in range(1, 6):
        assert told(pace, step, 10 + step * 0.09) is None
    assert told(pace, 6, 10.6) is not None


def test_steady_work_is_foretold_exactly():
    pace = Pace(0.0)
    for step in range(1, 51):
        left = told(pace, step, step * 0.2)
    assert left == pytest.approx(10.0, abs=0.01)
    # Between two words the time that passes is taken off, and never below nothing.
    assert pace.seconds_left(100, 11.0) == pytest.approx(9.0, abs=0.01)
    assert pace.seconds_left(100, 1000.0) == 0


def test_what_an_earlier_run_did_is_no_speed():
    pace = Pace(0.0)
    left = None
    for step in range(11):
        left = told(pace, 50 + step, step * 1.0)
    assert left == pytest.approx(40.0, abs=0.01)


def test_recent_speed_counts_more_and_one_slow_batch_little():
    pace = Pace(0.0)
    for step in range(1, 101):
        told(pace, step, step * 0.1, total=1000)
    hiccup = told(pace, 101, 10.6, total=1000)
    assert 89 < hiccup < 130
    now = 10.6
    for step in range(102, 152):
        now += 0.5
        left = told(pace, step, now, total=1000)
    assert left == pytest.approx((1000 - 151) * 0.5, rel=0.05)


def test_pause_for_another_job_is_left_out():
    pace = Pace(0.0)
    for step in range(1, 21):
        told(pace, step, step * 0.1)
    pace.pause(60.0)
    assert told(pace, 21, 62.1) == pytest.approx(7.9, abs=0.01)
