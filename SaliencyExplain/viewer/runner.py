"""Questions to the engine that never hold up the page: asked on other threads, awaited here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from SaliencyExplain.engine.interface import ENDED, Engine, JobStatus
from SaliencyExplain.engine.wire.request_base import Request
from SaliencyExplain.errors import EngineLostError, ErrorCode, SaliencyExplainError

_Result = TypeVar("_Result")

#: Seconds after which the page is told how far a job is, even where nothing has changed: so
#: that a reader sees that it lives.
_TICK_SECONDS = 0.2

_THREADS = 8


class JobError(SaliencyExplainError):
    """A job that failed.

    Attributes:
        details: What a developer would ask for.
    """

    def __init__(self, code: ErrorCode, line: str, details: str) -> None:
        super().__init__(code, line)
        self.details = details


class Runner:
    """Asks an engine; all its methods are awaited on the page's loop.

    Attributes:
        engine: Answers.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._threads = ThreadPoolExecutor(_THREADS, "viewer")

    async def call(self, function: Callable[..., _Result], *arguments: Any) -> _Result:
        """Runs a function on another thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: function(*arguments))

    async def job(
        self,
        begin: Callable[[Engine], Request],
        *,
        started: Callable[[str], None] | None = None,
        progress: Callable[[JobStatus], None] | None = None,
        partial: Callable[[Any], Any] | None = None,
    ) -> Any:
        """Starts a job and follows it to its end.

        Args:
            begin: Hands over volumes and makes the request, on another thread.
            started: Told the job's name.
            progress: Told how far it is, several times a second.
            partial: Awaited with each newer partial result.

        Returns:
            The job's result.

        Raises:
            SaliencyExplainError: Why it failed, in one line.
            Cancelled: It was stopped.
        """
        engine = self.engine
        name = await self.call(lambda: engine.start(begin(engine)))
        if started is not None:
            started(name)
        seen, shown = -1, 0
        while True:
            status = await self.call(
                lambda seen=seen: engine.status(name, seen=seen, wait=_TICK_SECONDS)
            )
            seen = status.version
            if status.state in ENDED:
                break
            if progress is not None:
                progress(status)
            if partial is not None and status.partial > shown:
                shown = status.partial
                newer = await self.call(engine.partial, name)
                if newer is not None:
                    await partial(newer)
        try:
            return await self.call(engine.result, name)
        except EngineLostError:
            raise
        except SaliencyExplainError as error:
            raise JobError(error.code, str(error), status.details) from error

    def close(self) -> None:
        """Takes no further questions."""
        self._threads.shutdown(wait=False, cancel_futures=True)
