"""Methods that are added to an output: what is there stays as it is, what is missing comes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from SaliencyExplain.attribution.registry import find_method
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.json_text import json_text
from SaliencyExplain.records.case_record import EXPLANATION
from SaliencyExplain.results.study_result import StudyResult
from SaliencyExplain.studies.discovery import discover
from SaliencyExplain.studies.journal import Journal
from SaliencyExplain.studies.run import run_study
from SaliencyExplain.studies.single import explain_case
from SaliencyExplain.studies.study_config import StudyConfig
from Testing.studies import config_of
from Testing.study.conftest import ball, write_nifti

pytestmark = pytest.mark.slow

StudyFolder = Callable[[int], Path]


def work(bundle: Path, out: Path, *names: str, **more: Any) -> StudyConfig:
    return config_of(bundle, out, *names, **more)


def study(
    folder: Path, bundle: Path, out: Path, *names: str, jobs: int = 1, **more: Any
) -> StudyResult:
    return run_study(discover(folder), work(bundle, out, *names, **more), jobs=jobs)


def explanation(out: Path, case: str = "P1") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / case / "explanation.json").read_text())
    return found


def methods_there(out: Path, case: str = "P1") -> list[str]:
    return [one["method"] for one in explanation(out, case)["attributions"]]


def files(out: Path) -> dict[str, tuple[int, bytes]]:
    """The number and the bytes of each file of the cases."""
    return {
        str(path.relative_to(out)): (path.stat().st_ino, path.read_bytes())
        for path in sorted(out.glob("P*/*"))
    }


def test_a_study_gets_the_missing_maps_and_keeps_the_others(
    study_folder: StudyFolder, bundle: Path, tmp_path: Path
) -> None:
    folder, out = study_folder(2), tmp_path / "out"
    study(folder, bundle, out, "gradcam")
    before = files(out)
    result = study(folder, bundle, out, "gradient", jobs=2)
    assert (result.total, result.failed, result.resumed) == (2, 0, 0)
    # The very files: the first method was not computed again.
    after = files(out)
    maps = [name for name in before if not name.endswith("explanation.json")]
    assert maps
    assert {name: after[name] for name in maps} == {name: before[name] for name in maps}

    at_once = tmp_path / "at once"
    study(folder, bundle, at_once, "gradcam", "gradient")
    assert list(after) == list(files(at_once))
    for name in ("comparison.csv", "predictions.csv", "failures.csv"):
        assert (out / name).read_bytes() == (at_once / name).read_bytes()
    assert (out / "journal.jsonl").read_bytes() == (at_once / "journal.jsonl").read_bytes()
    for case in ("P1", "P2"):
        added, fresh = explanation(out, case), explanation(at_once, case)
        assert added.pop("timings").keys() == fresh.pop("timings").keys()
        assert added == fresh
    assert study(folder, bundle, out, "gradient").resumed == 2


def test_explain_adds_a_method_to_its_case(
    study_folder: StudyFolder, bundle: Path, tmp_path: Path
) -> None:
    folder, out = study_folder(2), tmp_path / "out"
    first, second = discover(folder)
    explain_case(first, work(bundle, out, "gradcam"))
    before = files(out)
    record, entry = explain_case(first, work(bundle, out, "gradient"))
    assert methods_there(out) == ["gradcam", "gradient"]
    assert [one.method for one in entry.result.maps] == ["gradcam", "gradient"]
    assert json_text(record.as_json()) == (out / "P1" / EXPLANATION).read_text(encoding="utf-8")
    picture = next(name for name in before if name.endswith(".png"))
    assert files(out)[picture] == before[picture]
    # Another case of the folder has what was asked for it, and no more.
    explain_case(second, work(bundle, out, "gradient"))
    assert methods_there(out, "P2") == ["gradient"]
    assert methods_there(out) == ["gradcam", "gradient"]
    assert [one["name"] for one in Journal.read(out).configuration["methods"]] == [
        "gradcam", "gradient",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"target": "tumour"}, ("target", "predicted", "tumour")),
        ({"seed": 5}, ("seed", "0 there", "5 now")),
    ],
)
def test_another_target_or_seed_is_refused_by_name(
    study_folder: StudyFolder, bundle: Path, tmp_path: Path, more: dict[str, Any], named: tuple[str]
) -> None:
    folder, out = study_folder(1), tmp_path / "out"
    (case,) = discover(folder)
    explain_case(case, work(bundle, out, "gradcam"))
    before = files(out), (out / "journal.jsonl").read_bytes()
    for run in (
        lambda: explain_case(case, work(bundle, out, "gradient", **more)),
        lambda: study(folder, bundle, out, "gradient", **more),
    ):
        with pytest.raises(InputError) as error:
            run()
        assert error.value.code is ErrorCode.STUDY_CONFIGURATION
        assert all(word in str(error.value) for word in named)
    assert (files(out), (out / "journal.jsonl").read_bytes()) == before


def test_the_same_method_with_other_parameters_is_refused_by_name(
    study_folder: StudyFolder, bundle: Path, tmp_path: Path
) -> None:
    (case,) = discover(study_folder(1))
    out = tmp_path / "out"
    explain_case(case, work(bundle, out, "smoothgrad", "gradient"))
    other = find_method("smoothgrad")(samples=3)
    with pytest.raises(InputError) as error:
        explain_case(case, config_of(bundle, out, other))
    assert error.value.code is ErrorCode.STUDY_CONFIGURATION
    assert "smoothgrad.samples: 25 there, 3 now" in str(error.value)


def test_a_method_that_cannot_be_added_costs_nothing_that_is_there(
    study_folder: StudyFolder, bundle: Path, tmp_path: Path
) -> None:
    folder, out = study_folder(1), tmp_path / "out"
    (case,) = discover(folder)
    explain_case(case, work(bundle, out, "gradcam"))
    before = files(out)
    # Without background images Deep SHAP has nothing to compare with.
    with pytest.raises(InputError) as error:
        explain_case(case, work(bundle, out, "deepshap"))
    assert error.value.code is ErrorCode.BACKGROUNDS
    assert files(out) == before
    assert not (out / ".partial").exists()
    result = study(folder, bundle, out, "deepshap")
    assert result.failed == 1
    assert files(out) == before
    entry = Journal.read(out).entry("P1")
    assert entry.result is not None
    assert [one.stage for one in entry.failures] == ["explaining with deepshap"]
    # It would fail again, so it is not tried again; others are added all the same.
    assert study(folder, bundle, out, "deepshap").resumed == 1
    study(folder, bundle, out, "deepshap", "gradient")
    assert methods_there(out) == ["gradcam", "gradient"]
    assert [one.stage for one in Journal.read(out).entry("P1").failures] == [
        "explaining with deepshap"
    ]


def test_where_the_image_has_changed_no_earlier_map_stays(
    study_folder: StudyFolder, bundle: Path, tmp_path: Path
) -> None:
    folder, out = study_folder(1), tmp_path / "out"
    study(folder, bundle, out, "gradcam")
    before = files(out)
    write_nifti(folder / "P1_image.nii.gz", ball(99)[0])
    os.utime(folder / "P1_image.nii.gz", (0, 0))
    study(folder, bundle, out, "gradient")
    assert methods_there(out) == ["gradcam", "gradient"]
    after = files(out)
    assert all(after[name][1] != before[name][1] for name in before if name.endswith(".nii.gz"))
    assert len({one["provenance"]["image_sha256"] for one in explanation(out)["attributions"]}) == 1


def test_the_evaluation_and_the_scene_are_of_all_maps(
    study_folder: StudyFolder, bundle: Path, tmp_path: Path
) -> None:
    folder, out = study_folder(1), tmp_path / "out"
    study(folder, bundle, out, "gradcam", passes=1.0, scene=True)
    scene = (out / "P1" / "scene.mrb").read_bytes()
    # Without a wish for them the evaluation that is there stays, and the scene shows all maps.
    study(folder, bundle, out, "gradient")
    evaluated = json.loads((out / "P1" / "evaluation.json").read_text())
    assert [one["method"] for one in evaluated["maps"]] == ["gradcam"]
    assert (out / "P1" / "scene.mrb").read_bytes() != scene
    study(folder, bundle, out, "gradient", passes=1.0)
    evaluated = json.loads((out / "P1" / "evaluation.json").read_text())
    assert [one["method"] for one in evaluated["maps"]] == ["gradcam", "gradient"]
    assert (out / "P1" / "card-gradient.png").is_file()
