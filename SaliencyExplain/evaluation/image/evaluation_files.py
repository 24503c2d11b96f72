"""The files of an evaluation: evaluation.json, curves.csv, curves.png, a trust card per map."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from SaliencyExplain import csv_text
from SaliencyExplain.csv_text import figure_cell
from SaliencyExplain.evaluation.image.evaluated_maps import EvaluatedMaps
from SaliencyExplain.evaluation.image.trust_card import draw_card, draw_curves_picture
from SaliencyExplain.evaluation_parts import EVALUATION_FILE
from SaliencyExplain.images.image_writing import atomic_file
from SaliencyExplain.json_text import json_text
from SaliencyExplain.results.image_evaluation import MapEvaluation

CURVES, CURVES_PICTURE = "curves.csv", "curves.png"

#: Columns of ``curves.csv``. The null columns hold the null maps' 5th percentile, median
#: and 95th percentile at the same share, for the deletion and insertion curves.
COLUMNS = ("map", "curve", "x", "y", "null_low", "null_median", "null_high")


def write_evaluation(folder: Path, found: EvaluatedMaps) -> list[Path]:
    """Writes everything about an evaluation into a folder; each file is complete or not there.

    Args:
        folder: Made where it does not exist.
        found: The evaluation and what its pictures show.

    Returns:
        The files.

    Raises:
        OutputError: One cannot be written.
    """
    maps = found.evaluation.maps
    files = [folder / EVALUATION_FILE, folder / CURVES]
    with atomic_file(files[1]) as temporary, temporary.open("w", newline="", encoding="utf-8") as f:
        writer = csv_text.Writer(f)
        writer.writerow(COLUMNS)
        for one in maps:
            writer.writerows(_curve_rows(one))
    if any(one.faithfulness is not None for one in maps):
        files.append(folder / CURVES_PICTURE)
        draw_curves_picture(files[-1], maps)
    for one in maps:
        files.append(folder / one.card)
        draw_card(files[-1], found, one)
    # Last: where it lies, the others are there too.
    with atomic_file(files[0]) as temporary:
        temporary.write_text(json_text(found.evaluation.as_json()), encoding="utf-8")
    return files


def _curve_rows(one: MapEvaluation) -> Iterator[list[str]]:
    found = one.faithfulness
    if found is None:
        return
    for kind in ("deletion", "insertion"):
        band = zip(*getattr(found, f"null_{kind}"), strict=True)
        points = zip(found.curves.shares, getattr(found.curves, kind), strict=True)
        for (share, value), nulls in zip(points, band, strict=True):
            yield [one.label, kind, *map(figure_cell, (share, value, *nulls))]
    for letters, curves in (
        ("SIC", found.curves.softmax_information),
        ("AIC", found.curves.accuracy_information),
    ):
        for measure, curve in curves.items():
            for point in zip(curve.information, curve.performance, strict=True):
                yield [one.label, f"{letters} {measure}", *map(figure_cell, point), "", "", ""]
