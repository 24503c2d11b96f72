"""What all sections of the panel have: a place in the page's state, and work with an end."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, ClassVar

from SaliencyExplain.engine.interface import RUNNING, JobStatus
from SaliencyExplain.errors import Cancelled, SaliencyExplainError
from SaliencyExplain.quantities import time_text
from SaliencyExplain.viewer.page_words import words_of

if TYPE_CHECKING:
    from SaliencyExplain.viewer.viewer import Viewer


class Part(ABC):
    """A section of the panel: what it shows, and what its controls do.

    Its names in the page's state begin with ``prefix``. All of it runs on the page's loop.

    Attributes:
        prefix: Of its names.
        viewer: What it is a part of.
        busy: Whether it works on something.
    """

    prefix: ClassVar[str]

    def __init__(self, viewer: Viewer, **beginning: Any) -> None:
        """Puts what it shows at first into the page's state."""
        self.viewer = viewer
        self.busy = False
        self._job = ""
        self._began = 0.0
        self._task: asyncio.Task[None] | None = None
        common = {
            "busy": False,
            "error": "",
            "details": "",
            "notes": [],
            "doing": "",
            "share": 0,
            "known": False,
            "stopping": False,
        }
        viewer.state.update(
            {self.name(key): value for key, value in {**common, **beginning}.items()}
        )

    @abstractmethod
    def build(self) -> None:
        """Puts the section into the page, where this is called."""

    def name(self, key: str) -> str:
        """The name in the page's state."""
        return f"{self.prefix}_{key}"

    def get(self, key: str) -> Any:
        """What the page's state says."""
        return self.viewer.state[self.name(key)]

    def put(self, **values: Any) -> None:
        """Shows something."""
        with self.viewer.state as state:
            state.update({self.name(key): value for key, value in values.items()})

    def on_change(self, key: str, called: Callable[[Any], None]) -> None:
        """Calls a function with the value when the user has changed it."""

        def call() -> None:
            try:
                called(self.get(key))
            except SaliencyExplainError as error:
                self.fail(error)

        def changed(**_: Any) -> None:
            # The framework drops what is raised here; the loop hands it to the viewer.
            asyncio.get_running_loop().call_soon(call)

        self.viewer.state.change(self.name(key))(changed)

    def guarded(self, function: Callable[[], None]) -> None:
        """Runs a function whose errors the section shows."""
        self.put(error="", details="")
        try:
            function()
        except SaliencyExplainError as error:
            self.fail(error)

    def work(self, coroutine: Coroutine[Any, Any, None], doing: str) -> None:
        """Runs something long; what ran before in this section is dropped."""
        self.drop()
        self.busy, self._began = True, time.monotonic()
        self.put(busy=True, error="", details="", notes=[], doing=doing, share=0, known=False,
                 stopping=False)  # fmt: skip
        self._task = asyncio.get_running_loop().create_task(self._finish(coroutine))
        self._task.add_done_callback(self._ended)

    def drop(self) -> None:
        """Gives up what runs: its answer would be about something else by now."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            self.cancel()
        self._task = None
        self._job = ""
        if self.busy:
            self.busy = False
            self.put(busy=False, doing="")

    def cancel(self) -> None:
        """Asks the engine to stop the job that runs for this section."""
        if self._job:
            job, runner = self._job, self.viewer.runner
            self.put(stopping=True)
            self.viewer.later(runner.call(runner.engine.cancel, job))

    def started(self, job: str) -> None:
        """Remembers the job, so that it can be cancelled."""
        self._job = job

    def show_progress(self, status: JobStatus) -> None:
        """Shows how far a job is."""
        if status.state != RUNNING:
            self.put(doing=f"Waiting, position {status.place} in the queue", known=False)
            return
        share = status.done / status.total if status.total else 0.0
        words = [status.doing or "Works"]
        if status.total:
            words.append(f"{100 * share:.0f} %")
        if status.seconds_left is not None:
            words.append(f"{time_text(status.seconds_left)} left")
        words.append(f"{time.monotonic() - self._began:.1f} s so far")
        text = " · ".join(words)
        self.put(doing=text[:1].upper() + text[1:], share=100 * share, known=bool(status.total))

    def fail(self, error: BaseException) -> None:
        """Says in one line what went wrong, and the rest behind Details."""
        line, details = words_of(error)
        self.put(error=line, details=details)

    async def _finish(self, coroutine: Coroutine[Any, Any, None]) -> None:
        try:
            await coroutine
        except Cancelled:
            self.put(notes=["Stopped."])

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task is not self._task:
            return
        self.busy, self._task, self._job = False, None, ""
        self.put(busy=False, doing="", stopping=False)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.fail(error)
