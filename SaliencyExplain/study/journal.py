"""The journal of a study: what is done, on disk before the next case counts as begun."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from SaliencyExplain.errors import ErrorCode, InputError, OutputError
from SaliencyExplain.images.writing import atomic_file
from SaliencyExplain.study.case import Case

JOURNAL = "journal.jsonl"
#: Taken over from the first run rather than compared: see :func:`run_study`.
_KEPT = frozenset({"threads"})


class Journal:
    """An append-only file of one JSON object per line.

    The first line is the study's configuration; every further line is a case
    that is done or has failed, the last line of a case counts. A line is written
    and synchronised to disk after the case's folder has its final name, so that a
    process killed at any moment leaves at worst a case to be computed again or a
    torn last line, which is cut off when the journal is opened. Only the lines'
    places are kept in memory.

    Attributes:
        path: The file.
        configuration: The first line.
    """

    def __init__(self, path: Path, configuration: Mapping[str, Any]) -> None:
        self.path = path
        self.configuration = dict(configuration)
        self._places: dict[str, int] = {}
        self._end = 0

    @classmethod
    def begin(cls, folder: Path, configuration: Mapping[str, Any]) -> Journal:
        """Opens the journal of an output folder, or starts it.

        Args:
            folder: The study's output folder; made where it does not exist.
            configuration: What decides the results' bytes; JSON values only.

        Raises:
            InputError: The folder holds a study of another configuration; the
                message says what differs.
            OutputError: The journal cannot be written.
        """
        path = folder / JOURNAL
        if not cls.exists(folder):
            with atomic_file(path) as temporary:
                temporary.write_text(_line(configuration), encoding="utf-8")
        journal = cls.read(folder)
        # Compared as JSON reads it back: tuples are lists there.
        differences = _differences(journal.configuration, json.loads(_line(configuration)))
        if differences:
            raise InputError(
                ErrorCode.STUDY_CONFIGURATION,
                f"{folder} holds a study with another configuration ({'; '.join(differences)}). "
                "Choose another output folder, or delete this one.",
            )
        journal._cut_torn_end()
        return journal

    @classmethod
    def read(cls, folder: Path) -> Journal:
        """Opens a journal to read it.

        Raises:
            InputError: There is no journal, or its first line is damaged.
        """
        path = folder / JOURNAL
        try:
            with path.open("rb") as file:
                first = file.readline()
        except OSError as error:
            raise InputError(
                ErrorCode.STUDY_INCOMPLETE,
                f"{folder} holds no study ({JOURNAL}: {error.strerror}).",
            ) from None
        try:
            configuration = json.loads(first)
        except ValueError:
            raise InputError(
                ErrorCode.FILE_DAMAGED,
                f"{path}: the first line is damaged; delete it to start anew.",
            ) from None
        journal = cls(path, configuration)
        journal._index()
        return journal

    @staticmethod
    def exists(folder: Path) -> bool:
        """Whether the folder holds a study."""
        return (folder / JOURNAL).is_file()

    def append(self, entry: Mapping[str, Any]) -> None:
        """Adds the line of a case and returns when it is on the disk.

        Raises:
            OutputError: The disk is full, or the file cannot be written.
        """
        try:
            with self.path.open("ab") as file:
                place = file.tell()
                file.write(_line(entry).encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(
                ErrorCode.OUTPUT_UNWRITABLE, f"{self.path}: cannot be written ({error.strerror})."
            ) from error
        self._places[str(entry["case"])] = place

    def __contains__(self, case: str) -> bool:
        return case in self._places

    def __len__(self) -> int:
        return len(self._places)

    def cases(self) -> list[str]:
        """The cases' names in the order of their lines."""
        return sorted(self._places, key=self._places.__getitem__)

    def entry(self, case: str) -> dict[str, Any]:
        """The last line of a case."""
        return next(self.entries([case]))

    def entries(self, order: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """The cases' last lines, one at a time; in the given order, or the journal's."""
        with self.path.open("rb") as file:
            for case in self.cases() if order is None else order:
                file.seek(self._places[case])
                yield json.loads(file.readline())

    def settle(self, order: Sequence[str]) -> None:
        """Rewrites the journal with one line per case in the cases' order.

        With that a study has the same bytes whether it was interrupted or not,
        and however many processes computed it. Cases that are not in the order
        follow, by name. Atomic: a kill leaves the old journal or the new one.

        Raises:
            OutputError: The disk is full, or the file cannot be written.
        """
        known = [case for case in order if case in self._places]
        known += sorted(self._places.keys() - set(known))
        with atomic_file(self.path) as temporary, temporary.open("wb") as file:
            file.write(_line(self.configuration).encode())
            for entry in self.entries(known):
                file.write(_line(entry).encode())
        self._index()

    def _index(self) -> None:
        self._places = {}
        with self.path.open("rb") as file:
            place = len(file.readline())
            for line in file:
                case = _case_of(line)
                if case is None:
                    break
                self._places[case] = place
                place += len(line)
        self._end = place

    def _cut_torn_end(self) -> None:
        if self.path.stat().st_size > self._end:
            try:
                os.truncate(self.path, self._end)
            except OSError as error:
                raise OutputError(
                    ErrorCode.OUTPUT_UNWRITABLE,
                    f"{self.path}: cannot be written ({error.strerror}).",
                ) from error


def source_digest(case: Case) -> str:
    """A digest of what a case is made of: file names, sizes, times of change, label.

    A case whose files have changed since is computed again.

    Raises:
        InputError: A file is not there.
    """
    digest = hashlib.sha256(f"{case.channels}{case.series}{case.label}".encode())
    for path in [*case.paths, *([case.segmentation] if case.segmentation else [])]:
        try:
            files = sorted(path.iterdir()) if path.is_dir() else [path]
            for file in files:
                status = file.stat()
                digest.update(f"{file.name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
        except OSError as error:
            raise InputError(
                ErrorCode.FILE_UNREADABLE, f"{path}: cannot be read ({error.strerror})."
            ) from None
    return digest.hexdigest()


def _line(content: Mapping[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"


def _case_of(line: bytes) -> str | None:
    # A torn line lacks its end; after a power cut it can be blocks of zeros.
    if not line.endswith(b"\n"):
        return None
    try:
        return str(json.loads(line)["case"])
    except (ValueError, KeyError, TypeError):
        return None


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return [
        f"{name}: {_short(old.get(name))} there, {_short(new.get(name))} now"
        for name in dict.fromkeys([*old, *new])
        if name not in _KEPT and old.get(name) != new.get(name)
    ]


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else f"{text[:117]}…"
