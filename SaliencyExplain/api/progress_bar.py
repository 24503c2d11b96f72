"""A progress bar in a notebook or terminal, where tqdm is installed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from SaliencyExplain.progress import Progress, silent

#: True: a bar; False: none; None: a bar in a terminal or notebook; or a function of done and total.
ProgressLike: TypeAlias = bool | Progress | None


@contextmanager
def shown(given: ProgressLike, title: str) -> Iterator[Progress]:
    """Yields the progress callback that the user chose.

    Args:
        given: See :data:`ProgressLike`.
        title: Stands before the bar.
    """
    if callable(given):
        yield given
        return
    make = _tqdm() if given or (given is None and _is_watched()) else None
    if make is None:
        yield silent
        return
    with make(total=1.0, desc=title, leave=False, bar_format="{l_bar}{bar}| {elapsed}") as bar:

        def report(done: float, total: float) -> None:
            bar.update(min(done / max(total, 1e-9), 1.0) - bar.n)

        yield report


def _tqdm() -> Callable[..., Any] | None:
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return None
    bar: Callable[..., Any] = tqdm
    return bar


def _is_watched() -> bool:
    """Whether this is a notebook or a terminal."""
    return "ipykernel" in sys.modules or (sys.stderr is not None and sys.stderr.isatty())
