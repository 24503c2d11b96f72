"""What discovery found beside the cases of a study folder, and why it is no part of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from SaliencyExplain.json_fields import Fields

#: Names that a sentence has, and that the journal keeps.
_SPOKEN, MOST_FILES = 5, 200


@dataclass(frozen=True)
class LeftOut:
    """Files that are no part of the cases, for one reason.

    Attributes:
        reason: Why, as the end of a sentence that begins with the files.
        count: How many there are.
        files: The first of them, relative to the study's folder; empty where names may
            be those of patients.
    """

    reason: str
    count: int
    files: tuple[str, ...] = ()

    def sentence(self) -> str:
        """Said aloud in one line."""
        what = f"{self.count} file{'s' if self.count != 1 else ''}"
        named = ", ".join(self.files[:_SPOKEN])
        more = ", …" if self.count > _SPOKEN else ""
        return f"Left out: {what}{f' ({named}{more})' if named else ''}: {self.reason}."

    def as_json(self) -> dict[str, Any]:
        """As the journal holds it."""
        return {"reason": self.reason, "count": self.count, "files": list(self.files)}

    @classmethod
    def from_json(cls, found: Fields) -> LeftOut:
        """From what the journal holds; raises InputError where it is damaged."""
        return cls(found.text("reason"), found.integer("count"), found.texts("files"))
