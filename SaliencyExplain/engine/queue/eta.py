"""The estimated time left of a job, smoothed."""

from __future__ import annotations

import math

#: Nothing is foretold sooner: the first batches warm up caches and threads.
_SILENT_SECONDS = 0.5
#: Time in which the estimate forgets half of what it saw.
_HALF_LIFE = 3.0


class Eta:
    """The time that a job will still take, from its speed, of late more than before."""

    def __init__(self, now: float) -> None:
        self._started = now
        self._seen = now
        self._done: float | None = None
        self._work = 0.0
        self._time = 0.0

    def tell(self, done: float, now: float) -> None:
        """Notes how much is done; other work in between is told by :meth:`pause`.

        What was done at the first word is no measure of speed: an earlier run of a study may
        have done it.
        """
        passed = now - self._seen
        if self._done is None:
            self._done, self._seen = done, now
            return
        if passed <= 0:
            return
        fade = 0.5 ** (passed / _HALF_LIFE)
        self._work = self._work * fade + max(0.0, done - self._done)
        self._time = self._time * fade + passed
        self._done, self._seen = done, now

    def pause(self, seconds: float) -> None:
        """Leaves out a time in which something else was done."""
        self._started += seconds
        self._seen += seconds

    def seconds_left(self, total: float, now: float) -> float | None:
        """Seconds until all is done; None while nothing can be said."""
        if self._done is None or self._work <= 0 or now - self._started < _SILENT_SECONDS:
            return None
        left = (total - self._done) * self._time / self._work
        # Since the last word, time has passed.
        left -= now - self._seen
        return max(0.0, left) if math.isfinite(left) else None
