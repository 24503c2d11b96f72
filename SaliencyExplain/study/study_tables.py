"""The tables of a study, made from its journal: predictions, confusion, comparison, failures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from SaliencyExplain import csv_text
from SaliencyExplain.comparison.table import Row, row_of, write_comparison
from SaliencyExplain.images.image_writing import atomic_file
from SaliencyExplain.study.classification_metrics import Labels, count_labels
from SaliencyExplain.study.journal import Journal

PREDICTIONS, COMPARISON, FAILURES = "predictions.csv", "comparison.csv", "failures.csv"
#: Only of a study with labels.
CONFUSION = "confusion.csv"


def write_tables(folder: Path, journal: Journal, order: Sequence[str]) -> list[Path]:
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
        (_prediction(entry, classes) for entry in journal.entries(order) if entry["done"]),
    )
    write_comparison(
        folder / COMPARISON,
        (row for entry in journal.entries(order) for row in comparison_rows(entry)),
    )
    _write(
        folder / FAILURES,
        ("case", "stage", "code", "reason"),
        (
            (entry["case"], failure["stage"], failure["code"], failure["reason"])
            for entry in journal.entries(order)
            for failure in entry["failures"]
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


def count_predictions(journal: Journal, order: Sequence[str] | None = None) -> Labels | None:
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
        if not entry["done"] or entry["label"] is None:
            continue
        name = true_class(entry["label"], classes)
        if name is None:
            unknown += 1
            continue
        truth.append(classes.index(name))
        predicted.append(classes.index(predicted_class(entry, classes)))
    return count_labels(truth, predicted, classes, unknown=unknown)


def comparison_rows(entry: Mapping[str, Any]) -> Iterator[Row]:
    """The rows of the comparison that a case's entry holds; undefined figures are NaN."""
    for row in entry.get("rows", []):
        case, method, target, segment = (
            str(row[name]) for name in ("case", "method", "target", "segment")
        )
        found = row_of(row, case, method, target, segment, str(row.get("remark", "")))
        yield replace(
            found,
            segmentation_sha256=str(row.get("segmentation_sha256", "")),
            length_unit=str(row.get("length_unit", "mm")),
        )


def predicted_class(entry: Mapping[str, Any], classes: Sequence[str]) -> str:
    """Name of the class with the highest probability."""
    probabilities = entry["probabilities"]
    return str(classes[max(range(len(classes)), key=probabilities.__getitem__)])


def true_class(label: str | None, classes: Sequence[str]) -> str | None:
    """The class that a label means: its name in any case, or its index; None where there is none.

    A label that is no class of the classifier (another spelling, a class that it has
    never learnt) can be neither right nor wrong and counts nowhere.
    """
    if label is None:
        return None
    lower = {name.casefold(): name for name in classes}
    if label.casefold() in lower:
        return lower[label.casefold()]
    if label.isdecimal() and int(label) < len(classes):
        return classes[int(label)]
    return None


def _prediction(entry: Mapping[str, Any], classes: Sequence[str]) -> tuple[str, ...]:
    predicted = predicted_class(entry, classes)
    truth = true_class(entry["label"], classes)
    correct = "" if truth is None else "yes" if truth == predicted else "no"
    figures = (f"{probability:.6g}" for probability in entry["probabilities"])
    return (entry["case"], truth or entry["label"] or "", predicted, correct, *figures)


def _write(path: Path, header: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv_text.Writer(file)
        writer.writerow(header)
        writer.writerows(lines)
