"""The files of an evaluation: evaluation.json, curves.csv, curves.png, a trust card per map."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from SaliencyExplain import csv_text
from SaliencyExplain.csv_text import figure_cell
from SaliencyExplain.evaluation.image.image_evaluation import Evaluation, MapEvaluation
from SaliencyExplain.evaluation.image.trust_card import draw_card, draw_curves_picture
from SaliencyExplain.evaluation_parts import EVALUATION_FILE
from SaliencyExplain.explanation.prepared_case import PreparedCase
from SaliencyExplain.images.image_writing import atomic_file
from SaliencyExplain.json_text import json_text

CURVES, CURVES_PICTURE = "curves.csv", "curves.png"

#: Columns of ``curves.csv``. The chance columns hold the null maps' 5th percentile, median
#: and 95th percentile at the same share, for the deletion and insertion curves.
COLUMNS = ("map", "curve", "x", "y", "chance_low", "chance_median", "chance_high")


def write_evaluation(folder: Path, found: Evaluation, case: PreparedCase) -> list[Path]:
    """Writes everything about an evaluation into a folder; each file is complete or not there.

    Args:
        folder: Made where it does not exist.
        found: The evaluation.
        case: What it was about, for the pictures.

    Returns:
        The files.

    Raises:
        OutputError: One cannot be written.
    """
    files = [folder / EVALUATION_FILE, folder / CURVES]
    with atomic_file(files[1]) as temporary, temporary.open("w", newline="", encoding="utf-8") as f:
        writer = csv_text.Writer(f)
        writer.writerow(COLUMNS)
        for one in found.maps:
            writer.writerows(_curve_rows(one))
    if any(one.faithfulness is not None for one in found.maps):
        files.append(folder / CURVES_PICTURE)
        draw_curves_picture(files[-1], found)
    for one in found.maps:
        files.append(folder / card_name(one))
        draw_card(files[-1], found, one, case)
    # Last: where it lies, the others are there too.
    with atomic_file(files[0]) as temporary:
        temporary.write_text(json_text(found.as_json()), encoding="utf-8")
    return files


def card_name(one: MapEvaluation) -> str:
    """The file name of a map's trust card."""
    return f"card-{re.sub(r'[^A-Za-z0-9@+._-]+', '-', one.label)}.png"


def _curve_rows(one: MapEvaluation) -> Iterator[list[str]]:
    found = one.faithfulness
    if found is None:
        return
    for kind in ("deletion", "insertion"):
        band = zip(*getattr(found, f"chance_{kind}"), strict=True)
        points = zip(found.curves.shares, getattr(found.curves, kind), strict=True)
        for (share, value), chance in zip(points, band, strict=True):
            yield [one.label, kind, *map(figure_cell, (share, value, *chance))]
    for letters, curves in (
        ("SIC", found.curves.softmax_information),
        ("AIC", found.curves.accuracy_information),
    ):
        for measure, curve in curves.items():
            for point in zip(curve.information, curve.performance, strict=True):
                yield [one.label, f"{letters} {measure}", *map(figure_cell, point), "", "", ""]
