"""Figures, places and errors as the page writes them."""

from __future__ import annotations

import math
import traceback

from SaliencyExplain.errors import SaliencyExplainError


def number_text(value: float | None) -> str:
    """Three decimals, whole from 1000 on, or as many as tell it from zero; empty for None, NaN."""
    if value is None or math.isnan(value):
        return ""
    if value == 0 or 0.001 <= abs(value) < 1000:
        return f"{value:.3f}"
    return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def place_text(ras: tuple[float, float, float]) -> str:
    """A place of the world as its sides and millimetres."""
    sides = ("RL", "AP", "SI")
    return ", ".join(
        f"{pair[0] if value >= 0 else pair[1]} {abs(value):.1f}"
        for pair, value in zip(sides, ras, strict=True)
    )


def words_of(error: BaseException) -> tuple[str, str]:
    """What went wrong in one line, and what a developer would ask for."""
    if isinstance(error, SaliencyExplainError):
        return " ".join(str(error).split()), getattr(error, "details", "")
    line = f"Unexpected {type(error).__name__}: {error}"
    trace = traceback.format_exception(type(error), error, error.__traceback__)
    return " ".join(line.split()), "".join(trace)
