"""The journal of a study: what is done, on disk before the next case counts as begun."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from SaliencyExplain.errors import ErrorCode, InputError, OutputError
from SaliencyExplain.images.image_writing import atomic_file
from SaliencyExplain.plain_text import json_escaped
from SaliencyExplain.study.added_methods import merged_configuration, parameter_differences
from SaliencyExplain.study.case import Case

JOURNAL = "journal.jsonl"
#: Of the journal's lines; a journal of another one is not read.
FORMAT = 1
#: What lies in the study's folder beside its cases, and what is to be said of the folder.
LEFT_OUT, FOLDER_NOTES = "left_out", "folder_notes"
#: Not compared with an earlier run's: threads are taken over from it (:func:`run_study`), and
#: what lies beside the cases changes nothing of their results.
_KEPT = frozenset({"threads", LEFT_OUT, FOLDER_NOTES})
#: Added to those of the first run.
_ADDED = frozenset({"methods"})


class Journal:
    """An append-only file of one JSON object per line.

    The first line is the study's configuration; every further line is a case
    that is done or has failed, the last line of a case counts. A line is written
    and synchronised to disk after the case's folder has its final name, so that a
    process killed at any moment leaves at worst a case to be computed again or a
    torn last line, which is cut off when the journal is opened. A damaged line in
    the middle costs its own case alone. Only the lines' places are kept in memory.

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

    @classmethod
    def begin(cls, folder: Path, configuration: Mapping[str, Any]) -> Journal:
        """Opens the journal of an output folder, or starts it.

        Methods that the study does not have yet are added to it.

        Args:
            folder: The study's output folder; made where it does not exist.
            configuration: What decides the results' bytes; JSON values only.

        Raises:
            InputError: The folder holds a study of another configuration, or has one of the
                methods with other parameters; the message says what differs.
            OutputError: The journal cannot be written.
        """
        path = folder / JOURNAL
        if not cls.exists(folder):
            with atomic_file(path) as temporary:
                temporary.write_text(_line(configuration), encoding="utf-8")
        journal = cls.read(folder)
        merged = journal.merged(configuration)
        journal._cut_torn_end()
        if merged != journal.configuration:
            journal.configuration = merged
            journal.settle(journal.cases())
        return journal

    def merged(self, configuration: Mapping[str, Any]) -> dict[str, Any]:
        """The study's configuration with the methods of a run; nothing is written.

        Args:
            configuration: Of the run.

        Raises:
            InputError: As :meth:`begin`.
        """
        # Compared as JSON reads it back: tuples are lists there.
        new = json.loads(_line(configuration))
        differences = _differences(self.configuration, new)
        if differences:
            raise InputError(
                ErrorCode.STUDY_CONFIGURATION,
                f"{self.path.parent} holds a study with another configuration "
                f"({'; '.join(differences)}). Choose another output folder, or delete this one.",
            )
        return merged_configuration(self.configuration, new)

    @classmethod
    def read(cls, folder: Path) -> Journal:
        """Opens a journal to read it.

        Raises:
            InputError: There is no journal, its first line is damaged, or another version wrote
                it in a form that is not read here.
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
        journal = cls(path, _configuration_of(path, first))
        journal._index()
        return journal

    @staticmethod
    def exists(folder: Path) -> bool:
        """Whether the folder holds a study."""
        return (folder / JOURNAL).is_file()

    def append(self, entry: Mapping[str, Any]) -> None:
        """Adds the line of a case and returns when it is on the disk.

        The journal is never made anew here: one without its first line would be refused by the
        next run.

        Raises:
            OutputError: The disk is full, the file cannot be written, or it is gone or was
                changed by another program meanwhile.
        """
        line = _line(entry).encode()
        try:
            with self.path.open("r+b") as file:
                place = self._unchanged_end(file)
                try:
                    file.write(line)
                    file.flush()
                    os.fsync(file.fileno())
                except OSError:
                    # A part of the line may be there: the disk was full in the middle of it.
                    with contextlib.suppress(OSError):
                        os.truncate(self.path, place)
                    raise
        except OSError as error:
            raise OutputError(
                ErrorCode.OUTPUT_UNWRITABLE, f"{self.path}: cannot be written ({error.strerror})."
            ) from error
        self._places[str(entry["case"])] = place
        self._end = place + len(line)

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

    def done(self, case: str) -> dict[str, Any] | None:
        """The last line of a case that is done; None where it is not, or has no line."""
        entry = self.entry(case) if case in self else None
        return entry if entry is not None and entry["done"] else None

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
            OutputError: The disk is full, the file cannot be written, or it is gone or was
                changed by another program meanwhile.
        """
        try:
            with self.path.open("rb") as file:
                self._unchanged_end(file)
        except OSError as error:
            raise OutputError(
                ErrorCode.OUTPUT_UNWRITABLE, f"{self.path}: cannot be read ({error.strerror})."
            ) from error
        known = [case for case in order if case in self._places]
        known += sorted(self._places.keys() - set(known))
        with atomic_file(self.path) as temporary, temporary.open("wb") as file:
            file.write(_line(self.configuration).encode())
            for entry in self.entries(known):
                file.write(_line(entry).encode())
        self._index()

    def _index(self) -> None:
        self._places, self.damaged = {}, 0
        bad = 0
        with self.path.open("rb") as file:
            self._end = place = len(file.readline())
            for line in file:
                entry = _entry_of(line, self.configuration)
                if entry is None:
                    bad += 1
                else:
                    self._places[entry["case"]] = place
                    self._end = place + len(line)
                    self.damaged, bad = self.damaged + bad, 0
                place += len(line)

    def _unchanged_end(self, file: IO[bytes]) -> int:
        """Goes to the end of the open journal, which is where it was left."""
        place = file.seek(0, os.SEEK_END)
        if place != self._end:
            raise OutputError(
                ErrorCode.OUTPUT_UNWRITABLE,
                f"{self.path}: another program changed the journal during the run; start the run "
                "again.",
            )
        return place

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
    # Names of files need not be text in any encoding.
    said = f"{case.channels}{case.series}{case.label}"
    digest = hashlib.sha256(said.encode(errors="surrogatepass"))
    for path in case.files:
        try:
            files = sorted(path.iterdir()) if path.is_dir() else [path]
            for file in files:
                status = file.stat()
                line = f"{file.name}\0{status.st_size}\0{status.st_mtime_ns}\n"
                digest.update(line.encode(errors="surrogatepass"))
        except OSError as error:
            raise InputError(
                ErrorCode.FILE_UNREADABLE, f"{path}: cannot be read ({error.strerror})."
            ) from None
    return digest.hexdigest()


