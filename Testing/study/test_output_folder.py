"""What becomes of a run whose output folder is deleted, replaced, cut off or held by another."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from SaliencyExplain.errors import ErrorCode, InputError, OutputError
from SaliencyExplain.evaluation.study.finished_study import read_study
from SaliencyExplain.records.journal_file import JOURNAL
from SaliencyExplain.results.study_result import StudyResult
from SaliencyExplain.studies.discovery import discover
from SaliencyExplain.studies.run import StudyProgress, ignore_progress, run_study
from SaliencyExplain.studies.single import explain_case
from Testing.expected_errors import error_with
from Testing.studies import config_of

pytestmark = pytest.mark.slow

Change = Callable[[Path], None]


def study(
    folder: Path,
    bundle: Path,
    out: Path,
    progress: Callable[[StudyProgress], None] = ignore_progress,
    jobs: int = 1,
    **more: Any,
) -> StudyResult:
    work = config_of(bundle, out, "gradcam", **more)
    return run_study(discover(folder), work, jobs=jobs, title="study", progress=progress)


def content(out: Path) -> dict[str, Any]:
    """All files' bytes; of an explanation all but its timings."""
    found: dict[str, Any] = {}
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        name = str(path.relative_to(out))
        found[name] = path.read_bytes()
        if path.name == "explanation.json":
            found[name] = json.loads(found[name])
            del found[name]["timings"]
    return found


def once_done(count: float, change: Change, out: Path) -> Callable[[StudyProgress], None]:
    """A progress callback that changes the folder once, when so many cases are done."""
    changed = False

    def tell(now: StudyProgress) -> None:
        nonlocal changed
        if now.done >= count and not changed:
            changed = True
            change(out)

    return tell


def replace_by_file(out: Path) -> None:
    shutil.rmtree(out)
    out.write_text("mine")


def replace_by_other(out: Path) -> None:
    """Another study's folder, with a case of the same name, in the place of this one's."""
    out.rename(out.with_name("moved"))
    (out / "P2").mkdir(parents=True)
    (out / "P2" / "explanation.json").write_text("another study's")
    (out / ".lock").touch()
    (out / JOURNAL).write_text("another study's")


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_run_whose_folder_is_deleted_stops_and_leaves_no_headless_journal(
    study_folder: Callable[[int], Path], bundle: Path, tmp_path: Path, jobs: int
) -> None:
    folder, out = study_folder(3), tmp_path / "out"
    with error_with(ErrorCode.OUTPUT_UNWRITABLE, "out") as error:
        study(folder, bundle, out, once_done(1, shutil.rmtree, out), jobs)
    assert error.value.code is ErrorCode.OUTPUT_UNWRITABLE
    assert str(out) in str(error.value)
    assert not any(path.is_file() for path in out.rglob("*"))
    assert study(folder, bundle, out).resumed == 0
    study(folder, bundle, tmp_path / "fresh")
    assert content(out) == content(tmp_path / "fresh")


@pytest.mark.parametrize("change", [replace_by_file, replace_by_other])
def test_nothing_is_written_into_what_has_taken_the_folders_place(
    study_folder: Callable[[int], Path], bundle: Path, tmp_path: Path, change: Change
) -> None:
    folder, out = study_folder(3), tmp_path / "out"
    with error_with(ErrorCode.OUTPUT_UNWRITABLE, "out"):
        study(folder, bundle, out, once_done(1, change, out))
    found = [out] if out.is_file() else [path for path in out.rglob("*") if path.is_file()]
    assert {path.read_text() for path in found} <= {"mine", "another study's", ""}
    assert len(found) == (1 if change is replace_by_file else 3)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda out: (out / JOURNAL).unlink(), id="deleted"),
        pytest.param(lambda out: (out / JOURNAL).write_bytes(b""), id="emptied"),
        pytest.param(
            lambda out: (out / JOURNAL).write_bytes((out / JOURNAL).read_bytes() + b"{}\n"),
            id="written to",
        ),
    ],
)
def test_a_journal_that_another_program_changes_ends_the_run(
    study_folder: Callable[[int], Path], bundle: Path, tmp_path: Path, change: Change
) -> None:
    folder, out = study_folder(3), tmp_path / "out"
    with error_with(ErrorCode.OUTPUT_UNWRITABLE, JOURNAL) as error:
        study(folder, bundle, out, once_done(1, change, out))
    assert error.value.code is ErrorCode.OUTPUT_UNWRITABLE
    assert not (out / "report.html").exists()


