"""Reading the journal of a study: its configuration and its cases' entries."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.json_fields import Fields, parse_object
from SaliencyExplain.length_unit import joined
from SaliencyExplain.records.case_entry import CaseEntry
from SaliencyExplain.records.left_out import LeftOut

JOURNAL = "journal.jsonl"
#: Of the journal's lines; a journal of another one is not read.
FORMAT = 1
#: In the configuration: what lies in the study's folder beside its cases, and what is to be said
#: of the folder.
LEFT_OUT, FOLDER_NOTES = "left_out", "folder_notes"

Opened = TypeVar("Opened", bound="JournalFile")


class JournalFile:
    """A file of one JSON object per line.

    The first line is the study's configuration; every further line is a case that is done or has
    failed, the last line of a case counts. A damaged line costs its own case alone. Only the
    lines' places are kept in memory.

    Attributes:
        path: The file.
        configuration: The first line.
        damaged: Lines that are followed by whole ones and cannot be read themselves.
    """

    def __init__(self, path: Path, configuration: Mapping[str, Any]) -> None:
        self.path = path
        self.configuration = dict(configuration)
        self.damaged = 0
        self._places: dict[str, int] = {}
        self._end = 0
        self._index()

    @classmethod
    def read(cls: type[Opened], folder: Path) -> Opened:
        """Opens the journal in a study's output folder.

        Raises:
            InputError: There is no journal, its first line is damaged, or another version wrote
                it in a form that is not read here.
        """
        path = folder / JOURNAL
        return cls(path, configuration_in(path))

    @staticmethod
    def exists(folder: Path) -> bool:
        """Whether the folder holds a study."""
        return (folder / JOURNAL).is_file()

    @property
    def classes(self) -> list[str]:
        """Names of the classifier's classes."""
        return list(self.configuration["classes"])

    def __contains__(self, case: str) -> bool:
        return case in self._places

    def __len__(self) -> int:
        return len(self._places)

    def cases(self) -> list[str]:
        """The cases' names in the order of their lines."""
        return sorted(self._places, key=self._places.__getitem__)

    def entry(self, case: str) -> CaseEntry:
        """The last line of a case."""
        return next(self.entries([case]))

    def done(self, case: str) -> CaseEntry | None:
        """The last line of a case that is done; None where it is not, or has no line."""
        entry = self.entry(case) if case in self else None
        return entry if entry is not None and entry.result is not None else None

    def entries(self, order: Sequence[str] | None = None) -> Iterator[CaseEntry]:
        """The cases' last lines, one at a time; in the given order, or the journal's."""
        for line in self._lines(order):
            yield self._entry_of(line)

    def length_unit(self) -> str:
        """Of the cases' lengths: ``mm``, ``px`` or ``mm or px``."""
        results = (entry.result for entry in self.entries())
        return joined(result.length_unit for result in results if result is not None)

    def notes(self) -> list[str]:
        """What is to be said of the study's folder: what was left out of it, and why.

        Raises:
            InputError: The first line is damaged.
        """
        return [*self.folder_notes(), *(one.sentence() for one in self.left_out())]

    def folder_notes(self) -> list[str]:
        """What is to be said of the study's folder; raises InputError as :meth:`notes`."""
        first = Fields(self.configuration, str(self.path))
        return list(first.texts(FOLDER_NOTES)) if first.has(FOLDER_NOTES) else []

    def left_out(self) -> list[LeftOut]:
        """What lies in the study's folder beside its cases; raises InputError as :meth:`notes`."""
        first = Fields(self.configuration, str(self.path))
        left_out = first.objects(LEFT_OUT) if first.has(LEFT_OUT) else []
        return [LeftOut.from_json(one) for one in left_out]

    def _lines(self, order: Sequence[str] | None) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            for case in self.cases() if order is None else order:
                file.seek(self._places[case])
                yield file.readline()

    def _entry_of(self, line: bytes) -> CaseEntry:
        return CaseEntry.from_json(
            parse_object(line, str(self.path)), self.configuration["classes"]
        )

    def _index(self) -> None:
        self._places, self.damaged = {}, 0
        bad = 0
        with self.path.open("rb") as file:
            self._end = place = len(file.readline())
            for line in file:
                try:
                    # A torn line lacks its end; after a power cut it can be blocks of zeros.
                    entry = self._entry_of(line if line.endswith(b"\n") else b"")
                except InputError:
                    bad += 1
                else:
                    self._places[entry.case] = place
                    self._end = place + len(line)
                    self.damaged, bad = self.damaged + bad, 0
                place += len(line)


def configuration_in(path: Path) -> dict[str, Any]:
    """The first line of a journal.

    Raises:
        InputError: There is no journal, the line is damaged, or another version wrote it in a
            form that is not read here.
    """
    try:
        with path.open("rb") as file:
            line = file.readline()
    except OSError as error:
        raise InputError(
            ErrorCode.STUDY_INCOMPLETE,
            f"{path.parent} holds no study ({path.name}: {error.strerror}).",
        ) from None
    try:
        first = parse_object(line, str(path))
        if not first.texts("classes") or first.has("case"):
            first.refuse("classes", "a list of the classes' names")
    except InputError:
        raise InputError(
            ErrorCode.FILE_DAMAGED, f"{path}: the first line is damaged; delete it to start anew."
        ) from None
    found = dict(first.content)
    if found.get("format", FORMAT) != FORMAT:
        raise InputError(
            ErrorCode.STUDY_CONFIGURATION,
            f"{path}: was written by another version of this program (format {found['format']}; "
            f"this one reads {FORMAT}). Use that version, or choose another output folder.",
        )
    return found


def journal_digest(folder: Path) -> str:
    """SHA-256 of a study's journal, which changes when the study continues."""
    return hashlib.sha256((folder / JOURNAL).read_bytes()).hexdigest()
