"""Where the files of cases lie is found again, and is not written of patients."""

from __future__ import annotations

import json
import shutil

import pytest

from SaliencyExplain.demo.study import classifier_folder, write_phantom_study
from SaliencyExplain.evaluation.study.finished_study import read_study
from SaliencyExplain.evaluation.study.study_evaluation import evaluate_study
from SaliencyExplain.records.case_entry import CaseEntry
from SaliencyExplain.studies.case import Case
from SaliencyExplain.studies.discovery import discover
from SaliencyExplain.studies.origins import case_of, origin_of
from SaliencyExplain.studies.run import run_study
from Testing.studies import config_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("origins")
    table = write_phantom_study(folder / "data", dimensions=2, cases=8, seed=5, marker=False)
    bundle = classifier_folder("phantom-2d-honest")
    run_study(discover(table), config_of(bundle, folder / "out", "gradient"))
    return folder


def test_an_evaluation_reads_the_cases_that_the_journal_names(study):
    found = evaluate_study(study / "out")
    given = evaluate_study(study / "out", cases=study / "data" / "cases.csv")
    assert found.segments_known
    assert found.places == given.places
    assert found.fixed_places == given.fixed_places
    assert not any("--cases" in note for note in found.notes)


def test_study_and_images_may_move_together(study, tmp_path):
    shutil.copytree(study, tmp_path / "moved")
    origins = read_study(tmp_path / "moved" / "out").origins
    assert {case.paths[0].parent for case in origins.values()} == {tmp_path / "moved" / "data"}


def test_where_the_files_are_gone_or_unreadable_it_is_said(study, tmp_path):
    shutil.copytree(study / "out", tmp_path / "alone" / "out")
    found = evaluate_study(tmp_path / "alone" / "out")
    assert not found.segments_known
    assert any("--cases" in note for note in found.notes)
    shutil.copytree(study, tmp_path / "moved")
    (tmp_path / "moved" / "data" / "phantom-001_image.png").write_bytes(b"no picture")
    found = evaluate_study(tmp_path / "moved" / "out")
    assert not found.segments_known
    assert any("--cases" in note and "phantom-001" in note for note in found.notes)


def test_paths_that_may_name_a_patient_are_not_written(tmp_path):
    images = (("t1", tmp_path / "MUELLER_ANNA" / "1"),)
    assert origin_of(Case("case-001", images, private=True), tmp_path / "out") is None
    open_case = Case(
        "P1", images, tmp_path / "mask.nii.gz", label="tumour", series="1.2",
        further_segmentations=(tmp_path / "mask_1.nii.gz",),
    )  # fmt: skip
    files = origin_of(open_case, tmp_path / "out")
    assert str(tmp_path) not in json.dumps(files.as_json())
    entry = CaseEntry("P1", "", "tumour")
    assert case_of(entry, files, tmp_path / "out") == open_case
    assert case_of(entry, None, tmp_path / "out") is None
