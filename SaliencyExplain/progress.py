"""How a long computation tells how far it is, and how it is stopped."""

from __future__ import annotations

from collections.abc import Callable

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
