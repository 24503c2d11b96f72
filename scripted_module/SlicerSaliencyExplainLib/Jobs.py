"""A job of the engine, followed from the main thread without ever waiting there."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from SaliencyExplain.engine.interface import (
    CANCELLED,
    DONE,
    FAILED,
    RUNNING,
    WAITING,
    Engine,
    JobStatus,
)
from SaliencyExplain.engine.wire.request_base import Request
from SaliencyExplain.errors import Cancelled, EngineLostError, SaliencyExplainError

from .BackgroundCalls import BackgroundCalls, Call
from .Failures import Failure

#: Seconds that a question for news may wait at the engine; a cancelled job ends that much later.
_PATIENCE_SECONDS = 0.5


def nothing(*_: Any) -> None:
    """A callback that does nothing."""


def as_it_is(engine: Engine, result: Any) -> Any:
    """Fetches nothing besides the result."""
    return result


class Job:
    """Starts a job, follows it, and hands its news to callbacks on the main thread.

    Attributes:
        status: The newest that is known of it; None before the engine has it.
        active: Whether an answer may still come.
        cancelling: Whether it was asked to stop.
    """

    def __init__(
        self,
        calls: BackgroundCalls,
        engine: Engine,
        begin: Callable[[Engine], Request] | str,
        *,
        fetch: Callable[[Engine, Any], Any] = as_it_is,
        progress: Callable[[JobStatus], None] = nothing,
        partial: Callable[[Any], None] | None = None,
        done: Callable[[Any], None] = nothing,
        failed: Callable[[Failure], None] = nothing,
        cancelled: Callable[[], None] = nothing,
    ) -> None:
        """Begins at once.

        Args:
            calls: Carries the questions to other threads.
            engine: Does the work.
            begin: Hands over volumes and returns the request, on another thread; or the
                name of a job that the engine has already.
            fetch: Turns a result (also a partial one) into what the callbacks get, on another
                thread; it may ask the engine for volumes.
            progress: Told each change of status.
            partial: Given what ``fetch`` made of each partial result; None: not asked for.
            done: Given what ``fetch`` made of the result.
            failed: Told why there will be none.
            cancelled: Told that it stopped before its end.
        """
        self.status: JobStatus | None = None
        self.active = True
        self.cancelling = False
        self._calls = calls
        self._engine = engine
        self._fetch = fetch
        self._on_progress, self._on_partial = progress, partial
        self._on_done, self._on_failed, self._on_cancelled = done, failed, cancelled
        self._partial_seen = 0
        self._partial_call: Call | None = None
        if isinstance(begin, str):
            self._ask(self._news, begin, -1)
        else:
            self._ask(self._begin, begin)

    def cancel(self) -> None:
        """Requests that the engine stops the job; ``cancelled`` is called when it has."""
        if self.active and not self.cancelling:
            self.cancelling = True
            if self.status is not None:
                # What goes wrong here shows itself in the next status.
                self._calls.call(self._engine.cancel, self.status.job, failed=nothing)

    def drop(self) -> None:
        """Stops it and calls nothing any more: what it would change is not there any more."""
        self.cancel()
        self._on_progress, self._on_partial, self._on_done = nothing, None, nothing
        self._on_failed, self._on_cancelled = nothing, nothing

    def leave(self) -> None:
        """Lets it run on in the engine and follows it no more."""
        self.active = False

    def wait(self, timeout: float = 60.0, idle: Callable[[], None] = nothing) -> None:
        """Delivers answers until it has ended, for scripts and tests.

        Args:
            timeout: Seconds.
            idle: Called in between, such as ``slicer.app.processEvents``.

        Raises:
            TimeoutError: It has not ended by then.
        """
        end = time.monotonic() + timeout
        while self.active:
            if time.monotonic() > end:
                raise TimeoutError(f"The job has not ended within {timeout:g} s.")
            idle()
            self._calls.deliver()

    def _ask(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._calls.call(function, *arguments, done=self._told, failed=self._fail)

    def _begin(self, begin: Callable[[Engine], Request]) -> tuple[JobStatus, Any]:
        request = begin(self._engine)
        # One that is given up must not reach the engine after the one in its place: of two
        # clicks the engine answers the one that came last.
        with self._calls.in_order:
            if self.cancelling:
                return JobStatus("", request.kind, CANCELLED), None
            job = self._engine.start(request)
        return self._news(job, -1)

    def _news(self, job: str, seen: int) -> tuple[JobStatus, Any]:
        """The next status, and the result where it has come; a quick job needs one call."""
        status = self._engine.status(job, seen=seen, wait=_PATIENCE_SECONDS if seen >= 0 else 0.05)
        if status.state == DONE:
            return status, self._fetch(self._engine, self._engine.result(job))
        if status.state == FAILED:
            try:
                self._engine.result(job)
            except EngineLostError:
                raise
            except SaliencyExplainError as error:
                return status, Failure.of(error, status.details)
            except Cancelled:
                pass
        return status, None

    def _told(self, news: tuple[JobStatus, Any]) -> None:
        if not self.active:
            return
        first = self.status is None
        self.status, value = news
        if self.status.state in (WAITING, RUNNING):
            if first and self.cancelling:
                self._calls.call(self._engine.cancel, self.status.job, failed=nothing)
            self._on_progress(self.status)
            self._look_for_partial()
            self._ask(self._news, self.status.job, self.status.version)
            return
        self._end()
        if self.status.state == CANCELLED:
            self._on_cancelled()
        elif self.status.state == DONE:
            self._on_done(value)
        else:
            self._on_failed(value or Failure(self.status.error, self.status.details))

    def _look_for_partial(self) -> None:
        waiting = self._partial_call is not None and not self._partial_call.finished
        if self._on_partial is None or waiting or self.status.partial <= self._partial_seen:
            return
        self._partial_seen = self.status.partial
        # A missing one is not an error: a finer one or the result follows.
        self._partial_call = self._calls.call(
            self._partial_news, self.status.job, done=self._on_partial_news, failed=nothing
        )

    def _partial_news(self, job: str) -> Any:
        result = self._engine.partial(job)
        return None if result is None else self._fetch(self._engine, result)

    def _on_partial_news(self, value: Any) -> None:
        wanted = self.active and not self.cancelling and self._on_partial is not None
        if wanted and value is not None:
            self._on_partial(value)

    def _fail(self, error: Exception) -> None:
        if self.active:
            self._end()
            self._on_failed(Failure.of(error))

    def _end(self) -> None:
        self.active = False
        if self._partial_call is not None:
            self._partial_call.cancel()
