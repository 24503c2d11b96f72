"""Tables as text: the one way in which they are written and read.

What is written opens in spreadsheets without being computed there; what is read may come out
of Excel, pandas or an editor.
"""

from __future__ import annotations

import csv
import io
import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from SaliencyExplain.errors import ErrorCode, InputError

#: A table of 100,000 cases has 20 MB. What is larger is none.
LARGEST_BYTES = 64_000_000
MOST_COLUMNS = 2_000
_DELIMITERS = (",", ";", "\t", "|")
#: What Excel, LibreOffice and Google's tables take for a formula, in either width.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_QUOTED_FORMULA = re.compile(r"''*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)")
_HALVES = re.compile("[\ud800-\udfff]")
_BLANK = " \t\r\n\xa0\u200b\ufeff"


def safe_cell(value: Any) -> str:
    """A cell that no spreadsheet computes: text like a formula gets an apostrophe in front.

    ``=1+1``, ``-cmd``, ``@SUM`` and text that begins with a tab or a carriage return would be
    computed, and can run programs. Numbers (-0.5) stay as they are. An apostrophe that
    stood before such a text gets another one, so that :func:`raw_cell` gives back what was
    written, whatever it was.

    Source: OWASP, "CSV Injection".
    """
    # Halves of characters, which names of files may hold, are in no encoding.
    text = "" if value is None else _HALVES.sub("\ufffd", str(value))
    if _FORMULA.match(text) and not _NUMBER.fullmatch(text):
        return f"'{text}"
    return text


def raw_cell(text: str) -> str:
    """The text that :func:`safe_cell` was given."""
    return text[1:] if _QUOTED_FORMULA.match(text) else text


def figure_cell(value: float) -> str:
    """A figure with six digits for a table; empty where it is not defined (NaN)."""
    # Minus zero would be another text for the same figure.
    return "" if math.isnan(value) else f"{value + 0.0:.6g}"


class Writer:
    """Writes the lines of a table; every cell as :func:`safe_cell` has it.

    Args:
        file: Opened with ``newline=""`` and UTF-8, so that the bytes are the same everywhere.
    """

    def __init__(self, file: TextIO) -> None:
        self._writer = csv.writer(file, lineterminator="\n")
        self._quoting = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def writerow(self, cells: Iterable[Any]) -> None:
        """Writes one line."""
        line = [safe_cell(cell) for cell in cells]
        # csv quotes line breaks and not a carriage return, where spreadsheets begin a new line.
        writer = self._quoting if any("\r" in cell for cell in line) else self._writer
        writer.writerow(line)

    def writerows(self, lines: Iterable[Iterable[Any]]) -> None:
        """Writes several lines."""
        for line in lines:
            self.writerow(line)


def table_text(lines: Iterable[Iterable[Any]]) -> str:
    """A table as one text."""
    file = io.StringIO()
    Writer(file).writerows(lines)
    return file.getvalue()


