"""Calls that must not hold up the main thread, and their answers back on it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

#: How long one round of deliveries lets other Python threads run while calls are outstanding.
#: In Slicer the main thread keeps Python's lock while it waits in Qt's event loop, so threads
#: move only while it gives the lock up of its own accord.
_BREATH_SECONDS = 0.002
_WORKERS = 8


class Call:
    """One call on its way.

    Attributes:
        cancelled: Its answer is not wanted any more; neither ``done`` nor ``failed`` is called.
        finished: It has been answered, or cancelled.
    """

    def __init__(
        self, done: Callable[[Any], None] | None, failed: Callable[[Exception], None] | None
    ) -> None:
        self._done = done
        self._failed = failed
        self.cancelled = False
        self.finished = False

    def cancel(self) -> None:
        """Drops the answer; the function itself runs to its end."""
        self.cancelled = True
        self.finished = True

    def _deliver(self, answer: Any, error: Exception | None) -> None:
        if self.cancelled:
            return
        self.finished = True
        if error is None:
            if self._done is not None:
                self._done(answer)
        elif self._failed is not None:
            self._failed(error)
        else:
            raise error


class BackgroundCalls:
    """Runs functions on other threads and hands their answers to the thread that asks.

    ``call`` and ``deliver`` belong to one thread, the main thread of Slicer, because what
    answers lead to changes the scene and widgets.

    Attributes:
        in_order: Held by a function on another thread for what must not overtake another's.
    """

    def __init__(self) -> None:
        self.in_order = threading.Lock()
        self._waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._outstanding = 0
        self._ticks: list[Callable[[], None]] = []

    @property
    def outstanding(self) -> int:
        """Calls whose answers have not been delivered yet."""
        return self._outstanding

    def call(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        done: Callable[[Any], None] | None = None,
        failed: Callable[[Exception], None] | None = None,
        **keywords: Any,
    ) -> Call:
        """Runs ``function(*arguments, **keywords)`` on another thread.

        Args:
            function: Must not touch the scene or widgets.
            *arguments: Its arguments.
            done: Called with what it returned, by :meth:`deliver`.
            failed: Called with what it raised, by :meth:`deliver`; without it, ``deliver``
                raises that.
            **keywords: Its keyword arguments.
        """
        call = Call(done, failed)
        self._outstanding += 1
        self._waiting.put((call, function, arguments, keywords))
        if len(self._threads) < min(_WORKERS, self._outstanding):
            # A daemon: Slicer must be able to quit while a server keeps a call waiting.
            thread = threading.Thread(target=self._work, daemon=True)
            self._threads.append(thread)
            thread.start()
        return call

    def on_tick(self, function: Callable[[], None]) -> None:
        """Calls ``function`` at the end of each :meth:`deliver`, for what only looks around."""
        self._ticks.append(function)

    def deliver(self) -> None:
        """Hands over the answers that are there; called by a timer of the main thread."""
        if self._outstanding:
            time.sleep(_BREATH_SECONDS)
        while True:
            try:
                call, answer, error = self._answers.get_nowait()
            except queue.Empty:
                break
            self._outstanding -= 1
            call._deliver(answer, error)
        for tick in self._ticks:
            tick()

    def close(self) -> None:
        """Ends the threads as soon as they are idle; answers on their way are dropped."""
        for _ in self._threads:
            self._waiting.put(None)
        self._threads = []

    def _work(self) -> None:
        while True:
            item = self._waiting.get()
            if item is None:
                return
            call, function, arguments, keywords = item
            try:
                answer, error = function(*arguments, **keywords), None
            except Exception as raised:  # noqa: BLE001 - raised again on the thread that asked
                answer, error = None, raised
            self._answers.put((call, answer, error))
