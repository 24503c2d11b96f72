"""How a long computation tells how far it is, and how it is stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

#: Called as ``progress(done, total)`` after each batch, in forward passes of one
#: image. It may raise :class:`SaliencyExplain.errors.Cancelled`: computations call
#: it only where they can be left without a trace.
Progress = Callable[[float, float], None]


def part_of(progress: Progress, begin: float, end: float, total: float) -> Progress:
    """The progress of one part of a computation, which takes the whole from begin to end.

    Args:
        progress: Of the whole.
        begin: Where the part begins, in the units of ``total``.
        end: Where it ends.
        total: Of the whole.
    """

    def report(done: float, of: float) -> None:
        progress(begin + (end - begin) * done / of, total)

    return report


def silent(done: float, total: float) -> None:
    """A progress callback that tells nobody."""


#: Least seconds between two questions whether a computation should stop.
_ASKED_EVERY = 0.05


class _Asked:
    """Whom a computation asks whether it should stop, and when it did last."""

    def __init__(self, check: Callable[[], None]) -> None:
        self.check = check
        self.last = time.monotonic()


_asked: ContextVar[tuple[_Asked, ...]] = ContextVar("asked", default=())


@contextmanager
def stopped_by(check: Callable[[], None], *, alone: bool = False) -> Iterator[None]:
    """Lets loops that know of no progress callback be stopped; see :func:`may_stop`.

    Args:
        check: Raises, such as :class:`SaliencyExplain.errors.Cancelled`, where what runs inside
            should stop. It is called on the thread that runs.
        alone: What runs inside is a job of its own, which does not stop with the one in whose
            pause it runs.
    """
    token = _asked.set((*(() if alone else _asked.get()), _Asked(check)))
    try:
        yield
    finally:
        _asked.reset(token)


def may_stop() -> None:
    """Raises where the computation around should stop.

    For loops that take long and are part of no count of forward passes: dividing an image into
    regions, resampling for a confidence interval. To call it costs less than a microsecond for
    most calls.
    """
    for asked in _asked.get():
        now = time.monotonic()
        if now - asked.last >= _ASKED_EVERY:
            asked.last = now
            asked.check()
