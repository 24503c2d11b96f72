"""The tables of a study, made from its journal: predictions, confusion, comparison, failures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from SaliencyExplain import csv_text
from SaliencyExplain.comparison.table import write_comparison
from SaliencyExplain.images.image_writing import atomic_file
from SaliencyExplain.records.case_entry import CaseEntry, CaseResult, true_class
from SaliencyExplain.records.journal_file import JournalFile
from SaliencyExplain.results.study_result import Labels
from SaliencyExplain.studies.classification_metrics import count_labels

PREDICTIONS, COMPARISON, FAILURES = "predictions.csv", "comparison.csv", "failures.csv"
#: Only of a study with labels.
CONFUSION = "confusion.csv"

#: The tables of a run.
TABLES = (PREDICTIONS, COMPARISON, FAILURES, CONFUSION)


def write_tables(folder: Path, journal: JournalFile, order: Sequence[str]) -> list[Path]:
    """Writes the tables of the cases, in their order, each whole or not at all.

    Returns:
        The files.

    Raises:
        OutputError: The disk is full, or they cannot be written.
    """
    classes = journal.configuration["classes"]
    _write(
        folder / PREDICTIONS,
        ("case", "label", "predicted", "correct", *(f"p_{name}" for name in classes)),
        (
            _prediction(entry, entry.result, classes)
            for entry in journal.entries(order)
            if entry.result is not None
        ),
    )
    write_comparison(
        folder / COMPARISON,
        (
            row
            for entry in journal.entries(order)
            if entry.result is not None
            for row in entry.result.rows
        ),
    )
    _write(
        folder / FAILURES,
        ("case", "stage", "code", "reason"),
        (
            (entry.case, failure.stage, failure.code, failure.reason)
            for entry in journal.entries(order)
            for failure in entry.failures
        ),
    )
    written = [folder / name for name in (PREDICTIONS, COMPARISON, FAILURES)]
    labels = count_predictions(journal, order)
    if labels is None:
        return written
    _write(
        folder / CONFUSION,
        ("label", *(f"predicted {name}" for name in classes), "f1"),
        (
            (name, *map(str, counts), "" if math.isnan(f1) else f"{f1:.6g}")
            for name, counts, f1 in zip(classes, labels.confusion, labels.f1, strict=True)
        ),
    )
    return [*written, folder / CONFUSION]


def count_predictions(journal: JournalFile, order: Sequence[str] | None = None) -> Labels | None:
    """How often the classifier is right.

    Args:
        journal: The study's journal.
        order: Names of the cases that count; all of the journal's where None.

    Returns:
        None where no case has a label that is one of the classes.
    """
    classes = journal.configuration["classes"]
    truth: list[int] = []
    predicted: list[int] = []
    unknown = 0
    for entry in journal.entries(order):
        if entry.result is None or entry.label is None:
            continue
        name = true_class(entry.label, classes)
        if name is None:
            unknown += 1
            continue
        truth.append(classes.index(name))
        predicted.append(classes.index(entry.result.predicted(classes)))
    return count_labels(truth, predicted, classes, unknown=unknown)


def _prediction(entry: CaseEntry, result: CaseResult, classes: Sequence[str]) -> tuple[str, ...]:
    predicted = result.predicted(classes)
    truth = true_class(entry.label, classes)
    correct = "" if truth is None else "yes" if truth == predicted else "no"
    figures = (f"{probability:.6g}" for probability in result.probabilities)
    return (entry.case, truth or entry.label or "", predicted, correct, *figures)


def _write(path: Path, header: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv_text.Writer(file)
        writer.writerow(header)
        writer.writerows(lines)
