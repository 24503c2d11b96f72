"""The files of an evaluation: one JSON document, tables, pictures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from SaliencyExplain import csv_text
from SaliencyExplain.evaluation.study.study_evaluation import StudyEvaluation
from SaliencyExplain.evaluation.study.study_pictures import draw_pictures
from SaliencyExplain.evaluation.study.study_words import (
    LIMITS,
    evaluation_sentences,
    place_words,
)
from SaliencyExplain.evaluation_parts import STUDY_EVALUATION_FILE
from SaliencyExplain.images.image_writing import atomic_file
from SaliencyExplain.json_text import json_text
from SaliencyExplain.progress import Progress, silent
from SaliencyExplain.studies.report_data import map_titles


def write_study_evaluation(
    folder: Path, found: StudyEvaluation, *, progress: Progress = silent
) -> list[Path]:
    """Writes an evaluation into a folder; each file is complete or not there.

    ``paired.csv``, ``places.csv``, ``fixed_places.csv``, ``biomarkers.csv``, ``clusters.csv``,
    ``metrics.csv`` and ``curves.csv`` (the last two where cases were evaluated), pictures, and
    ``study-evaluation.json`` with all of it and the words.

    Args:
        folder: Where they are written.
        found: What is written.
        progress: Told after each picture; may raise Cancelled.

    Returns:
        The files, ``study-evaluation.json`` last.

    Raises:
        OutputError: One cannot be written.
    """
    files = []
    for name, (header, rows) in _tables(found).items():
        if rows:
            files.append(folder / name)
            _write(files[-1], header, rows)
    pictures = draw_pictures(folder, found, progress)
    document = evaluation_document(found) | {"pictures": [path.name for path in pictures]}
    # Last: where it lies, the others are there too.
    with atomic_file(folder / STUDY_EVALUATION_FILE) as temporary:
        temporary.write_text(json_text(document), encoding="utf-8")
    return [*files, *pictures, folder / STUDY_EVALUATION_FILE]


def evaluation_document(found: StudyEvaluation) -> dict[str, Any]:
    """All metrics and words, for :func:`SaliencyExplain.json_text.json_text`."""
    document = found.as_json()
    for one in document["fixed_places"]:
        one["words"] = place_words(one["place"], found.survey.sides)
    return {
        **document,
        "titles": map_titles(found.study.labels),
        "sentences": evaluation_sentences(found),
        "limits": LIMITS,
    }


def _tables(found: StudyEvaluation) -> dict[str, tuple[Sequence[str], list[Sequence[Any]]]]:
    """``{file: (header, rows)}``."""
    return {
        "paired.csv": (
            ("metric", "segment", "first", "second", "difference", "low", "high", "p_value",
             "p_holm", "cases", "smallest_difference", "answer", "better"),
            [(p.metric, p.segment, p.first, p.second, p.difference, p.low, p.high, p.p_value,
              p.p_holm, p.cases, p.smallest, p.answer, p.better) for p in found.pairs],
        ),
        "places.csv": (
            ("method", "place", "energy", "low", "high", "share_of_image", "cases"),
            [(p.method, p.place, p.energy.mean, p.energy.low, p.energy.high, p.volume,
              p.energy.count) for p in found.places],
        ),
        "fixed_places.csv": (
            ("method", "target", "place", "cells", "excess", "energy", "chance", "p_value",
             "p_corrected", "stands_out", "others", "cases", "segment", "alarm", "undecided"),
            [(p.method, p.target, " ".join(f"{share:.3g}" for share in p.place), p.cells, p.excess,
              p.energy, p.chance, p.p_value, p.p_corrected, p.stands_out, p.others, p.cases,
              p.segment, "yes" if p.alarm else "no", "yes" if p.undecided else "no")
             for p in found.fixed_places],
        ),
        "biomarkers.csv": (
            ("method", "segment", "quantity", "spearman", "low", "high", "p_value", "p_holm",
             "cases"),
            [(b.method, b.segment, b.quantity, b.coefficient, b.low, b.high, b.p_value, b.p_holm,
              b.cases)
             for b in found.biomarkers],
        ),
        "clusters.csv": (
            ("method", "group", "case"),
            [(c.method, number, case) for c in found.clusters
             for number, group in enumerate(c.groups, start=1) for case in group.cases],
        ),
        "metrics.csv": (
            ("method", "metric", "mean", "low", "high", "area_of_median_curve", "random", "centre",
             "beaten", "cases_that_beat_chance", "cases"),
            [(t.method, t.metric, t.value.mean, t.value.low, t.value.high, t.area_of_median,
              t.null_mean, t.centre, t.beaten, t.beats_chance, t.value.count)
             for t in found.metrics],
        ),
        "curves.csv": (
            ("method", "curve", "x", "mean", "median", "random", "cases"),
            [(c.method, c.curve, x, mean, median, chance, c.cases) for c in found.curves
             for x, mean, median, chance in zip(
                 c.x, c.mean, c.median, c.null_median or (math.nan,) * len(c.x), strict=True)],
        ),
    }  # fmt: skip


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv_text.Writer(file)
        writer.writerow(header)
        writer.writerows([_cell(value) for value in row] for row in rows)


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    # Minus zero would be another text for the same metric.
    return "" if math.isnan(value) else f"{value + 0.0:.6g}"
