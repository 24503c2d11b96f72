"""``saliency-explain evaluate study``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from SaliencyExplain.cli import options
from SaliencyExplain.cli.messages import console, print_json, progress_bar, say_notes
from SaliencyExplain.cli.spec_options import spec_options
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.progress import part_of
from SaliencyExplain.specification.spec import ExplainSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.table import Table

    from SaliencyExplain.evaluation.study.study_evaluation import StudyEvaluation

#: As ``SaliencyExplain.studies.journal.JOURNAL``, whose module needs the readers of images.
_JOURNAL = "journal.jsonl"

#: Per cent of the time for the computations; the pictures are drawn in the rest.
_FOUND = 90

#: Rows of a table in the terminal; all of them are in the files.
_MOST_ROWS = 24


@spec_options("seed")
def evaluate_study(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="The output folder of a finished study.", show_default=False
        ),
    ],
    spec: ExplainSpec,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="The output folder; by default the folder evaluation in the study, where the "
            "study's report includes the results. With another folder the report is not changed.",
            show_default=False,
        ),
    ] = None,
    cases: Annotated[
        Path | None,
        typer.Option(
            "--cases",
            metavar="FOLDER_OR_CSV",
            help="The folder or table that the study was made from, for its segmentations and "
            "the body. By default the files that its journal names, except DICOM, whose paths may "
            "contain patient names.",
            show_default=False,
        ),
    ] = None,
    all_cases: Annotated[
        bool,
        typer.Option(
            "--all-cases",
            help="Compare methods on all cases, also those explained for a class other than "
            "their label.",
        ),
    ] = False,
    smallest_difference: Annotated[
        list[str],
        typer.Option(
            "--smallest-difference",
            metavar="[METRIC=]VALUE",
            help="Smallest difference of interest; smaller ones are not called better. 0.05 or "
            "5% by default, 5 mm for distances; repeatable.",
            show_default=False,
        ),
    ] = [],  # noqa: B006  Typer copies it for each call
    as_json: options.Json = False,
) -> None:
    """Evaluate a finished study.

    Differences between methods on the same cases, where the energy of the maps lies, signs of a
    shortcut, groups of similar maps, correlates of the energy in a segment.
    """
    if not (folder / _JOURNAL).is_file():
        raise InputError(
            ErrorCode.STUDY_INCOMPLETE if folder.exists() else ErrorCode.FILE_MISSING,
            f"{folder} is not an output folder of a study: the file {_JOURNAL} is missing. For "
            "the maps of an image use saliency-explain evaluate image.",
        )
    from SaliencyExplain.evaluation.study.study_evaluation import evaluate_study as evaluated
    from SaliencyExplain.evaluation.study.study_evaluation_files import (
        evaluation_document,
        write_study_evaluation,
    )
    from SaliencyExplain.evaluation.study.study_words import evaluation_sentences
    from SaliencyExplain.evaluation_parts import STUDY_EVALUATION_FOLDER
    from SaliencyExplain.records.journal_file import JournalFile
    from SaliencyExplain.studies.report import StudyOutput, write_report
    from SaliencyExplain.studies.report_data import map_titles
    from SaliencyExplain.studies.run import REPORT

    own = folder / STUDY_EVALUATION_FOLDER
    if out is None and STUDY_EVALUATION_FOLDER in JournalFile.read(folder):
        raise InputError(
            ErrorCode.OUTPUT_EXISTS,
            f"{own} is the folder of a case of that name; name another folder with --out.",
        )
    options.check_output(out or own)
    with progress_bar("evaluating", quiet=as_json) as progress:
        found = evaluated(
            folder,
            cases=cases,
            all_cases=all_cases,
            smallest_difference=smallest_difference,
            seed=spec.seed,
            progress=part_of(progress, 0, _FOUND, 100),
        )
        files = write_study_evaluation(
            out or own, found, progress=part_of(progress, _FOUND, 100, 100)
        )
        if (out or own).resolve() == own.resolve():
            output = StudyOutput(folder, folder.resolve().name)
            files.append(write_report(folder / REPORT, [output]))
    say_notes(found.notes)
    if as_json:
        print_json({**evaluation_document(found), "files": [str(path) for path in files]})
        return
    titles = map_titles(found.study.labels)
    for table in (
        _places_table(found, titles), _pairs_table(found, titles), _metrics_table(found, titles)
    ):  # fmt: skip
        if table.row_count:
            console.print(table)
            console.print()
    for sentence in evaluation_sentences(found):
        console.print(sentence, markup=False, soft_wrap=True)
    for path in files:
        console.print(str(path), markup=False, soft_wrap=True)


def _table(title: str, *columns: str) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for number, column in enumerate(columns):
        table.add_column(column, overflow="fold", justify="left" if number < 2 else "right")
    return table


def _places_table(found: StudyEvaluation, titles: Mapping[str, str]) -> Table:
    from SaliencyExplain.studies.report_words import percent

    table = _table("Where the energy lies", "method", "place", "energy", "chance", "cases")
    for one in found.places[:_MOST_ROWS]:
        table.add_row(
            titles.get(one.method, one.method), one.place, percent(one.energy.mean),
            percent(one.volume), str(one.energy.count),
        )  # fmt: skip
    return table


def _pairs_table(found: StudyEvaluation, titles: Mapping[str, str]) -> Table:
    from SaliencyExplain.studies.difference_words import answer_words, interval_words, signed

    table = _table(
        "Methods on the same cases (p corrected by Holm; intervals hold together)",
        "metric", "pair", "difference", "95 % interval", "p", "cases", "answer",
    )  # fmt: skip
    shown = [one for one in found.pairs if one.metric in ("auroc", "sic_compressed")]
    for one in shown[:_MOST_ROWS]:
        table.add_row(
            f"{one.metric} {one.segment}".strip(),
            f"{titles.get(one.first, one.first)} − {titles.get(one.second, one.second)}",
            signed(one.difference), interval_words(one.low, one.high), f"{one.p_holm:.2g}",
            str(one.cases),
            answer_words(one.answer, one.better, one.smallest, titles.get(one.better, "")),
            style="bold" if one.better else "",
        )  # fmt: skip
    return table


def _metrics_table(found: StudyEvaluation, titles: Mapping[str, str]) -> Table:
    from SaliencyExplain.studies.report_words import number, percent

    table = _table(
        "Faithfulness over the evaluated cases",
        "method", "metric", "mean", "median curve", "null maps", "null maps beaten", "cases",
    )  # fmt: skip
    for one in found.metrics[:_MOST_ROWS]:
        table.add_row(
            titles.get(one.method, one.method), one.title, number(one.value.mean),
            number(one.area_of_median), number(one.null_mean), percent(one.beaten),
            str(one.value.count),
        )  # fmt: skip
    return table
