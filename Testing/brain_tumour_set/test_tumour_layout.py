"""A folder of the brain tumour set is a study, its patients known and never named."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from SaliencyExplain.errors import ErrorCode
from SaliencyExplain.studies.case import describe_cases
from SaliencyExplain.studies.discovery import discover
from Testing.brain_tumour_set.tumour_slices import picture, write_tumour_slice
from Testing.expected_errors import error_with


@pytest.fixture
def folder(tmp_path):
    """The set in two folders, as it comes, with the file of its folds beside it."""
    for number in range(1, 13):
        part = "1-6" if number < 7 else "7-12"
        write_tumour_slice(
            tmp_path / f"brainTumorDataPublic_{part}" / f"{number}.mat",
            *picture(),
            label=1 + number % 3,
            patient=f"10{number // 2}",
        )
    write_tumour_slice(tmp_path / "cvind.mat", *picture(), structure="cvind")
    return tmp_path


def test_each_slice_is_a_case_with_label_mask_and_patient(folder):
    cases = discover(folder)
    assert [case.case for case in cases] == [
        f"brainTumorDataPublic_{'1-6' if n < 7 else '7-12'}-{n}" for n in range(1, 13)
    ]
    assert [case.label for case in cases[:3]] == ["glioma", "pituitary", "meningioma"]
    assert [case.patient for case in cases[:4]] == ["100", "101", "101", "102"]
    assert all(case.segmentation == case.paths[0] for case in cases)
    assert not any("10" in line.split(":", 1)[1] for line in describe_cases(cases))


def test_a_damaged_slice_costs_only_itself(folder):
    damaged = folder / "brainTumorDataPublic_1-6" / "3.mat"
    damaged.write_bytes(damaged.read_bytes()[:900])
    cases = discover(folder)
    assert len(cases) == 12
    assert [case.case for case in cases if case.label is None] == ["brainTumorDataPublic_1-6-3"]


def test_matlab_files_of_another_kind_are_refused_by_name(tmp_path):
    write_tumour_slice(tmp_path / "cvind.mat", *picture(), structure="cvind")
    with error_with(ErrorCode.CASES_MISSING, str(tmp_path)):
        discover(tmp_path)
    (tmp_path / "cvind.mat").write_bytes(b"MATLAB 5.0 MAT-file".ljust(300))
    with error_with(ErrorCode.FILE_FORMAT, "cvind.mat", "-v7.3"):
        discover(tmp_path)


def test_the_reason_is_given_for_matlab_files_that_are_no_cases(folder):
    (reason,) = discover(folder).left_out
    assert reason.count == 1
    assert reason.files == ("cvind.mat",)


def test_matlab_files_beside_pictures_are_no_study_of_their_own(tmp_path):
    image, mask = picture()
    Image.fromarray(image.astype(np.uint8)).save(tmp_path / "a_image.png")
    write_tumour_slice(tmp_path / "a.mat", image, mask)
    (case,) = discover(tmp_path)
    assert case.paths[0].name == "a_image.png"


def test_folders_of_a_split_with_a_folder_per_class_are_recognised(tmp_path):
    image, _ = picture()
    for part, count in (("Training", 3), ("Testing", 2)):
        for label in ("glioma", "none"):
            for number in range(count):
                (tmp_path / part / label).mkdir(parents=True, exist_ok=True)
                Image.fromarray(image.astype(np.uint8)).save(
                    tmp_path / part / label / f"{number}.png"
                )
    cases = discover(tmp_path)
    assert len(cases) == 10
    assert {case.split for case in cases if case.case.startswith("Training")} == {"Training"}
    assert {case.label for case in cases} == {"glioma", "none"}
    assert "Testing-none-1" in {case.case for case in cases}
