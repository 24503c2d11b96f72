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
#: Words in headers for an unknown unit.
_NONE = ("", "?", "???", "none", "unknown")


def millimetres(path: Path, unit: str) -> float:
    """Millimetres per unit of a header; 1 if it names no unit.

    Args:
        path: The file, for messages.
        unit: The text in the header.

    Raises:
        InputError: The unit of length is unknown.
    """
    said = unit.strip().strip('"').strip().lower()
    if said in _NONE:
        return 1.0
    found = _MILLIMETRES.get(said, _MILLIMETRES.get(said.removesuffix("s")))
    if found is None:
        raise InputError(
            ErrorCode.IMAGE_GEOMETRY,
            f"{path}: the unit of length in its header, '{unit.strip()[:40]}', is unknown. Write "
            "the file in mm.",
        )
    return found


def unit_note(unit: str) -> str:
    """The note for an image whose header is not in millimetres."""
    return f"the header gives lengths in {unit.strip()[:40]}; converted to millimetres"
