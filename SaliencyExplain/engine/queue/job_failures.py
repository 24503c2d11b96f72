"""The description of a failed job: a line for the user, the places in the code for a developer."""

from __future__ import annotations

import traceback
from pathlib import Path

from SaliencyExplain.attribution.passes.batches import is_out_of_memory
from SaliencyExplain.errors import DeviceMemoryError, ErrorCode, SaliencyExplainError


def unforeseen(error: BaseException) -> SaliencyExplainError:
    """An unexpected exception as an error of one line, with the exception as its cause.

    Where the memory was exhausted, the line says so.
    """
    lines = str(error).strip().splitlines()
    reason = f": {lines[0][:300]}" if lines else ""
    if is_out_of_memory(error):
        short = DeviceMemoryError(
            ErrorCode.MEMORY,
            f"There is not enough memory for this job ({type(error).__name__}{reason}). Use a "
            "coarser spacing, smaller parameters or a smaller image.",
        )
        short.__cause__ = error
        return short
    failure = SaliencyExplainError(
        ErrorCode.JOB_FAILED, f"The job failed unexpectedly ({type(error).__name__}{reason})."
    )
    failure.__cause__ = error
    return failure


def frames(error: BaseException | None) -> str:
    """The stack of an error, without messages of its causes, which may quote files."""
    parts: list[str] = []
    while error is not None:
        places = [
            f"  {Path(frame.filename).name}:{frame.lineno} in {frame.name}"
            for frame in traceback.extract_tb(error.__traceback__)
        ]
        parts.append("\n".join([type(error).__name__, *places]))
        error = error.__cause__ or error.__context__
    return "\ncaused by ".join(parts)
