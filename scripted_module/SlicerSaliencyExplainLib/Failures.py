"""What went wrong, in one line for the panel and at length behind its Details button."""

from __future__ import annotations

import traceback
from dataclasses import dataclass

from SaliencyExplain.errors import EngineLostError, SaliencyExplainError


@dataclass(frozen=True)
class Failure:
    """An error as the panel shows it.

    Attributes:
        line: What is wrong and what to do, in one line.
        details: Details for developers.
        lost: The engine does not answer any more.
    """

    line: str
    details: str = ""
    lost: bool = False

    @classmethod
    def of(cls, error: Exception, details: str = "") -> Failure:
        """What to show of an exception."""
        if isinstance(error, SaliencyExplainError):
            line = str(error)
        else:
            line = f"Unexpected {type(error).__name__}: {error}"
        trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        return cls(
            " ".join(line.split()),
            f"{details}\n\n{trace}".strip(),
            isinstance(error, EngineLostError),
        )
