"""Failures of single methods: one costs its own map, and the other methods go on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from SaliencyExplain.errors import (
    Cancelled,
    EngineLostError,
    ErrorCode,
    OutputError,
    SaliencyExplainError,
)

_LOG = logging.getLogger(__name__)

#: Characters of a reason that are kept.
_MOST = 500


@dataclass(frozen=True)
class MethodFailure:
    """Why a method has no map of an image.

    Attributes:
        method: Name of the method.
        code: Of the error, one of :class:`ErrorCode`.
        reason: The error's message, in one line.
    """

    method: str
    code: str
    reason: str

    @property
    def line(self) -> str:
        """What a user reads: the method, the reason, and the code in brackets."""
        return f"{self.method} failed: {self.reason} [{self.code}]"


class MethodFailures:
    """Collects the failures of methods while the others go on.

    Attributes:
        found: The failures so far, in the order of the methods.
    """

    def __init__(self) -> None:
        self.found: list[MethodFailure] = []
        self._first: Exception | None = None

    @contextmanager
    def of(self, method: str, through: type[Exception] | tuple[()] = ()) -> Iterator[None]:
        """Ends the block where the method fails, and records why.

        Args:
            method: Name of the method.
            through: A kind of error that the caller answers itself.

        Raises:
            Exception: One of these.
            Cancelled: The computation was stopped.
            OutputError: Its results cannot be written anywhere.
            EngineLostError: Nobody is there any more who waits for them.
        """
        try:
            yield
        except (Cancelled, OutputError, EngineLostError):
            raise
        except through:
            raise
        except Exception as error:  # noqa: BLE001 - it costs this method's map, no other one's
            reason = " ".join(str(error).split()) or type(error).__name__
            if not isinstance(error, SaliencyExplainError):
                _LOG.exception("%s failed in a way that was not foreseen.", method)
                reason = f"{type(error).__name__}: {reason}"
            code = getattr(error, "code", None)
            code = code if isinstance(code, ErrorCode) else ErrorCode.JOB_FAILED
            self.found.append(MethodFailure(method, code.value, reason[:_MOST]))
            if self._first is None:
                # Its frames would keep the failed method's tensors alive.
                self._first = error.with_traceback(None)

    def raise_first(self) -> None:
        """Raises the first error, if there was one: where no method is left."""
        if self._first is not None:
            raise self._first
