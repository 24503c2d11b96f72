"""What discovery found beside the cases of a study folder, and why it is no part of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from SaliencyExplain.plain_text import visible
from SaliencyExplain.study.case import Case
from SaliencyExplain.study.files import natural

#: Names of each reason that a sentence has, and that the journal keeps.
_SPOKEN, _KEPT = 5, 200


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
    def from_json(cls, content: Mapping[str, Any]) -> LeftOut:
        """From what the journal holds."""
        return cls(content["reason"], int(content["count"]), tuple(content["files"]))


class Found(list[Case]):
    """The cases of a study folder or table, with what was found beside them.

    Attributes:
        left_out: Files that are no part of the cases.
        notes: What else a user should be told of the folder or table as a whole.
    """

    def __init__(
        self,
        cases: Iterable[Case] = (),
        left_out: Sequence[LeftOut] = (),
        notes: Sequence[str] = (),
    ) -> None:
        super().__init__(cases)
        self.left_out = tuple(left_out)
        self.notes = tuple(notes)

    def sentences(self) -> list[str]:
        """What a user should be told of the folder or table, one line each."""
        return [*self.notes, *(one.sentence() for one in self.left_out)]

    def only(self, cases: Iterable[Case]) -> Found:
        """Some of the cases, with the same things beside them."""
        return Found(cases, self.left_out, self.notes)


def left_out_files(root: Path, reasons: Mapping[Path, str], *, named: bool = True) -> list[LeftOut]:
    """Files by the reason for which they were left out.

    Args:
        root: The study's folder.
        reasons: Why each was left out.
        named: Whether their names may be told.
    """
    grouped: dict[str, list[Path]] = defaultdict(list)
    for path, reason in reasons.items():
        grouped[reason].append(path)
    return [
        LeftOut(
            reason,
            len(paths),
            tuple(
                visible(path.relative_to(root).as_posix())
                for path in sorted(paths, key=lambda one: (one.parent.parts, natural(one)))[:_KEPT]
            )
            if named
            else (),
        )
        for reason, paths in sorted(grouped.items())
    ]
