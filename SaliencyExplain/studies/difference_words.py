"""Differences between methods, their intervals and answers, in the words of tables."""

from __future__ import annotations

import math


def answer_words(answer: str, better: str, smallest: float, title: str = "") -> str:
    """A pair's answer in a table.

    Args:
        answer: One of the answers of a paired comparison.
        better: Label of the better one, where one is.
        smallest: The smallest difference of interest.
        title: Title of the better one.
    """
    return {
        "small": f"differ, by less than {smallest:g} as measured",
        "equal": f"no difference over {smallest:g}",
        "open": "no significant difference",
        "untested": "too few cases",
    }.get(answer, f"{title or better} better")


def interval_words(low: float | None, high: float | None) -> str:
    """Both ends with their signs; empty where there is no interval."""
    if all(end is None or math.isnan(end) for end in (low, high)):
        return ""
    ends = (low, high)
    return " to ".join(
        word if end is None or not math.isfinite(end) else signed(end)
        for end, word in zip(ends, ("unbounded", "unbounded"), strict=True)
    )


def signed(value: float) -> str:
    """A difference with its sign and three decimals; one that rounds to zero has no sign."""
    return "0.000" if abs(value) < 0.0005 else f"{value:+.3f}"
