"""The base class of what answers one kind of request."""

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

    A handler is made anew for each use; what outlasts a request belongs to the context.

    Attributes:
        context: What the engine holds and allows.
    """

    #: The class that answers each class of requests.
    known: ClassVar[dict[type[Request], type[Handler[Any, Any]]]] = {}

    def __init_subclass__(cls, *, answers: type[Request], **others: Any) -> None:
        super().__init_subclass__(**others)
        Handler.known[answers] = cls

    def __init__(self, context: EngineContext) -> None:
        self.context = context

    def check(self, request: RequestT) -> None:
        """Refuses a request that cannot go well, before it waits in the queue.

        Numbers and sizes are within their ranges already.

        Raises:
            InputError: It names what the engine does not hold or allow, or asks for what
                there is not.
        """

    @abstractmethod
    def volumes(self, request: RequestT) -> set[str]:
        """Hashes of the volumes that the job needs; the engine keeps them while it is listed."""

    @abstractmethod
    def run(self, request: RequestT, reporter: Reporter) -> ResultT:
        """Does the job.

        Args:
            request: What was asked.
            reporter: Is told how far it is, and takes partial results.

        Returns:
            The result.

        Raises:
            SaliencyExplainError: Why it fails, in one line.
            Cancelled: The job was stopped.
        """

    def kept_volumes(self, result: ResultT) -> set[str]:
        """Hashes of the volumes that a result names; they stay while the job is listed."""
        return set()