def test_a_case_that_is_deleted_while_others_are_computed_leaves_no_finished_study(
    study_folder: Callable[[int], Path], bundle: Path, tmp_path: Path
) -> None:
    folder, out = study_folder(3), tmp_path / "out"
    with pytest.raises(OutputError) as error:
        study(folder, bundle, out, once_done(1.5, lambda out: shutil.rmtree(out / "P1"), out))
    assert error.value.code is ErrorCode.STUDY_INCOMPLETE
    assert "P1" in str(error.value)
    assert not (out / "report.html").exists()
    again = study(folder, bundle, out)
    assert again.resumed == 2
    assert any("P1" in note for note in again.notes)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda case: shutil.rmtree(case), id="folder gone"),
        pytest.param(lambda case: next(case.glob("*.nii.gz")).unlink(), id="map gone"),
        pytest.param(lambda case: cut(next(case.glob("*.nii.gz"))), id="map cut"),
        pytest.param(lambda case: cut(next(case.glob("*.seg.nrrd"))), id="bands cut"),
        pytest.param(lambda case: cut(next(case.glob("*.png"))), id="picture cut"),
        pytest.param(lambda case: (case / "explanation.json").write_text("{"), id="no document"),
        pytest.param(
            lambda case: shutil.copy(case.parent / "P2" / "explanation.json", case),
            id="another case's document",
        ),
    ],
)
def test_a_case_whose_files_are_damaged_is_computed_again(
    study_folder: Callable[[int], Path], bundle: Path, tmp_path: Path, damage: Change
) -> None:
    folder, out = study_folder(2), tmp_path / "out"
    study(folder, bundle, out)
    before = content(out)
    damage(out / "P1")
    again = study(folder, bundle, out)
    assert again.resumed == 1
    assert any("P1" in note and "P2" not in note for note in again.notes)
    assert content(out) == before
    assert study(folder, bundle, out).notes == ()


def test_an_evaluation_whose_files_are_damaged_is_made_again_and_its_maps_stay(
    study_folder: Callable[[int], Path], bundle: Path, tmp_path: Path
) -> None:
    folder, out = study_folder(1), tmp_path / "out"
    study(folder, bundle, out, passes=1.0)
    card = next((out / "P1").glob("card-*.png"))
    whole, stamp = card.read_bytes(), (out / "P1" / "explanation.json").stat().st_mtime_ns
    for damaged in (card, out / "P1" / "evaluation.json"):
        cut(damaged)
        cut(damaged)
        study(folder, bundle, out, passes=1.0)
        assert card.read_bytes() == whole
        json.loads((out / "P1" / "evaluation.json").read_text(encoding="utf-8"))
    assert (out / "P1" / "explanation.json").stat().st_mtime_ns == stamp


def test_a_damaged_line_in_the_middle_costs_its_case_alone(
    study_folder: Callable[[int], Path], bundle: Path, tmp_path: Path
) -> None:
    folder, out = study_folder(4), tmp_path / "out"
    study(folder, bundle, out)
    before = content(out)
    lines = before[JOURNAL].splitlines(keepends=True)
    lines[2] = lines[2][:40] + b"\x00\xff" + lines[2][42:]
    (out / JOURNAL).write_bytes(b"".join(lines))
    with pytest.raises(InputError) as error:
        read_study(out)
    assert error.value.code is ErrorCode.STUDY_INCOMPLETE
    again = study(folder, bundle, out)
    assert again.resumed == 3
    assert any("1 of the journal's lines" in note for note in again.notes)
    assert content(out) == before


def test_a_journal_of_another_format_or_without_its_first_line_is_refused(
    study_folder: Callable[[int], Path], bundle: Path, tmp_path: Path
) -> None:
    folder, out = study_folder(1), tmp_path / "out"
    study(folder, bundle, out)
    first, *lines = (out / JOURNAL).read_text(encoding="utf-8").splitlines(keepends=True)
    for text, code in (
        (first.replace('"format":1', '"format":2'), ErrorCode.STUDY_CONFIGURATION),
        ("", ErrorCode.FILE_DAMAGED),
        ("[" * 100_000 + "\n", ErrorCode.FILE_DAMAGED),
    ):
        (out / JOURNAL).write_text("".join([text, *lines]), encoding="utf-8")
        with pytest.raises(InputError) as error:
            study(folder, bundle, out)
        assert error.value.code is code
        assert JOURNAL in str(error.value)


def test_a_journal_names_no_place_outside_of_its_folder(
    study_folder: Callable[[int], Path], bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    study(study_folder(1), bundle, out)
    first, line = (out / JOURNAL).read_text(encoding="utf-8").splitlines()
    for name in ("../P2", "..", "a/b", "", 7, None):
        entry = {**json.loads(line), "case": name}
        (out / JOURNAL).write_text(f"{first}\n{json.dumps(entry)}\n", encoding="utf-8")
        with pytest.raises(InputError) as error:
            read_study(out)
        assert error.value.code is ErrorCode.CASES_MISSING


@pytest.mark.parametrize("name", ["report.html", "comparison.csv", "confusion.csv"])
def test_a_file_of_the_user_is_not_overwritten_by_a_study_nor_by_a_single_case(
    study_folder: Callable[[int], Path], bundle: Path, tmp_path: Path, name: str
) -> None:
    folder, out = study_folder(1), tmp_path / "out"
    out.mkdir()
    (out / name).write_text("mine")
    for _ in range(2):
        with error_with(ErrorCode.OUTPUT_EXISTS, str(out / name)):
            study(folder, bundle, out)
        with error_with(ErrorCode.OUTPUT_EXISTS, str(out / name)):
            explain_case(discover(folder)[0], config_of(bundle, out, "gradcam"))
    assert [path.name for path in out.iterdir() if path.name != ".lock"] == [name]
    assert (out / name).read_text() == "mine"
