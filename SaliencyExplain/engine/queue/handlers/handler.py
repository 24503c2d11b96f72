"""The base class of handlers, each for one kind of request."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, TypeVar

from SaliencyExplain.engine.queue.engine_context import EngineContext
from SaliencyExplain.engine.queue.job_queue import Reporter
from SaliencyExplain.engine.wire.request_base import Request

RequestT = TypeVar("RequestT", bound=Request)
ResultT = TypeVar("ResultT")


class Handler(ABC, Generic[RequestT, ResultT]):
    """Answers one kind of request.

    A subclass names the class of its requests::

        class PredictHandler(Handler[PredictRequest, Prediction], answers=PredictRequest):

    A new handler is made for each use; state that outlasts a request belongs to the context.

    Attributes:
        context: The state and permissions of the engine.
    """

    #: The class that answers each class of requests.
    known: ClassVar[dict[type[Request], type[Handler[Any, Any]]]] = {}

    def __init_subclass__(cls, *, answers: type[Request], **others: Any) -> None:
        super().__init_subclass__(**others)
        Handler.known[answers] = cls

    def __init__(self, context: EngineContext) -> None:
        self.context = context

    def check(self, request: RequestT) -> None:
        """Refuses a request that would fail, before it waits in the queue.

        Numbers and sizes are within their ranges already.

        Raises:
            InputError: It names something that the engine does not hold or allow, or that does not
                exist.
        """

    @abstractmethod
    def volumes(self, request: RequestT) -> set[str]:
        """Hashes of the volumes that the job needs; the engine keeps them while it is listed."""

    @abstractmethod
    def run(self, request: RequestT, reporter: Reporter) -> ResultT:
        """Does the job.

        Args:
            request: What was asked.
            reporter: Receives the progress and partial results.

        Returns:
            The result.

        Raises:
            SaliencyExplainError: Why it fails, in one line.
            Cancelled: The job was stopped.
        """

    def kept_volumes(self, result: ResultT) -> set[str]:
        """Hashes of the volumes that a result names; they stay while the job is listed."""
        return set()
