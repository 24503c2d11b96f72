"""The evaluation of the maps of a study: made once, added later, killed and gone on with."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from PIL import Image

from SaliencyExplain.attribution.registry import find_method
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.evaluation.image.map_evaluation import evaluate_maps
from SaliencyExplain.explanation.loaded_references import LoadedReferences
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.results.evaluation_results import card_name
from SaliencyExplain.results.image_evaluation import read_evaluation
from SaliencyExplain.studies import case_work
from SaliencyExplain.studies.case import Case, single_case
from SaliencyExplain.studies.case_reading import EVALUATION_STAGE
from SaliencyExplain.studies.case_work import CaseWorker
from SaliencyExplain.studies.discovery import discover
from SaliencyExplain.studies.journal import Journal
from SaliencyExplain.studies.run import run_study
from SaliencyExplain.studies.single import explain_case
from Testing.conftest import PROJECT
from Testing.study.conftest import make_study
from Testing.study.evaluated_study import LITTLE, METHODS, study, work
from Testing.waiting import until

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Evaluated:
    """A study that was evaluated: its cases, its output folder and what is in that."""

    folder: Path
    out: Path
    content: dict[str, Any]


def content(out: Path) -> dict[str, Any]:
    """All files' bytes but the seconds that something took, and the way to the images."""
    found: dict[str, Any] = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if path.suffix == ".json":
            found[name] = json.loads(path.read_text(encoding="utf-8"))
            assert found[name].pop("timings", None) or found[name].pop("seconds") > 0
            if name.endswith("explanation.json"):
                assert found[name]["image"].pop("files")["images"]
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


