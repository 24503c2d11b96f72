"""``evaluate`` of a finished study: tables, files, report, and clear refusals."""

from __future__ import annotations

from pathlib import Path

import pytest

from SaliencyExplain.demo.study import write_phantom_study

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    from SaliencyExplain.demo.study import classifier_folder
    from SaliencyExplain.studies.discovery import discover
    from SaliencyExplain.studies.run import run_study
    from Testing.studies import config_of

    folder = tmp_path_factory.mktemp("study")
    table = write_phantom_study(folder / "data", dimensions=2, cases=8, seed=3, marker=False)
    bundle = classifier_folder("phantom-2d-honest")
    run_study(discover(table), config_of(bundle, folder / "out", "gradient", "gradcam"))
    return folder / "out", table


def test_a_study_is_evaluated_with_tables_files_and_its_report(command, study):
    folder, table = study
    ended = command("evaluate", "study", folder, "--cases", table)
    assert ended.status == 0, ended.err
    assert "Where the energy lies" in ended.out
    assert "Methods on the same cases" in ended.out
    assert "segment tumour" in ended.out
    assert str(folder / "report.html") in ended.out
    assert "Can these maps be believed?" in (folder / "report.html").read_text()
    assert (folder / "evaluation" / "paired.csv").is_file()


def test_json_is_one_document_and_another_folder_leaves_the_report_alone(command, study, tmp_path):
    folder, table = study
    before = (folder / "report.html").read_bytes()
    ended = command("evaluate", "study", folder, "--cases", table, "-o", tmp_path / "out", "--json")
    assert ended.status == 0, ended.err
    assert ended.document["cases"] == 8
    assert {one["metric"] for one in ended.document["pairs"]} >= {"auroc", "energy_inside"}
    assert len(ended.document["clusters"]) == 2
    assert (tmp_path / "out" / "study-evaluation.json").is_file()
    assert (folder / "report.html").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{empty}"], "SE-STUDY-INCOMPLETE"),
        (["{empty}"], "journal.jsonl"),
        (["{image}"], "journal.jsonl"),
        (["{empty}/none"], "SE-FILE-MISSING"),
        (["{study}", "--cases", "{empty}"], "no images found"),
        (["{study}", "--cases", "{study}/none.csv"], "SE-FILE-MISSING"),
        (["{study}", "--smallest-difference", "auroc=much"], "--smallest-difference"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_one_line(command, study, tmp_path, words, said):
    folder, table = study
    empty = tmp_path / "empty"
    empty.mkdir()
    image = table.parent / "phantom-001_image.png"
    names = {"study": folder, "table": table, "empty": empty, "image": image}
    ended = command("evaluate", "study", *[word.format(**names) for word in words])
    assert ended.status == 2
    (line,) = [line for line in ended.err.splitlines() if line.startswith("error:")]
    assert said in line
