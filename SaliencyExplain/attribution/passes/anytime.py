"""Maps that are published while they are computed, and may be final at a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable

from torch import Tensor

from SaliencyExplain.attribution.passes.task import Task, unpublished

#: Least seconds from one published map to the next within a stage.
_INTERVAL = 1.0

#: Publishing may take one part in this many of the time: the receiver may have to resample a map
#: of a tenth of a second's work onto a grid of nine million voxels.
_PARTS = 40


class AnytimeMap:
    """Publishes a method's map from time to time, and decides when the method has to stop.

    When a map is published depends on the clock; what the method computes must not.

    Args:
        task: Its ``publish`` is called and its ``deadline`` is kept.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._last = time.perf_counter()
        self._pause = 0.0

    def is_enough(
        self, share: float, maps: Callable[[], dict[str, Tensor]], *, stage: bool = False
    ) -> bool:
        """Reports the progress of the map, and returns whether the method has to stop.

        Args:
            share: Share of the computation that is done, in (0, 1].
            maps: Gives the map as it is; called only where it is published.
            stage: A stage has ended: the map is clearly better than the last one.

        Returns:
            True if the deadline has passed before the map is finished: the method returns the map
            as it is. That map has been published.
        """
        now = time.perf_counter()
        over = share < 1 and now >= self._task.deadline
        pause = self._pause if stage else max(self._pause, _INTERVAL)
        due = over or share >= 1 or now - self._last >= pause
        if due and self._task.publish is not unpublished:
            self._task.publish(maps(), share)
            self._last = time.perf_counter()
            self._pause = _PARTS * (self._last - now)
        return over
