"""Quantities with units: reading those that users write, and writing times and shares."""

from __future__ import annotations

import re
from collections.abc import Mapping

from SaliencyExplain.errors import ErrorCode, InputError

#: How many millimetres each length is; a pixel of an image without a size counts as one.
LENGTHS: Mapping[str, float] = {"mm": 1.0, "px": 1.0, "cm": 10.0}
#: How many seconds each time is.
TIMES: Mapping[str, float] = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
}
#: Forward passes.
PASSES: Mapping[str, float] = {"pass": 1.0, "passes": 1.0}
#: Per cent, for a number that is one.
PERCENT: Mapping[str, float] = {"%": 1.0}
#: A share in [0, 1], which may be written in per cent.
SHARE: Mapping[str, float] = {"%": 0.01}

#: Units of a parameter, by the name of the unit that a plain number has.
BY_UNIT: Mapping[str, Mapping[str, float]] = {
    "mm": LENGTHS,
    "s": TIMES,
    "passes": PASSES,
    "%": PERCENT,
    "": SHARE,
}

_NUMBER = re.compile(r"([+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf|nan))\s*(\S*)", re.IGNORECASE)
_SIZE = re.compile(r"(\d+\.?\d*|\.\d+)\s*(?:([KMGT])(?:I?B)?|B)", re.IGNORECASE)


def number_of(text: str, units: Mapping[str, float]) -> float:
    """The number of ``15``, ``15mm`` or ``1.5 cm``.

    Args:
        text: As it was typed; a plain number is in the unit whose factor is 1, or, of a share,
            the share itself.
        units: Factors of the units that may stand behind it.

    Raises:
        ValueError: It is no number, or the unit is another one.
    """
    found = _NUMBER.fullmatch(text.strip())
    if found is None:
        raise ValueError(text)
    unit = found[2].lower()
    if unit and unit not in units:
        raise ValueError(text)
    number = float(found[1])
    # 15 % is 0.15 exactly as 0.15 is; 15 * 0.01 is another number.
    factor = units[unit] if unit else 1.0
    return number / round(1 / factor) if factor < 1 else number * factor


def bytes_of(text: str, name: str) -> float:
    """The bytes of a size such as ``4G``, ``4GB`` or ``800MiB``; all three are of 1024.

    Args:
        text: As it was typed.
        name: What is sized, for the message.

    Raises:
        InputError: It is not a size, or has no unit.
    """
    found = _SIZE.fullmatch(text.strip())
    size = float(found[1]) * 1024 ** " KMGT".index((found[2] or " ").upper()) if found else 0.0
    if size < 1:
        raise InputError(
            ErrorCode.VALUE_FORM,
            f"{name}: '{text}' is not a size. Give a number with its unit, such as 4GB or 800M.",
        )
    return size


def time_text(seconds: float) -> str:
    """A span of time in the unit that a reader would choose."""
    if seconds < 1.5:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def whole_percent(share: float) -> str:
    """A share in whole per cent; a small one is not called nothing, nor a large one all."""
    if 0.995 <= share < 1:
        return "99 %"
    return f"{100 * share:.0f} %" if share >= 0.01 else "less than 1 %"
