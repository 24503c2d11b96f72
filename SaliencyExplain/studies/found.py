"""The cases that discovery found, with what lies beside them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from SaliencyExplain.plain_text import visible
from SaliencyExplain.records.left_out import MOST_FILES, LeftOut
from SaliencyExplain.studies.case import Case
from SaliencyExplain.studies.file_names import natural


class Found(list[Case]):
    """The cases of a study folder or table, with what was found beside them.

    Attributes:
        left_out: Files that are no part of the cases.
        notes: Further notes on the folder or table as a whole.
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
        """Notes for the user on the folder or table, one line each."""
        return [*self.notes, *(one.sentence() for one in self.left_out)]

    def only(self, cases: Iterable[Case]) -> Found:
        """Some of the cases, with the same things beside them."""
        return Found(cases, self.left_out, self.notes)


def left_out_files(root: Path, reasons: Mapping[Path, str], *, named: bool = True) -> list[LeftOut]:
    """Files by the reason for which they were left out.

    Args:
        root: The study's folder.
        reasons: Why each was left out.
        named: Whether their names may appear.
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
                for path in sorted(paths, key=lambda one: (one.parent.parts, natural(one)))[
                    :MOST_FILES
                ]
            )
            if named
            else (),
        )
        for reason, paths in sorted(grouped.items())
    ]
