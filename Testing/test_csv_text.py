"""Tables: written so that no spreadsheet computes them, read as spreadsheets write them."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from SaliencyExplain.csv_text import (
    LARGEST_BYTES,
    raw_cell,
    read_table,
    safe_cell,
    table_text,
)
from SaliencyExplain.errors import ErrorCode, InputError

FORMULAS = (
    "=1+1",
    "+cmd|'/C calc'!A0",
    "-cmd",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "a\r=1",
    "'=1",
    "''@x",
    "＝1+1",
)


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_is_text_in_a_spreadsheet_and_comes_back_as_it_was(text: str) -> None:
    written = next(csv.reader(io.StringIO(table_text([[text, "x"]]), newline="")))
    assert written[0][0] not in "=+-@\t\r\n＝"
    assert raw_cell(written[0]) == text


@pytest.mark.parametrize(
    "value", [-0.5, 1e-9, -1e-300, "-0.5", "+3", "-1.5e-07", float("-inf"), None, "", "a-b", "'tis"]
)
def test_numbers_and_plain_words_stay_as_they_are(value: object) -> None:
    assert safe_cell(value) == ("" if value is None else str(value))
    assert raw_cell(safe_cell(value)) == safe_cell(value)


def rows(path: Path, content: bytes | str, encoding: str = "utf-8") -> list[dict[str, str]]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return [cells for _, cells in read_table(path, ("case", "image")).rows]


WANTED = [{"case": "Ä 1", "image": "a.nii"}, {"case": "2", "image": "b.nii"}]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("case,image\nÄ 1,a.nii\n2,b.nii\n", "utf-8"),
        ("case,image\r\nÄ 1,a.nii\r\n2,b.nii\r\n", "utf-8-sig"),
        ("case,image\rÄ 1,a.nii\r2,b.nii", "utf-8"),
        ("case;image\nÄ 1;a.nii\n2;b.nii\n", "utf-16"),
        ("case\timage\nÄ 1\ta.nii\n2\tb.nii\n", "utf-16-le"),
        ("case|image\nÄ 1|a.nii\n2|b.nii\n", "cp1252"),
        ("sep=;\ncase;image\nÄ 1;a.nii\n2;b.nii\n", "utf-8-sig"),
        ('\n\n"case", image ,,\n  Ä 1 ,a.nii  ,,\n,,,\n2,b.nii\xa0,,\n,,,\n', "utf-8"),
        (",case,image\n0,Ä 1,a.nii\n1,2,b.nii\n", "utf-8"),
        ('case,image\n"Ä 1","a.nii"\n2,b.nii,,\n', "utf-8"),
        ("case,image\nA\u0308 1,a.nii\n2,b.nii\n", "utf-8"),
    ],
)
def test_tables_of_spreadsheets_and_pandas_are_read(
    tmp_path: Path, text: str, encoding: str
) -> None:
    assert rows(tmp_path / "t.csv", text, encoding) == WANTED


def test_a_comma_in_a_quoted_header_is_no_delimiter(tmp_path: Path) -> None:
    text = 'case;image;"age, in years, at scan, about"\n1;a.nii;"4,5"\n'
    assert rows(tmp_path / "t.csv", text) == [
        {"case": "1", "image": "a.nii", "age, in years, at scan, about": "4,5"}
    ]


def test_what_was_guessed_is_said(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("case,image,\nÄ,a.nii,7\n".encode("cp1252"))
    notes = " ".join(read_table(path).notes)
    assert "Windows-1252" in notes
    assert "without a name" in notes


@pytest.mark.parametrize(
    "content",
    [
        b"case,image\n1,a\0b.nii\n",
        b"case,image\n" + b"x" * 300_000 + b",a.nii\n",
        b"case," + b"x," * 5_000 + b"image\n",
        b"case,case\n1,2\n",
        b'case,image\n1,"a.nii\n',
        b"case,image\n1\n",
        b"\x81\x8d\x8f\x90\x9d",
    ],
)
def test_what_is_no_table_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InputError) as error:
        rows(tmp_path / "t.csv", content)
    assert error.value.code is ErrorCode.CASES_TABLE
    assert "t.csv" in str(error.value)


def test_a_file_too_large_for_a_table_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    with path.open("wb") as file:
        file.truncate(LARGEST_BYTES + 1)
    with pytest.raises(InputError) as error:
        read_table(path)
    assert error.value.code is ErrorCode.CASES_TABLE