@dataclass(frozen=True)
class Table:
    """A table that somebody made.

    Attributes:
        columns: The header's cells, without blanks around them; different from each other.
        rows: ``(number of its line, {column: cell})``; lines without any text are left out.
        notes: What was guessed or left out, to be said aloud.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str]], ...]
    notes: tuple[str, ...] = ()


def read_table(path: Path, known: Sequence[str] = ()) -> Table:
    """Reads a table with a header, as Excel, LibreOffice, pandas and editors write it.

    UTF-8 or UTF-16 with a mark or without, else Windows-1252 with a note; comma, semicolon, tab
    or bar between the columns, also where a first line ``sep=;`` says it. Lines and columns
    without any text are left out; a column without a name, such as pandas' index, too, with a
    note.

    Args:
        path: The table.
        known: Names of columns, in lower case, by which the delimiter is chosen.

    Raises:
        InputError: It cannot be read, is too large, no text, or no table.
    """
    text, notes = _text(path)
    first, _, rest = text.partition("\n")
    skipped = 0
    given = re.fullmatch(r"\"?sep=(.)\"?[\s,;]*", first, re.IGNORECASE)
    if given:
        text, skipped = rest, 1
    delimiter = given[1] if given else _delimiter(path, text, known)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    lines: list[tuple[int, list[str]]] = []
    try:
        for cells in reader:
            if any(cell.strip(_BLANK) for cell in cells):
                lines.append((reader.line_num + skipped, [_clean(cell) for cell in cells]))
    except csv.Error as error:
        raise InputError(
            ErrorCode.CASES_TABLE,
            f"{path}, line {reader.line_num + skipped}: not a CSV ({error}).",
        ) from None
    if not lines:
        raise InputError(ErrorCode.CASES_MISSING, f"{path}: the table is empty.")
    return _made(path, lines, notes)


def _made(path: Path, lines: list[tuple[int, list[str]]], notes: list[str]) -> Table:
    number, header = lines[0]
    if len(header) > MOST_COLUMNS:
        raise InputError(
            ErrorCode.CASES_TABLE,
            f"{path}: the table has {len(header)} columns; at most {MOST_COLUMNS} are read.",
        )
    names = [name for name in header if name]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(
            ErrorCode.CASES_TABLE,
            f"{path}, line {number}: a column occurs twice ({', '.join(twice)}).",
        )
    unnamed = 0
    rows = []
    for line, cells in lines[1:]:
        # Spreadsheets write empty cells behind the last column, and none where all are empty.
        if len(cells) < len(header) and not any(header[len(cells) :]):
            cells = [*cells, *[""] * (len(header) - len(cells))]
        if len(cells) < len(header) or any(cells[len(header) :]):
            raise InputError(
                ErrorCode.CASES_TABLE,
                f"{path}, line {line}: the line has another number of cells than the header "
                f"({len(cells)}, not {len(header)}).",
            )
        pairs = list(zip(header, cells, strict=False))
        unnamed += any(cell and not name for name, cell in pairs)
        rows.append((line, {name: cell for name, cell in pairs if name}))
    if unnamed:
        notes = [*notes, "a column without a name is not used"]
    return Table(tuple(names), tuple(rows), tuple(f"{path.name}: {note}." for note in notes))


def _clean(cell: str) -> str:
    return raw_cell(unicodedata.normalize("NFC", cell.strip(_BLANK)))


def _text(path: Path) -> tuple[str, list[str]]:
    try:
        size = path.stat().st_size
        if size > LARGEST_BYTES:
            raise InputError(
                ErrorCode.CASES_TABLE,
                f"{path}: has {size / 1e6:.0f} MB; a table of cases has at most "
                f"{LARGEST_BYTES / 1e6:.0f}.",
            )
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            ErrorCode.CASES_TABLE, f"{path}: cannot be read as a table of cases ({error.strerror})."
        ) from None
    text, notes = _decoded(path, content)
    if "\0" in text:
        raise InputError(ErrorCode.CASES_TABLE, f"{path}: holds NUL bytes, so it is no table.")
    # Old Macs end a line with a carriage return alone.
    return text if "\n" in text else text.replace("\r", "\n"), notes


def _decoded(path: Path, content: bytes) -> tuple[str, list[str]]:
    encodings = ["utf-8-sig"]
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        encodings = ["utf-16"]
    elif content[1:2] == b"\0" and content[:1] != b"\0":
        encodings = ["utf-16-le"]
    elif content[:1] == b"\0" and content[1:2] != b"\0":
        encodings = ["utf-16-be"]
    for encoding in encodings:
        try:
            return content.decode(encoding), []
        except UnicodeDecodeError:
            continue
    try:
        words = "not UTF-8; read as Windows-1252, so check names with accents"
        return content.decode("cp1252"), [words]
    except UnicodeDecodeError as error:
        raise InputError(
            ErrorCode.CASES_TABLE,
            f"{path}: cannot be read as a table of cases (neither UTF-8, UTF-16 nor "
            f"Windows-1252: {error.reason}).",
        ) from None


def _delimiter(path: Path, text: str, known: Sequence[str]) -> str:
    """The delimiter with which the header has the most known names, then the most columns."""
    best, most = ",", (-1, -1)
    for delimiter in _DELIMITERS:
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        try:
            header = next((one for one in lines if any(cell.strip() for cell in one)), [])
        except csv.Error:
            continue
        names = [cell.strip(_BLANK).casefold() for cell in header]
        found = (sum(name in known for name in names), len(names))
        if found > most:
            best, most = delimiter, found
    return best