def _line(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return json_escaped(text) + "\n"


def _configuration_of(path: Path, line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    classes = found.get("classes") if isinstance(found, dict) else None
    if not isinstance(found, dict) or not _texts(classes) or "case" in found:
        raise InputError(
            ErrorCode.FILE_DAMAGED, f"{path}: the first line is damaged; delete it to start anew."
        )
    if found.get("format", FORMAT) != FORMAT:
        raise InputError(
            ErrorCode.STUDY_CONFIGURATION,
            f"{path}: was written by another version of this program (format {found['format']}; "
            f"this one reads {FORMAT}). Use that version, or choose another output folder.",
        )
    return found


def _entry_of(line: bytes, configuration: Mapping[str, Any]) -> dict[str, Any] | None:
    """The entry in a line; None where it is torn or damaged."""
    # A torn line lacks its end; after a power cut it can be blocks of zeros.
    if not line.endswith(b"\n"):
        return None
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or not _is_name(entry.get("case")):
        return None
    label, failures = entry.get("label"), entry.get("failures")
    if not (label is None or isinstance(label, str)) or not isinstance(failures, list):
        return None
    if not isinstance(entry.get("done"), bool) or not isinstance(entry.get("source"), str):
        return None
    if not all(
        isinstance(one, dict) and _texts([one.get(key) for key in ("stage", "code", "reason")])
        for one in failures
    ):
        return None
    return entry if not entry["done"] or _is_result(entry, configuration["classes"]) else None


def _is_result(entry: Mapping[str, Any], classes: Sequence[str]) -> bool:
    probabilities, maps, rows = (entry.get(name) for name in ("probabilities", "maps", "rows"))
    return (
        entry.get("target") in classes
        and isinstance(probabilities, list)
        and len(probabilities) == len(classes)
        and all(isinstance(one, (int, float)) for one in probabilities)
        and isinstance(maps, list)
        and all(
            isinstance(one, dict) and _texts([one.get("label")]) and _is_name(one.get("files"))
            for one in maps
        )
        and isinstance(entry.get("notes"), list)
        and isinstance(rows, list)
        and all(isinstance(one, dict) for one in rows)
    )


def _is_name(value: Any) -> bool:
    """Whether this names something in a folder, and nothing outside of it."""
    return (
        isinstance(value, str)
        and value not in ("", ".", "..")
        and not any(character in value for character in "/\\\0")
    )


def _texts(values: Any) -> bool:
    return isinstance(values, list) and bool(values) and all(isinstance(v, str) for v in values)


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    differing = [
        (name, old.get(name), new.get(name))
        for name in dict.fromkeys([*old, *new])
        if name not in (*_KEPT, *_ADDED) and old.get(name) != new.get(name)
    ]
    return [
        f"{name}: {_short(there)} there, {_short(now)} now"
        for name, there, now in (*differing, *parameter_differences(old, new))
    ]


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else f"{text[:117]}…"
