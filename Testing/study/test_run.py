from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from SaliencyExplain.attribution.registry import find_method
from SaliencyExplain.errors import Cancelled, ErrorCode, InputError
from SaliencyExplain.images.segmentation import EMPTY_NOTE
from SaliencyExplain.studies import case_work
from SaliencyExplain.studies.case_reading import read_ahead
from SaliencyExplain.studies.discovery import discover
from SaliencyExplain.studies.run import StudyProgress, run_study
from SaliencyExplain.studies.single import explain_case
from Testing.expected_errors import error_with
from Testing.studies import config_of
from Testing.study.conftest import write_nifti
from Testing.study.study_runs import METHODS, content, study, table
from Testing.waiting import until

pytestmark = pytest.mark.slow


def test_a_study_writes_what_the_tables_promise(
    study_folder: Callable[[int], Path], bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = study(study_folder(2), bundle, out, target="tumour")
    assert (result.total, result.resumed, result.failed) == (2, 0, 0)
    names = {path.name for path in (out / "P1").iterdir()}
    maps = {name.removesuffix(".nii.gz") for name in names if name.endswith(".nii.gz")}
    assert {name.partition("@")[0].partition("-")[0] for name in maps} == set(METHODS)
    suffixes = (".nii.gz", ".seg.nrrd", ".png")
    assert names == {f"{m}{suffix}" for m in maps for suffix in suffixes} | {"explanation.json"}
    image = nibabel.load(tmp_path / "data" / "P1_image.nii.gz")
    written = nibabel.load(out / "P1" / "gradient-tumour.nii.gz")
    assert written.shape == image.shape
    np.testing.assert_allclose(written.affine, image.affine)

    rows = table(out / "comparison.csv")
    assert [row["case"] for row in rows] == ["P1"] * 4 + ["P2"] * 4
    assert [row["method"].partition("@")[0] for row in rows[:4]] == [*METHODS, "random", "centre"]
    explanation = json.loads((out / "P1" / "explanation.json").read_text())
    assert explanation["target"] == {"index": 1, "name": "tumour"}
    own = next(a for a in explanation["attributions"] if a["method"] == "gradient")
    assert own["comparison"][0]["auroc"] == pytest.approx(float(rows[1]["auroc"]), rel=1e-5)
    assert {row["method"] for row in explanation["control_maps"]} == {"random", "centre"}
    prediction = table(out / "predictions.csv")[0]
    assert float(prediction["p_tumour"]) == pytest.approx(
        explanation["prediction"]["probabilities"]["tumour"], rel=1e-5
    )
    assert (out / "failures.csv").read_text() == "case,stage,code,reason\n"
    assert not (out / ".partial").exists()


def test_a_bad_case_costs_only_itself(
    study_folder: Callable[[int], Path], bundle: Path, tmp_path: Path
) -> None:
    folder = study_folder(4)
    (folder / "P1_image.nii.gz").write_bytes(b"no image")
    image = nibabel.load(folder / "P2_image.nii.gz")
    write_nifti(folder / "P2_mask.nii.gz", image.get_fdata())
    write_nifti(folder / "P3_image.nii.gz", np.zeros((6, 6, 6, 4), np.float32))
    out = tmp_path / "out"
    result = study(folder, bundle, out)
    assert result.failed == 3
    failures = {row["case"]: row for row in table(out / "failures.csv")}
    assert list(failures) == ["P1", "P2", "P3"]
    assert failures["P1"]["stage"] == "reading the image"
    assert failures["P2"]["stage"] == "reading the segmentation"
    assert failures["P1"]["code"] == "SE-FILE-DAMAGED"
    assert failures["P2"]["code"] == "SE-SEGMENTATION-LABELS"
    assert "\n" not in failures["P1"]["reason"]
    # An image given as its mask cannot be compared with, but the map is there.
    assert [row["case"] for row in table(out / "predictions.csv")] == ["P2", "P4"]
    assert {row["case"] for row in table(out / "comparison.csv")} == {"P4"}
    assert (out / "P2" / "explanation.json").is_file()
    assert not (out / "P1").exists()


def test_a_case_in_whose_mask_nothing_is_marked_is_explained_and_has_a_note(
    study_folder: Callable[[int], Path], bundle: Path, tmp_path: Path
) -> None:
    folder = study_folder(2)
    mask = nibabel.load(folder / "P1_mask.nii.gz")
    write_nifti(folder / "P1_mask.nii.gz", np.zeros(mask.shape, np.uint8))
    out = tmp_path / "out"
    assert study(folder, bundle, out).failed == 0
    assert {row["case"] for row in table(out / "comparison.csv")} == {"P2"}
    explanation = json.loads((out / "P1" / "explanation.json").read_text())
    assert EMPTY_NOTE in explanation["notes"]
    assert explanation["segments"] == []


def test_a_mended_case_is_computed_when_the_study_is_started_again(
    study_folder: Callable[[int], Path], bundle: Path, tmp_path: Path
) -> None:
    folder, out = study_folder(2), tmp_path / "out"
    good = (folder / "P1_image.nii.gz").read_bytes()
    (folder / "P1_image.nii.gz").write_bytes(b"no image")
    assert study(folder, bundle, out).failed == 1
    (folder / "P1_image.nii.gz").write_bytes(good)
    again = study(folder, bundle, out)
    assert (again.failed, again.resumed) == (0, 1)
    study(folder, bundle, tmp_path / "fresh", title="out")
    assert content(out) == content(tmp_path / "fresh")


def test_a_case_that_fails_now_leaves_no_older_result(
    study_folder: Callable[[int], Path], bundle: Path, tmp_path: Path
) -> None:
    folder, out = study_folder(2), tmp_path / "out"
    study(folder, bundle, out)
    (folder / "P2_image.nii.gz").write_bytes(b"no image")
    assert study(folder, bundle, out).failed == 1
    assert not (out / "P2").exists()


def test_labels_give_right_and_wrong(
    study_folder: Callable[[int], Path], bundle: Path, tmp_path: Path
) -> None:
    study_folder(3)
    cases = tmp_path / "data" / "cases.csv"
    cases.write_text(
        "case,image,label\nA,P1_image.nii.gz,Tumour\nB,P2_image.nii.gz,0\nC,P3_image.nii.gz,cyst\n"
    )
    result = study(cases, bundle, tmp_path / "out")
    rows = table(tmp_path / "out" / "predictions.csv")
    assert [row["label"] for row in rows] == ["tumour", "no tumour", "cyst"]
    for row in rows[:2]:
        assert row["correct"] == ("yes" if row["label"] == row["predicted"] else "no")
    assert rows[2]["correct"] == ""
    assert any("cyst" in note for note in result.notes)
    counts = {row["label"]: row for row in table(tmp_path / "out" / "confusion.csv")}
    for row in rows[:2]:
        assert int(counts[row["label"]][f"predicted {row['predicted']}"]) >= 1
    assert result.labels is not None
    assert (result.labels.count, result.labels.unknown) == (2, 1)
    assert result.labels.accuracy == sum(row["correct"] == "yes" for row in rows) / 2
    assert [[int(row[f"predicted {name}"]) for name in counts] for row in counts.values()] == (
        result.labels.confusion
    )


def test_without_labels_there_is_no_confusion_matrix(
    study_folder: Callable[[int], Path], bundle: Path, tmp_path: Path
) -> None:
    assert study(study_folder(1), bundle, tmp_path / "out").labels is None
    assert not (tmp_path / "out" / "confusion.csv").exists()


def test_another_seed_in_the_same_folder_is_refused(
    study_folder: Callable[[int], Path], bundle: Path, tmp_path: Path
) -> None:
    folder = study_folder(1)
    study(folder, bundle, tmp_path / "out")
    with error_with(ErrorCode.STUDY_CONFIGURATION, "seed: 0 there, 1 now"):
        study(folder, bundle, tmp_path / "out", seed=1)


def test_wrong_names_are_refused_before_anything_is_written(
    study_folder: Callable[[int], Path], bundle: Path, tmp_path: Path
) -> None:
    folder, out = study_folder(1), tmp_path / "out"
    with error_with(ErrorCode.NAME_UNKNOWN, "'tumour'"):
        study(folder, bundle, out, target="tumor")
    layered = find_method("gradcam")(layers=("features.absent",))
    with error_with(ErrorCode.NAME_UNKNOWN, "'features.absent'"):
        run_study(discover(folder), config_of(bundle, out, layered))
    with error_with(ErrorCode.NAME_DUPLICATE, "'gradient'"):
        run_study(discover(folder), config_of(bundle, out, "gradient", "gradient", target="1"))
    assert not out.exists()


def test_one_case_that_cannot_be_compared_leaves_nothing(
    study_folder: Callable[[int], Path],
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (case,) = discover(study_folder(1))

    def refuse(*_: Any, **__: Any) -> None:
        raise InputError(ErrorCode.SEGMENTATION_EMPTY, "nothing to compare with")

    monkeypatch.setattr(case_work, "compare_attributions", refuse)
    with pytest.raises(InputError) as error:
        explain_case(case, config_of(bundle, tmp_path / "out", "gradient", target="1"))
    assert error.value.code is ErrorCode.SEGMENTATION_EMPTY
    assert not (tmp_path / "out").exists()


def test_a_folder_of_the_users_is_never_replaced(
    study_folder: Callable[[int], Path], bundle: Path, tmp_path: Path
) -> None:
    folder, out = study_folder(1), tmp_path / "out"
    (out / "P1").mkdir(parents=True)
    (out / "P1" / "precious.txt").write_text("mine")
    with error_with(ErrorCode.OUTPUT_EXISTS, "P1"):
        study(folder, bundle, out)
    assert (out / "P1" / "precious.txt").read_text() == "mine"


def test_a_progress_callback_can_stop_the_study_and_it_goes_on_later(
    study_folder: Callable[[int], Path], bundle: Path, tmp_path: Path
) -> None:
    folder, out = study_folder(3), tmp_path / "out"
    told: list[StudyProgress] = []

    def stop(progress: StudyProgress) -> None:
        told.append(progress)
        if progress.done > 1.5:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        study(folder, bundle, out, progress=stop)
    assert told[-1].seconds_left is not None
    assert not (out / ".partial").exists()
    assert study(folder, bundle, out).resumed == 1


def test_a_second_run_in_the_same_folder_is_refused(
    study_folder: Callable[[int], Path], bundle: Path, tmp_path: Path
) -> None:
    folder, out = study_folder(2), tmp_path / "out"
    refused: list[str] = []

    def second(progress: StudyProgress) -> None:
        if not refused:
            with error_with(ErrorCode.STUDY_BUSY, "out") as caught:
                study(folder, bundle, out)
            refused.append(str(caught.value))

    study(folder, bundle, out, progress=second)
    assert refused


def test_reading_the_next_case_overlaps_computing_and_runs_no_further_ahead() -> None:
    read: list[int] = []
    computing = threading.Event()

    def slowly(item: int) -> int:
        read.append(item)
        return item

    given: Iterator[int] = read_ahead(range(100), slowly, lambda item, seconds: item)
    assert next(given) == 0
    until(lambda: len(read) >= 3, "reading ahead")
    computing.wait(0.3)
    # One is being computed, one waits, one has just been read.
    assert read == [0, 1, 2]
    assert list(given) == list(range(1, 100))


def test_the_sarcoma_study_agrees_in_nifti_and_dicom(
    shared_data: Path, bundle: Path, tmp_path: Path
) -> None:
    nifti = tmp_path / "nifti"
    shutil.copytree(shared_data / "soft-tissue-sarcoma-nifti" / "STS_019", nifti / "STS_019")
    dicom = shared_data / "soft-tissue-sarcoma-dicom-rtstruct"
    results = {}
    for name, folder in (("nifti", nifti), ("dicom", dicom)):
        assert study(folder, bundle, tmp_path / name / "out", target="tumour").failed == 0
        results[name] = tmp_path / name / "out"
    predictions = [table(out / "predictions.csv") for out in results.values()]
    for one, other in zip(*predictions, strict=True):
        assert float(one["p_tumour"]) == pytest.approx(float(other["p_tumour"]), abs=1e-4)
    rows = [
        [row for row in table(out / "comparison.csv") if row["method"] != "random"]
        for out in results.values()
    ]
    for one, other in zip(*rows, strict=True):
        assert one["method"] == other["method"]
        assert float(one["auroc"]) == pytest.approx(float(other["auroc"]), abs=0.01)
    for path in results["dicom"].rglob("*"):
        assert "STS_019" not in path.name
        if path.suffix in (".json", ".jsonl", ".csv", ".html"):
            assert "STS_019" not in path.read_text(encoding="utf-8")


def test_an_error_that_no_reader_foresaw_is_a_failed_case_and_the_study_ends(
    study_folder: Callable[[int], Path], bundle: Path, tmp_path: Path
) -> None:
    folder = study_folder(2)
    axis = nibabel.cifti2.BrainModelAxis.from_mask(
        np.ones((3, 3, 3), bool), affine=np.eye(4), name="thalamus_left"
    )
    scalars = nibabel.cifti2.ScalarAxis(["a"])
    odd = nibabel.cifti2.Cifti2Image(np.zeros((1, 27), np.float32), header=(scalars, axis))
    # A CIFTI file has no affine: nibabel's image lacks the attribute.
    nibabel.save(odd, tmp_path / "odd.dscalar.nii")
    image = folder / "P1_image.nii.gz"
    image.unlink()
    image.with_suffix("").write_bytes((tmp_path / "odd.dscalar.nii").read_bytes())
    out = tmp_path / "out"
    assert study(folder, bundle, out).failed == 1
    (failed,) = table(out / "failures.csv")
    assert (failed["case"], failed["stage"]) == ("P1", "reading the image")
    assert [row["case"] for row in table(out / "predictions.csv")] == ["P2"]
