"""The header of a NRRD file: its fields as text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from SaliencyExplain.errors import ErrorCode, InputError


@dataclass(frozen=True)
class NrrdHeader:
    """The header of a NRRD file.

    Attributes:
        path: The file.
        fields: By their names in small letters without spaces.
        keys: Pairs ``key:=value``, unescaped.
        names: Lines behind ``data file: LIST``.
        length: Bytes of the header with the empty line behind it.
    """

    path: Path
    fields: dict[str, str]
    keys: dict[str, str]
    names: tuple[str, ...]
    length: int

    def wrong(self, name: str, wanted: str) -> InputError:
        """The error for a field that cannot be used."""
        return InputError(
            ErrorCode.FILE_DAMAGED,
            f"{self.path}: cannot be read, it may be damaged: its header gives {name} as "
            f"'{self.fields.get(name, '')[:80]}', and {wanted} belong there.",
        )

    def whole(self, name: str, default: int | None = None) -> int:
        """A field of one whole number.

        Raises:
            InputError: It is none, or is missing without a default.
        """
        if name not in self.fields and default is not None:
            return default
        try:
            return int(self.fields.get(name, ""))
        except ValueError as error:
            raise self.wrong(name, "a whole number") from error
