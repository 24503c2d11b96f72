"""How a long computation tells how far it is, and how it is stopped."""

from __future__ import annotations

from collections.abc import Callable

#: Called as ``progress(done, total)`` after each batch, in forward passes of one
#: image. It may raise :class:`SaliencyExplain.errors.Cancelled`: computations call
#: it only where they can be left without a trace.
Progress = Callable[[float, float], None]


def silent(done: float, total: float) -> None:
    """A progress callback that tells nobody."""
