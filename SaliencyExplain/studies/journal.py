"""The journal of a study: each finished case is on disk before the next one starts."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from SaliencyExplain.errors import ErrorCode, InputError, OutputError
from SaliencyExplain.images.image_writing import atomic_file
from SaliencyExplain.plain_text import json_escaped
from SaliencyExplain.records.case_entry import CaseEntry
from SaliencyExplain.records.journal_file import FOLDER_NOTES, JOURNAL, LEFT_OUT, JournalFile
from SaliencyExplain.studies.added_methods import merged_configuration, parameter_differences
from SaliencyExplain.studies.case import Case

#: Not compared with an earlier run's: threads are taken over from it (:func:`run_study`), and
#: what lies beside the cases changes nothing of their results.
_KEPT = frozenset({"threads", LEFT_OUT, FOLDER_NOTES})
#: Added to those of the first run.
_ADDED = frozenset({"methods"})


class Journal(JournalFile):
    """The journal of a study that is run: it is only appended to.

    A line is written and synchronised to disk after the case's folder has its final name, so that
    a process killed at any moment leaves at worst a case to be computed again or a torn last line,
    which is cut off when the journal is opened.
    """

    @classmethod
    def begin(cls, folder: Path, configuration: Mapping[str, Any]) -> Journal:
        """Opens the journal of an output folder, or starts it.

        Methods that the study does not have yet are added to it.

        Args:
            folder: The study's output folder; made where it does not exist.
            configuration: The settings that determine the results' bytes; JSON values only.

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
                f"{self.path.parent}: it has a study with another configuration "
                f"({'; '.join(differences)}). Choose another output folder, or delete this one.",
            )
        return merged_configuration(self.configuration, new)

    def append(self, entry: CaseEntry) -> None:
        """Adds the line of a case and returns when it is on the disk.

        The journal is never made anew here: one without its first line would be refused by the
        next run.

        Raises:
            OutputError: The disk is full, the file cannot be written, or it is gone or was
                changed by another program meanwhile.
        """
        line = _line(entry.as_json()).encode()
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
        self._places[entry.case] = place
        self._end = place + len(line)

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
            file.writelines(self._lines(known))
        self._index()

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
