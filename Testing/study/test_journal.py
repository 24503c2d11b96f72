from __future__ import annotations

import os
from pathlib import Path

import pytest

from SaliencyExplain.errors import ErrorCode
from SaliencyExplain.records.case_entry import CaseEntry, CaseResult
from SaliencyExplain.records.journal_file import JOURNAL
from SaliencyExplain.studies.case import Case
from SaliencyExplain.studies.journal import Journal, source_digest
from Testing.expected_errors import error_with

CONFIGURATION = {
    "classifier": "a",
    "classes": ["healthy", "ill"],
    "methods": [{"name": "gradcam", "layers": ("x",)}],
    "seed": 0,
}


def entry(case: str, *notes: str, done: bool = True) -> CaseEntry:
    result = CaseResult("mm", "ill", (0.0, 1.0), (), (), notes)
    return CaseEntry(case, "", None, result=result if done else None)


def test_what_was_appended_is_there_when_opened_again(tmp_path: Path) -> None:
    journal = Journal.begin(tmp_path, CONFIGURATION)
    journal.append(entry("P1", "resampled"))
    journal.append(entry("Läsion"))
    again = Journal.begin(tmp_path, CONFIGURATION)
    assert list(again.entries()) == [entry("P1", "resampled"), entry("Läsion")]
    assert "P1" in again
    assert "P2" not in again


def test_the_last_line_of_a_case_counts(tmp_path: Path) -> None:
    journal = Journal.begin(tmp_path, CONFIGURATION)
    journal.append(entry("P1", done=False))
    journal.append(entry("P2"))
    journal.append(entry("P1", done=True))
    assert Journal.read(tmp_path).entry("P1") == entry("P1")
    assert len(Journal.read(tmp_path)) == 2


@pytest.mark.parametrize("torn", [b'{"case":"P2","do', b"\0" * 512, b'{"case":"P2"}', b"\n"])
def test_a_torn_last_line_is_cut_off_and_the_journal_goes_on(tmp_path: Path, torn: bytes) -> None:
    Journal.begin(tmp_path, CONFIGURATION).append(entry("P1"))
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(torn)
    journal = Journal.begin(tmp_path, CONFIGURATION)
    assert journal.cases() == ["P1"]
    journal.append(entry("P2"))
    assert Journal.read(tmp_path).cases() == ["P1", "P2"]


def test_reading_a_torn_journal_changes_no_byte(tmp_path: Path) -> None:
    Journal.begin(tmp_path, CONFIGURATION).append(entry("P1"))
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(b'{"cas')
    before = (tmp_path / JOURNAL).read_bytes()
    assert Journal.read(tmp_path).cases() == ["P1"]
    assert (tmp_path / JOURNAL).read_bytes() == before


def test_another_configuration_is_refused_and_what_differs_is_said(tmp_path: Path) -> None:
    Journal.begin(tmp_path, CONFIGURATION)
    with error_with(ErrorCode.STUDY_CONFIGURATION, "seed: 0 there, 1 now"):
        Journal.begin(tmp_path, {**CONFIGURATION, "seed": 1})


def test_the_number_of_threads_is_kept_from_the_first_run(tmp_path: Path) -> None:
    Journal.begin(tmp_path, {**CONFIGURATION, "threads": 3})
    again = Journal.begin(tmp_path, {**CONFIGURATION, "threads": 8})
    assert again.configuration["threads"] == 3


def test_a_damaged_first_line_is_said(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_bytes(b'{"classif')
    with error_with(ErrorCode.FILE_DAMAGED, "journal.jsonl"):
        Journal.begin(tmp_path, CONFIGURATION)


def test_settled_journals_do_not_tell_in_which_order_cases_were_done(tmp_path: Path) -> None:
    for name, order in (("a", "312"), ("b", "123")):
        journal = Journal.begin(tmp_path / name, CONFIGURATION)
        for case in order:
            journal.append(entry(f"P{case}", done=False))
        for case in order:
            journal.append(entry(f"P{case}"))
        journal.settle(["P1", "P2", "P3"])
        assert journal.cases() == ["P1", "P2", "P3"]
        assert journal.entry("P2") == entry("P2")
    assert (tmp_path / "a" / JOURNAL).read_bytes() == (tmp_path / "b" / JOURNAL).read_bytes()


def test_a_changed_file_or_label_changes_the_digest(tmp_path: Path) -> None:
    image = tmp_path / "image.nii"
    image.write_bytes(b"12")
    case = Case("P", ((None, image),), label="a")
    before = source_digest(case)
    assert source_digest(case) == before
    assert source_digest(Case("P", ((None, image),), label="b")) != before
    os.utime(image, ns=(1, 1))
    assert source_digest(case) != before
    image.unlink()
    with error_with(ErrorCode.FILE_UNREADABLE, "image.nii"):
        source_digest(case)
