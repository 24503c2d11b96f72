"""The header of an NRRD file: its fields as text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from SaliencyExplain.errors import ErrorCode, InputError


@dataclass(frozen=True)
class NrrdHeader:
    """The header of an NRRD file.

    Attributes:
        path: The file.
        fields: Fields by their names in lower case without spaces.
        keys: Pairs ``key:=value``, unescaped.
        names: Lines after ``data file: LIST``.
        length: Bytes of the header including the empty line after it.
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
            f"{self.path}: cannot be read, it may be damaged: {name} is "
            f"'{self.fields.get(name, '')[:80]}' in its header, and {wanted} expected. Write the "
            "file again.",
        )

    def whole(self, name: str, default: int | None = None) -> int:
        """A field of one whole number.

        Raises:
            InputError: It is not a whole number, or is missing and has no default.
        """
        if name not in self.fields and default is not None:
            return default
        try:
            return int(self.fields.get(name, ""))
        except ValueError as error:
            raise self.wrong(name, "a whole number is") from error
