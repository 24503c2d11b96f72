from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.json_fields import Fields
from SaliencyExplain.records.case_entry import CaseEntry, MapEntry, StageFailure
from SaliencyExplain.records.evaluation_summary import EvaluationSummary
from SaliencyExplain.records.journal_file import JOURNAL, JournalFile
from SaliencyExplain.records.study_rows import study_rows
from SaliencyExplain.results.evaluation_results import Answer

from .conftest import Explained


def test_the_journal_holds_the_entry_and_gives_it_back(explained: Explained) -> None:
    line = (explained.out / JOURNAL).read_text(encoding="utf-8").splitlines()[1]
    assert json.dumps(explained.entry.as_json(), ensure_ascii=False, separators=(",", ":")) == line
    journal = JournalFile.read(explained.out)
    (known,) = journal.entries()
    assert known.as_json() == explained.entry.as_json()
    assert known.result.rows[0].segment == "tumour"
    assert known.result.predicted(journal.classes) == explained.record.predicted
    assert journal.length_unit() == explained.record.image.length_unit


def evaluated(explained: Explained) -> CaseEntry:
    """The case with an evaluation of its maps."""
    answers = {"gradient": (Answer("Does it beat chance?", "yes", "deletion area 0.1"),)}
    summary = EvaluationSummary(100.0, "least", (), answers, {"card-gradient.png": 12})
    return replace(explained.entry, result=replace(explained.entry.result, evaluation=summary))


def test_an_evaluation_is_kept_with_the_entry(explained: Explained) -> None:
    entry, classes = evaluated(explained), list(explained.record.probabilities)
    known = CaseEntry.from_json(Fields(entry.as_json(), JOURNAL), classes)
    assert known.result.evaluation == entry.result.evaluation
    assert known.result.evaluation.answers["gradient"][0].line == "● beats chance: yes"


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("case",), "../P1"),
        (("done",), 1),
        (("label",), 3),
        (("failures",), [{"stage": "writing"}]),
        (("target",), "no class"),
        (("probabilities",), [1.0]),
        (("probabilities", 0), float("nan")),
        (("maps", 0, "files"), "a/b"),
        (("maps", 0, "bytes", ".nii.gz"), -1),
        (("maps", 0, "bytes"), {"../x": 1}),
        (("rows", 0, "auroc"), "high"),
        (("evaluation", "maps", 0, "card"), "/etc/passwd"),
        (("evaluation", "maps", 0, "answers", 0, "answer"), "perhaps"),
        (("notes",), [None]),
    ],
)
def test_a_damaged_field_is_refused_and_named(
    explained: Explained, place: tuple[str | int, ...], value: object
) -> None:
    entry = copy.deepcopy(evaluated(explained).as_json())
    parent = entry
    for part in place[:-1]:
        parent = parent[part]
    parent[place[-1]] = value
    classes = list(explained.record.probabilities)
    with pytest.raises(InputError) as refused:
        CaseEntry.from_json(Fields(entry, JOURNAL), classes)
    assert refused.value.code is ErrorCode.STUDY_INCOMPLETE
    assert JOURNAL in str(refused.value)
    assert str(place[0]) in str(refused.value)


def test_new_failures_stand_for_those_of_their_stage() -> None:
    first = StageFailure("explaining with gradcam", "SE-LAYER", "no layer")
    scene = StageFailure("making the scene", "SE-SCENE-FILE", "no room")
    entry = CaseEntry("P1", "", None, (first, scene))
    assert entry.failed_methods == {"gradcam"}
    again = StageFailure("making the scene", "SE-SCENE-FILE", "still none")
    assert entry.failing(again).failures == (first, again)
    assert entry.failing(stages=[first.stage]).failures == (scene,)
    assert entry.reason == "no layer; no room"


def test_a_map_says_its_method_and_its_files() -> None:
    one = MapEntry("gradcam@conv", "gradcam@conv-ill", {})
    assert (one.method, one.files.picture) == ("gradcam", "gradcam@conv-ill.png")


def test_the_table_of_cases_says_what_the_journal_does(explained: Explained) -> None:
    (row,) = study_rows(JournalFile.read(explained.out))
    assert (row.number, row.case, row.explained) == (0, explained.entry.case, True)
    assert row.predicted == explained.record.predicted
    assert row.probability == max(explained.record.probabilities.values())
    assert row.right in ("yes", "no")
    assert list(row.agreement) == ["gradient in tumour"]


def test_what_was_left_out_of_a_study_is_said_and_a_damaged_note_refused(tmp_path: Path) -> None:
    first = {
        "classes": ["a", "b"],
        "left_out": [{"reason": "no image", "count": 7, "files": ["notes.docx"]}],
    }
    (tmp_path / JOURNAL).write_text(json.dumps(first) + "\n{}\n")
    (note,) = JournalFile.read(tmp_path).notes()
    assert "7 files" in note
    assert "notes.docx" in note
    first["left_out"][0]["count"] = "many"
    (tmp_path / JOURNAL).write_text(json.dumps(first) + "\n")
    with pytest.raises(InputError, match=r"left_out\[0\].count"):
        JournalFile.read(tmp_path).notes()
