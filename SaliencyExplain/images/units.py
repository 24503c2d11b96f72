"""Units of length in headers, in millimetres."""

from __future__ import annotations

from pathlib import Path

from SaliencyExplain.errors import ErrorCode, InputError

_MILLIMETRES = {
    "mm": 1.0,
    "millimeter": 1.0,
    "millimetre": 1.0,
    "um": 1e-3,
    "µm": 1e-3,  # the micro sign
    "μm": 1e-3,  # the Greek letter
    "micron": 1e-3,
    "micrometer": 1e-3,
    "micrometre": 1e-3,
    "nm": 1e-6,
    "nanometer": 1e-6,
    "nanometre": 1e-6,
    "cm": 10.0,
    "centimeter": 10.0,
    "centimetre": 10.0,
    "m": 1e3,
    "meter": 1e3,
    "metre": 1e3,
}
#: How headers say that they name no unit.
_NONE = ("", "?", "???", "none", "unknown")


def millimetres(path: Path, unit: str) -> float:
    """How many millimetres a unit of a header is; 1 where it names none.

    Args:
        path: The file, for messages.
        unit: As the header has it.

    Raises:
        InputError: It is no known unit of length.
    """
    said = unit.strip().strip('"').strip().lower()
    if said in _NONE:
        return 1.0
    found = _MILLIMETRES.get(said, _MILLIMETRES.get(said.removesuffix("s")))
    if found is None:
        raise InputError(
            ErrorCode.IMAGE_GEOMETRY,
            f"{path}: its header gives lengths in '{unit.strip()[:40]}', which is no unit of "
            "length that is known here. Write it in mm.",
        )
    return found


def unit_note(unit: str) -> str:
    """What is said aloud of an image whose header is not in millimetres."""
    return f"the header gives lengths in {unit.strip()[:40]}; turned into millimetres"
