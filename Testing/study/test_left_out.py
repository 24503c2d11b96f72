"""What a study says of the files that are no part of its cases, and of names that would act."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from SaliencyExplain.evaluation.study.case_truth import TruthReader
from SaliencyExplain.evaluation.study.finished_study import read_study
from SaliencyExplain.studies.discovery import discover
from SaliencyExplain.studies.journal import Journal
from SaliencyExplain.studies.run import run_study
from Testing.studies import config_of

ACTING = "\x1b[2J\u202e<script>alert(1)<\u2044script>"


def test_a_study_tells_what_it_left_out_and_nothing_in_a_name_acts(
    study_folder: Callable[[int], Path], bundle: Path, tmp_path: Path
) -> None:
    folder = study_folder(1)
    for name in ("=1+1", "failures.csv", f"{ACTING}\n"):
        shutil.copy(folder / "P1_image.nii.gz", folder / f"{name}_image.nii.gz")
    shutil.copy(folder / "P1_mask.nii.gz", folder / f"{ACTING}\n_mask.nii.gz")
    (folder / f"{ACTING}.docx").write_bytes(b"")
    (folder / "Thumbs.db").write_bytes(b"")
    with open(os.fsencode(folder) + b"/caf\xe9.xls", "wb"):
        pass
    work = config_of(bundle, tmp_path / "out", "gradient")
    result = run_study(discover(folder), work)
    assert (result.total, result.failed) == (4, 0)
    for word in ("Thumbs.db", ".docx", "caf", "3 files", "1 file"):
        assert any(word in note for note in result.notes) or word == "3 files"
    journal = Journal.read(result.out)
    assert sum(one["count"] for one in journal.configuration["left_out"]) == 3
    report = result.report.read_text(encoding="utf-8")
    assert "Thumbs.db" in report
    assert "<script>alert" not in report
    assert "\x1b" not in report
    assert "\u202e" not in report
    for path in (result.out / "journal.jsonl", *result.out.glob("*/explanation.json")):
        text = path.read_text(encoding="utf-8")
        assert text.replace("\n", "").isprintable()
        assert json.loads(text.splitlines()[0] if path.suffix == ".jsonl" else text)
    with (result.out / "predictions.csv").open(newline="", encoding="utf-8") as file:
        names = [row["case"] for row in csv.DictReader(file)]
    assert "'=1+1" in names
    assert (result.out / "=1+1" / "explanation.json").is_file()
    assert "failures.csv_" in names
    assert (result.out / "failures.csv").is_file()
    again = run_study(discover(folder), work)
    assert again.resumed == again.total
    assert again.report.read_text(encoding="utf-8") == report


def test_files_beside_dicom_series_are_counted_and_not_named(tmp_path: Path) -> None:
    from SaliencyExplain.studies.found import left_out_files

    reasons = {tmp_path / "DOE^JANE.txt": "no image", tmp_path / "ROE.txt": "no image"}
    (one,) = left_out_files(tmp_path, reasons, named=False)
    assert "DOE" not in one.sentence()
    assert "2 files" in one.sentence()


def test_all_masks_of_an_image_are_compared_with_and_read_again(
    study_folder: Callable[[int], Path], bundle: Path, tmp_path: Path
) -> None:
    folder = study_folder(1)
    whole = folder / "P1_mask.nii.gz"
    mask = nibabel.load(whole)
    values = np.asarray(mask.dataobj)
    # Every second slice of the ball in each of two files, and nothing in the third.
    slices = np.arange(values.shape[2])
    for number, kept in enumerate((slices % 2 == 0, slices % 2 == 1, slices < 0), start=1):
        part = nibabel.Nifti1Image(np.where(kept, values, 0).astype(np.uint8), mask.affine)
        nibabel.save(part, folder / f"P1_mask_{number}.nii.gz")
    whole.unlink()
    work = config_of(bundle, tmp_path / "out", "gradient")
    (case,) = discover(folder)
    assert len(case.segmentations) == 3
    run_study([case], work)
    said = json.loads((tmp_path / "out" / "P1" / "explanation.json").read_text())
    assert said["segments"] == ["segmentation"]
    share = said["attributions"][0]["comparison"][0]["energy_chance"]
    assert share == pytest.approx(values.mean(), rel=1e-6)
    study = read_study(tmp_path / "out")
    (segment,) = TruthReader(study, None).segments(study.cases[0]).values()
    assert segment.sum() == values.sum()
