"""The base class of requests, by which each kind of request is declared."""

from __future__ import annotations

from typing import Any, ClassVar, TypeAlias

#: What an engine returns for a request: an instance of the request's ``result_type``.
Result: TypeAlias = Any
#: The class of each kind of request, by the name of the kind.
KINDS: dict[str, type[Request]] = {}


class Request:
    """Base class of requests to an engine: frozen dataclasses of plain data.

    A subclass declares a kind of request with its class arguments::

        @dataclass(frozen=True)
        class PredictRequest(Request, kind="predict", result=Prediction, short=True):
            classifier: str
            volume: str

    An engine answers it once a :class:`~SaliencyExplain.engine.queue.handlers.handler.Handler`
    names it.

    Attributes:
        kind: Name of the kind, in JSON and in a job's status.
        result_type: Class of its results, partial ones included: a dataclass of plain data.
        short: Whether it takes about one forward pass or two. Short jobs go before long ones and
            are answered while a long one pauses.
        stream: A new request cancels the earlier ones of the same stream; empty: it has none.
    """

    kind: ClassVar[str]
    result_type: ClassVar[type[Any]]
    short: ClassVar[bool]
    stream: str = ""

    def __init_subclass__(
        cls, *, kind: str, result: type[Any], short: bool = False, **others: Any
    ) -> None:
        super().__init_subclass__(**others)
        known = KINDS.get(kind)
        # A module that is loaded again defines its kinds again.
        if known is not None and (known.__module__, known.__name__) != (
            cls.__module__,
            cls.__name__,
        ):
            raise ValueError(f"The kind '{kind}' belongs to {known.__name__} already.")
        cls.kind, cls.result_type, cls.short = kind, result, short
        KINDS[kind] = cls
