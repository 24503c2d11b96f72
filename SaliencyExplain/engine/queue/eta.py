"""The estimated time left of a job, smoothed."""

from __future__ import annotations

import math

#: No estimate before this time: the first batches warm up caches and threads.
_SILENT_SECONDS = 0.5
#: Half-life of the measured speeds in the estimate.
_HALF_LIFE = 3.0


class Eta:
    """The remaining time of a job from its speed, with more weight on recent values."""

    def __init__(self, now: float) -> None:
        self._started = now
        self._seen = now
        self._done: float | None = None
        self._work = 0.0
        self._time = 0.0

    def tell(self, done: float, now: float) -> None:
        """Records the progress; other work in between is excluded by :meth:`pause`.

        The progress at the first call does not count for the speed: it may be of an earlier run
        of a study.
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
        """Excludes a time in which other work was done."""
        self._started += seconds
        self._seen += seconds

    def seconds_left(self, total: float, now: float) -> float | None:
        """Seconds until the end; None while unknown."""
        if self._done is None or self._work <= 0 or now - self._started < _SILENT_SECONDS:
            return None
        left = (total - self._done) * self._time / self._work
        # Time has passed since the last call.
        left -= now - self._seen
        return max(0.0, left) if math.isfinite(left) else None
