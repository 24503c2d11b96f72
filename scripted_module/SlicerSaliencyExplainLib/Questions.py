"""Questions to an engine whose answers come back on the main thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from SaliencyExplain.engine.interface import ClassifierInfo, Engine, JobStatus
from SaliencyExplain.engine.wire.requests import StudyRequest
from SaliencyExplain.errors import EngineLostError, ErrorCode, InputError

from .BackgroundCalls import BackgroundCalls, Call
from .Failures import Failure
from .Jobs import Job, nothing


class Questions:
    """Sends requests to an engine; no call waits, and none uses a scene.

    All methods belong to the main thread. Answers come through callbacks, called by
    ``calls.deliver()``; failures as :class:`Failure`. Where the engine is lost,
    ``engine_lost`` is called once.

    Attributes:
        calls: Carries questions to other threads.
        engine: Answers them; None while there is none.
        classifier: The one that was opened last in this engine; None before.
        methods: Descriptions of the engine's methods; empty before they are known.
        engine_lost: Told when the engine does not answer any more.
    """

    def __init__(self, engine: Engine | None, calls: BackgroundCalls | None) -> None:
        self.calls = calls if calls is not None else BackgroundCalls()
        self.engine: Engine | None = engine
        self.classifier: ClassifierInfo | None = None
        self.methods: list[dict[str, Any]] = []
        self.engine_lost: Callable[[Failure], None] = nothing
        self._opened: dict[str, Any] | None = None

    def ask(
        self,
        question: Callable[[Engine], Any],
        *,
        done: Callable[[Any], None] = nothing,
        failed: Callable[[Failure], None] = nothing,
    ) -> Call:
        """Sends the engine one quick request, such as for its methods.

        Args:
            question: Called with the engine, on another thread.
            done: Given the answer.
            failed: Told why there is none.

        Raises:
            InputError: There is no engine.
        """
        engine = self._running_engine()

        def fail(error: Exception) -> None:
            self._failed(engine, Failure.of(error), failed)

        return self.calls.call(question, engine, done=done, failed=fail)

    def ask_methods(self, done: Callable[[], None] = nothing) -> Call:
        """Asks for the engine's methods; they are ``methods`` from then on."""
        engine = self._running_engine()

        def take(methods: list[dict[str, Any]]) -> None:
            if self.engine is engine:
                self.methods = methods
                done()

        return self.ask(lambda engine: engine.methods(), done=take)

    def open_classifier(
        self,
        path: str,
        *,
        trust: bool = False,
        on_server: bool = False,
        done: Callable[[ClassifierInfo], None] = nothing,
        failed: Callable[[Failure], None] = nothing,
    ) -> Call:
        """Opens a classifier; it is ``classifier`` from then on."""
        engine = self._running_engine()
        opened: dict[str, Any] = {"path": path, "trust": trust, "on_server": on_server}

        def take(classifier: ClassifierInfo) -> None:
            if self.engine is engine:
                self.classifier = classifier
                self._opened = opened
                done(classifier)

        return self.ask(
            lambda engine: engine.open_classifier(path, trust=trust, on_server=on_server),
            done=take,
            failed=failed,
        )

    def open_again(
        self,
        done: Callable[[ClassifierInfo], None] = nothing,
        failed: Callable[[Failure], None] = nothing,
    ) -> Call | None:
        """Opens the last classifier in a new engine; None where there was none."""
        if self._opened is None:
            return None
        return self.open_classifier(**self._opened, done=done, failed=failed)

    def start_study(self, request: StudyRequest, **callbacks: Any) -> Job:
        """Starts a study in the engine; ``done`` gets a ``StudyResult``."""
        return self._follow(lambda engine: request, callbacks)

    def find_studies(
        self,
        done: Callable[[list[JobStatus]], None],
        failed: Callable[[Failure], None] = nothing,
    ) -> Call:
        """Asks for the studies that the engine knows, also those of an earlier session."""

        def look(engine: Engine) -> list[JobStatus]:
            return [status for status in engine.jobs() if status.kind == "study"]

        return self.ask(look, done=done, failed=failed)

    def follow_study(self, job: str, **callbacks: Any) -> Job:
        """Follows a study that is there already; ``done`` gets a ``StudyResult``."""
        return self._follow(job, callbacks)

    def _follow(
        self, begin: Callable[[Engine], Any] | str, callbacks: Mapping[str, Any], **more: Any
    ) -> Job:
        engine = self._running_engine()
        failed = callbacks.get("failed", nothing)
        followed = {
            **callbacks,
            "failed": lambda failure: self._failed(engine, failure, failed),
        }
        return Job(self.calls, engine, begin, **followed, **more)

    def _failed(self, engine: Engine, failure: Failure, failed: Callable[[Failure], None]) -> None:
        failed(failure)
        if failure.lost and self.engine is engine:
            # Once: answers to what else was asked of it come after this and find it gone.
            self.engine = None
            self.engine_lost(failure)

    def _running_engine(self) -> Engine:
        if self.engine is None:
            raise EngineLostError(
                ErrorCode.ENGINE_LOST, "No engine is connected. Start or connect one."
            )
        return self.engine

    def opened_classifier(self) -> ClassifierInfo:
        """The open classifier.

        Raises:
            InputError: None is open.
        """
        if self.classifier is None:
            raise InputError(ErrorCode.SELECTION, "Open a classifier first.")
        return self.classifier
