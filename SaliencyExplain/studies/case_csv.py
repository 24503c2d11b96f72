"""Cases from a table: ``case,image,segmentation,label`` or a column for each channel."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from SaliencyExplain.csv_text import Table, read_table
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.plain_text import some_of, visible
from SaliencyExplain.studies.case import Case, may_name_patient, safe_name, unlike
from SaliencyExplain.studies.file_names import image_suffix
from SaliencyExplain.studies.found import Found
from SaliencyExplain.studies.table_columns import KNOWN, Columns, case_names, find_columns, items
from SaliencyExplain.studies.table_paths import find_path

#: How spreadsheets, pandas and people write a cell without a value.
_NO_LABEL = frozenset(
    {"", "nan", "na", "n/a", "n.a.", "#n/a", "#nv", "<na>", "null", "-", "--", "?"}
)
_NO_VALUE = _NO_LABEL | {"none"}
_WHOLE = re.compile(r"([+-]?\d+)[.,]0+")
_NAMED_PROBLEMS = 10


def read_cases(
    path: Path,
    channels: Sequence[str] = (),
    *,
    keep_identifiers: bool = False,
    allowed: Callable[[Path], object] | None = None,
) -> Found:
    """Reads a table of cases; relative paths are relative to the table's folder.

    Columns: ``case`` (without one each case is called as its image's file); ``image``
    (several channels separated by ``;``, each a path or ``name=path``) or, instead of
    ``image``, a column for each channel, named as the classifier names it; optionally
    ``segmentation`` (several files separated by ``;``)
    and ``label``, and for a training ``patient`` (whose cases stay together) and ``split``
    (train, validation or test). Common synonyms of these are accepted
    (:mod:`SaliencyExplain.studies.table_columns`); further columns are listed as not used.

    Args:
        path: The table, as :func:`SaliencyExplain.csv_text.read_table` takes it.
        channels: The classifier's channels; columns of these names are used, in
            this order.
        keep_identifiers: Let outputs name the files of DICOM cases, too.
        allowed: Called with each path before it is looked up; raises if it is not allowed.

    Raises:
        InputError: Missing column, duplicate case, missing file, empty cell; the
            message has the lines' numbers.
    """
    table = read_table(path, KNOWN)
    columns = find_columns(f"{path}, line 1", table, channels)
    columns, notes = _labels_that_are_files(path, table, columns)
    if not table.rows:
        raise InputError(
            ErrorCode.CASES_MISSING, f"{path}: the table has no cases below its header line."
        )
    names = case_names(table, columns)
    rows = _Rows(path, columns, names, allowed, _whole_numbers(table, columns.label))
    cases: list[Case] = []
    lines: dict[str, int] = {}
    for line, cells in table.rows:
        name = rows.names[line]
        first = lines.setdefault(name, line)
        if first != line:
            raise InputError(
                ErrorCode.NAME_DUPLICATE,
                f"{path}, line {line}: the case '{name}' is already on line "
                f"{first}; give each case its own name (column 'case').",
            )
        cases.append(rows.case(line, cells, keep_identifiers))
    rows.check()
    cases = unlike(cases, list(lines))
    notes = [*table.notes, *notes, *_column_notes(path, columns, cases)]
    return Found(_with_notes(cases, columns, notes), notes=notes)


@dataclass
class _Rows:
    """Makes cases of lines, and gathers the files that are missing.

    Attributes:
        path: The table.
        columns: Its columns.
        names: The name of each line's case.
        allowed: See :func:`read_cases`.
        whole: Whether all labels are whole numbers, as in ``1.0``.
        missing: ``(line, file)``.
    """

    path: Path
    columns: Columns
    names: dict[int, str]
    allowed: Callable[[Path], object] | None
    whole: bool
    missing: list[tuple[int, str]] = field(default_factory=list)

    def case(self, line: int, cells: dict[str, str], keep_identifiers: bool) -> Case:
        """The case of a line."""
        columns = self.columns
        name = self.names[line]
        if not name and columns.case is not None:
            raise self._empty(line, columns.case)
        images: list[tuple[str | None, Path]] = []
        for column in columns.images:
            if cells[column].casefold() in _NO_VALUE:
                raise self._empty(line, column)
            if columns.by_channel:
                images.append((column, self._file(line, cells[column])))
            else:
                images += [self._named(line, item) for item in items(cells[column])]
        if columns.by_channel and len(images) == 1:
            images = [(None, images[0][1])]
        masks = [self._file(line, item) for item in items(self._value(cells, columns.segmentation))]
        label = visible(_label(cells, columns.label))
        found = _WHOLE.fullmatch(label) if self.whole else None
        private = may_name_patient(one for _, one in images) and not keep_identifiers
        if private and columns.case in (None, columns.patient):
            name = f"case-{list(self.names).index(line) + 1:03d}"
        return Case(
            case=safe_name(name),
            images=tuple(images),
            segmentation=masks[0] if masks else None,
            label=(found[1] if found else label) or None,
            patient=self._value(cells, columns.patient) or None,
            split=self._value(cells, columns.split) or None,
            private=private,
            further_segmentations=tuple(masks[1:]),
        )

    def check(self) -> None:
        """Raises InputError where files are missing, and names them all at once."""
        if not self.missing:
            return
        if len(self.missing) == 1:
            line, file = self.missing[0]
            raise InputError(
                ErrorCode.FILE_MISSING, f"{self.path}, line {line}: {file} does not exist."
            )
        named = "; ".join(f"line {line}: {file}" for line, file in self.missing[:_NAMED_PROBLEMS])
        more = len(self.missing) - _NAMED_PROBLEMS
        raise InputError(
            ErrorCode.FILE_MISSING,
            f"{self.path}: {len(self.missing)} files do not exist ({named}"
            f"{f'; and {more} more' if more > 0 else ''}).",
        )

    def _value(self, cells: dict[str, str], column: str | None) -> str:
        text = cells[column] if column else ""
        return "" if text.casefold() in _NO_VALUE else text

    def _empty(self, line: int, column: str) -> InputError:
        return InputError(
            ErrorCode.CASES_TABLE, f"{self.path}, line {line}: the cell '{column}' is empty."
        )

    def _named(self, line: int, item: str) -> tuple[str | None, Path]:
        name, separator, path = item.partition("=")
        # A path may itself contain '=': then the whole cell is an existing path.
        if not separator or find_path(self.path.parent, item, self.allowed) is not None:
            return None, self._file(line, item)
        return name.strip(), self._file(line, path.strip())

    def _file(self, line: int, text: str) -> Path:
        found = find_path(self.path.parent, text, self.allowed)
        if found is None:
            self.missing.append((line, text))
            return self.path.parent / text
        return found


def _label(cells: dict[str, str], column: str | None) -> str:
    """The true class; empty where there is none. ``none`` is a class, ``None`` is not."""
    text = cells[column] if column else ""
    return "" if text == "None" or text.casefold() in _NO_LABEL else text


def _whole_numbers(table: Table, column: str | None) -> bool:
    """Whether all labels are whole numbers: pandas writes 1.0 where some are missing."""
    if column is None:
        return False
    given = [label for _, cells in table.rows if (label := _label(cells, column))]
    return all(_WHOLE.fullmatch(label) or re.fullmatch(r"[+-]?\d+", label) for label in given)


def _labels_that_are_files(path: Path, table: Table, columns: Columns) -> tuple[Columns, list[str]]:
    """The columns, with a column ``label`` of files taken as the segmentations that it names.

    Raises:
        InputError: It holds files, and there is a column of segmentations, too.
    """
    if columns.label is None:
        return columns, []
    labels = [cells[columns.label] for _, cells in table.rows if cells[columns.label]]
    if not labels or not all(image_suffix(Path(label)) for label in labels):
        return columns, []
    if columns.segmentation is not None:
        raise InputError(
            ErrorCode.CASES_TABLE,
            f"{path}: the columns '{columns.segmentation}' and '{columns.label}' both name files; "
            "a label is the name of a class.",
        )
    note = f"{path.name}: the column '{columns.label}' names files, so they are segmentations."
    return replace(columns, segmentation=columns.label, label=None), [note]


def _column_notes(path: Path, columns: Columns, cases: Sequence[Case]) -> list[str]:
    """Notes on how the table's columns were used."""
    notes = []
    taken = [
        f"'{name}' as {meaning}"
        for name, meaning in (
            (columns.case, "case"),
            (columns.segmentation, "segmentation"),
            (columns.label, "label"),
        )
        if name is not None and name.casefold() != meaning
    ]
    if columns.case is None:
        notes.append(
            f"{path.name}: no single column names the cases; each is named after its image."
        )
    if taken:
        notes.append(f"{path.name}: takes the column {' and '.join(taken)}.")
    if columns.unused:
        named = some_of(columns.unused, 20)
        without = [
            meaning
            for name, meaning in ((columns.segmentation, "segmentation"), (columns.label, "label"))
            if name is None
        ]
        words = f" No column was taken as {' or '.join(without)}." if without else ""
        notes.append(f"{path.name}: not used: the columns {named}.{words}")
    unlabelled = sum(case.label is None for case in cases)
    if columns.label and unlabelled:
        notes.append(f"{path.name}: {unlabelled} of {len(cases)} cases have no label.")
    return notes


def _with_notes(cases: list[Case], columns: Columns, notes: Sequence[str]) -> list[Case]:
    """The cases; where their segmentation or label may be in an unused column, with a note."""
    if not columns.unused or (columns.segmentation and columns.label):
        return cases
    said = tuple(note for note in notes if "not used: the columns" in note)
    return [replace(case, notes=(*case.notes, *said)) for case in cases]