@pytest.fixture(scope="module")
def evaluated(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    """Two cases, and all that a study with an evaluation makes of them in one go."""
    root = tmp_path_factory.mktemp("evaluated")
    folder = make_study(root / "data", 2)
    told: list[float] = []
    result = study(folder, bundle, root / "out", progress=lambda now: told.append(now.done))
    assert result.failed == 0
    assert told == sorted(told)
    return Evaluated(folder, root / "out", content(root / "out"))


def test_each_map_has_its_card_and_the_librarys_answers(
    evaluated: Evaluated, bundle: Path, tmp_path: Path
) -> None:
    out = evaluated.out
    worker = CaseWorker(work(bundle, out))
    read = worker.read(discover(evaluated.folder)[0])
    case = prepare(
        read.image,
        worker.classifier,
        "tumour",
        references=LoadedReferences(read.segmentation),
    )
    chosen = [find_method(name)() for name in METHODS]
    direct = evaluate_maps(
        case,
        chosen,
        name="P1",
        budget=LITTLE,
    ).evaluation
    document = json.loads((out / "P1" / "evaluation.json").read_text(encoding="utf-8"))
    kept = Journal.read(out).entry("P1").result.evaluation
    assert (document["image"], kept.cost_tier) == ("P1", "least")
    explanation = json.loads((out / "P1" / "explanation.json").read_text(encoding="utf-8"))
    labels = [map_["label"] for map_ in explanation["attributions"]]
    assert list(kept.answers) == labels
    read_back = read_evaluation(out / "P1")
    for one, again, written in zip(direct.maps, read_back.maps, document["maps"], strict=True):
        assert again.answers == one.answers
        assert [answer.answer for answer in kept.answers[one.label]] == [
            answer.answer for answer in one.answers
        ]
        assert [answer["words"] for answer in written["answers"]] == [
            answer.words for answer in one.answers
        ]
        with Image.open(out / "P1" / one.card) as card:
            assert card.width == 1100


def test_the_random_control_map_of_the_evaluation_is_that_of_the_comparison(
    evaluated: Evaluated,
) -> None:
    for entry in Journal.read(evaluated.out).entries():
        evaluation_file = evaluated.out / entry.case / "evaluation.json"
        (one,) = json.loads(evaluation_file.read_text(encoding="utf-8"))["maps"]
        for name in ("random", "centre"):
            (ours,) = [row for row in one["agreement"] if row["method"] == name]
            (its,) = [row.as_json() for row in entry.result.rows if row.method == name]
            assert ours == its
            assert ours["case"] == entry.case


def test_the_report_shows_the_answers_beside_each_map_and_says_where_there_are_none(
    evaluated: Evaluated, bundle: Path, tmp_path: Path
) -> None:
    page = evaluated.content["report.html"].decode()
    entry = Journal.read(evaluated.out).entry("P2")
    for label, answers in entry.result.evaluation.answers.items():
        for answer in answers:
            words = f"{answer.topic}: <strong>{answer.answer}</strong>"
            assert words in page
        assert f'href="P2/{quote(card_name(label))}"' in page
    assert "Not evaluated" not in page
    assert page.count("<summary>Trust card</summary>") == page.count('class="answers"')
    study(evaluated.folder, bundle, tmp_path / "bare", None)
    bare = (tmp_path / "bare" / "report.html").read_text(encoding="utf-8")
    assert bare.count("Not evaluated: run the study again with --evaluate.") == bare.count(
        "<figure>"
    )


def test_a_study_gets_its_evaluation_later_and_no_map_is_computed_again(
    evaluated: Evaluated, bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "later"
    study(evaluated.folder, bundle, out, None)
    before = {path: path.stat().st_mtime_ns for path in out.glob("P*/*.nii.gz")}
    assert len(before) == 2
    assert study(evaluated.folder, bundle, out, jobs=2).resumed == 2
    assert {path: path.stat().st_mtime_ns for path in out.glob("P*/*.nii.gz")} == before
    assert content(out) == evaluated.content
    # Without the option what is there stays; with it, what is there is not made again.
    cards = {path: path.stat().st_mtime_ns for path in out.glob("P*/card-*.png")}
    for budget, jobs in ((None, 1), (LITTLE, 2)):
        study(evaluated.folder, bundle, out, budget, jobs=jobs)
        assert {path: path.stat().st_mtime_ns for path in out.glob("P*/card-*.png")} == cards
    assert content(out) == evaluated.content
    # What is gone is made anew, with the same bytes in this process as in others.
    (out / "P1" / "evaluation.json").unlink()
    study(evaluated.folder, bundle, out)
    assert content(out) == evaluated.content


_RUN = """
import sys
from pathlib import Path
from Testing.study.evaluated_study import study
study(*map(Path, sys.argv[1:4]))
"""


def test_a_study_that_was_killed_in_the_evaluation_ends_with_the_same_bytes(
    evaluated: Evaluated, bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    for moment in ("P1/curves.csv", "P2/explanation.json"):
        process = subprocess.Popen(
            [sys.executable, "-c", _RUN, str(evaluated.folder), str(bundle), str(out)],
            env=environment,
        )
        file = out / moment
        until(lambda p=process, f=file: f.is_file() or p.poll() is not None, moment, pause=0.001)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        name = moment.partition("/")[0]
        assert not (out / name / "evaluation.json").exists()
    study(evaluated.folder, bundle, out)
    assert content(out) == evaluated.content


def test_an_evaluation_that_fails_costs_only_itself(
    study_folder: Callable[[int], Path],
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, out = study_folder(1), tmp_path / "out"

    def exhausted(*_: object, **__: object) -> None:
        raise MemoryError("not enough")

    with monkeypatch.context() as patched:
        patched.setattr(case_work, "write_case_evaluation", exhausted)
        assert study(folder, bundle, out).failed == 1
        one = single_case([(None, folder / "P1_image.nii.gz")])
        _, entry = explain_case(one, work(bundle, tmp_path / "single"))
    for failure in (Journal.read(out).entry("P1").failures, entry.failures):
        (failed,) = failure
        assert (failed.stage, failed.code) == (EVALUATION_STAGE, "SE-JOB-FAILED")
        assert "MemoryError: not enough" in failed.reason
    assert len(list(out.glob("P1/*.nii.gz"))) == 1
    assert len(list((tmp_path / "single").glob("*/*.nii.gz"))) == 1
    assert "the evaluation failed" in (out / "report.html").read_text(encoding="utf-8")
    # It is tried again by the next run.
    assert study(folder, bundle, out).failed == 0
    assert (out / "P1" / "evaluation.json").is_file()


def test_a_budget_of_nothing_is_refused(
    study_folder: Callable[[int], Path], bundle: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as refused:
        study(study_folder(1), bundle, tmp_path / "out", 0.0)
    assert refused.value.code is ErrorCode.VALUE_RANGE
    assert not (tmp_path / "out").exists()


def test_a_private_cases_files_name_is_in_no_result(
    evaluated: Evaluated, bundle: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "in" / "DOE_JANE_19700101.nii.gz"
    secret.parent.mkdir()
    found = discover(evaluated.folder)[0]
    shutil.copy(found.paths[0], secret)
    mask = secret.with_name("DOE_JANE_mask.nii.gz")
    assert found.segmentation is not None
    shutil.copy(found.segmentation, mask)
    case = Case("case-001", ((None, secret),), mask, private=True)
    result = run_study([case], work(bundle, tmp_path / "out"))
    assert result.failed == 0
    kept = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert any(path.name == "evaluation.json" for path in kept)
    for path in kept:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        assert b"DOE_JANE" not in content, path
        assert "DOE_JANE" not in path.name
