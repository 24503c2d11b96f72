"""Waiting for events in tests, so that no result depends on how busy the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable

#: Seconds after which a test is given up as hung. No test is about this time: what it waits for
#: comes at once on a machine at rest, and late where other work takes the processors.
HUNG = 900.0


def until(
    holds: Callable[[], object],
    what: object = "it",
    pause: float = 0.005,
    meanwhile: Callable[[], object] | None = None,
) -> None:
    """Waits until something holds.

    Args:
        holds: Asked again and again.
        what: What is waited for, for the message.
        pause: Seconds between two looks.
        meanwhile: Called between two looks in place of the pause, such as an event loop's turn.

    Raises:
        AssertionError: It has not come after :data:`HUNG` seconds.
    """
    end = time.monotonic() + HUNG
    while not holds():
        assert time.monotonic() < end, f"{what} has not happened within {HUNG:g} s"
        if meanwhile is None:
            time.sleep(pause)
        else:
            meanwhile()
