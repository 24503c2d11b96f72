"""A good file for the fuzzer to damage."""

from __future__ import annotations

from dataclasses import dataclass

#: Part of the patient's name in DICOM files, which no message may hold.
PATIENT = "Secret"


@dataclass(frozen=True)
class Seed:
    """A good file.

    Attributes:
        name: Of the file that is damaged; the format that it is read as follows from it.
        kind: What damages it beside bytes: see :mod:`Testing.fuzz.mutations`.
        reader: Which reader it is given to: see :mod:`Testing.fuzz.targets`.
        content: Of the file.
        beside: Files that lie beside it, by name.
    """

    name: str
    kind: str
    reader: str
    content: bytes
    beside: tuple[tuple[str, bytes], ...] = ()
