"""The report's section on whether a study's maps can be believed, from its evaluation's files."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from SaliencyExplain.evaluation_parts import (
    STUDY_EVALUATION_FILE,
    STUDY_EVALUATION_FOLDER,
    STUDY_EVALUATION_FORMAT,
)
from SaliencyExplain.records.agreement_row import METRICS
from SaliencyExplain.records.journal_file import journal_digest
from SaliencyExplain.studies.difference_words import answer_words, interval_words, signed
from SaliencyExplain.studies.report_words import number, percent

_PICTURES = {
    "fixed-places.png": "Shortcut alarms: places where the maps of one class concentrate. Mean "
    "map over the mean image, planes through the place, the frame around it.",
    "places.png": "Mean share of the positive attribution in each place, with 95 % interval; the "
    "dashed line is the place's share of the image, the value by chance.",
    "paired.png": "Methods compared on the same cases, with simultaneous intervals; coloured "
    "where the corrected test finds a difference of interest.",
    "curves.png": "Curves of the evaluated cases; dashed: null maps.",
    "clusters.png": "Similar maps: each group's mean map, at its largest values, over the mean "
    "image of the most frequent class in it.",
    "biomarkers.png": "Correlates of the energy in a segment; the control maps show what the "
    "segment's size alone explains.",
}

#: Metrics of which the report shows the pairs; all are in paired.csv.
_PAIRS = ("auroc", "energy_inside", "sic_compressed", "insertion_area")

#: A table's heading, its columns, and its rows.
Table = tuple[str, Sequence[str], list[Sequence[str]]]


@dataclass(frozen=True)
class EvaluationSection:
    """What the report shows of an evaluation.

    Attributes:
        document: The content of ``study-evaluation.json``.
        folder: Where it lies.
        current: Whether the study is still the one that was evaluated.
    """

    document: dict[str, Any]
    folder: Path
    current: bool

    @property
    def pictures(self) -> list[tuple[str, str]]:
        """Each picture as a ``data:`` address, and what it shows."""
        shown = []
        for name in self.document["pictures"]:
            try:
                data = base64.b64encode((self.folder / name).read_bytes()).decode("ascii")
            except FileNotFoundError:
                continue
            shown.append((f"data:image/png;base64,{data}", _PICTURES[name]))
        return shown

    @property
    def tables(self) -> list[Table]:
        """The tables that have rows."""
        tables = [self._fixed_places(), self._places(), self._faithfulness(), self._biomarkers()]
        tables += [self._pairs(metric) for metric in _PAIRS]
        return [table for table in tables if table[2]]

    def title(self, label: str) -> str:
        """A map's label as people read it."""
        return str(self.document["titles"].get(label, label))

    def _fixed_places(self) -> Table:
        rows: list[Sequence[str]] = [
            (
                self.title(one["method"]), one["target"],
                "alarm" if one["alarm"] else "not known" if one["undecided"] else "none",
                one["words"], percent(one["excess"]), percent(one["chance"]),
                f"{one['p_corrected']:.2g}",
                f"{round(one['stands_out'] * one['cases'])} of {one['cases']}",
                _share(one["others"]),
            )
            for one in self.document["fixed_places"]
        ]  # fmt: skip
        columns = (
            "Method", "Class", "Shortcut alarm", "Where the maps agree most",
            "Energy beyond the surroundings'", "95th percentile by chance", "p (corrected)",
            "Stands out in", "In other classes",
        )  # fmt: skip
        return "Fixed places", columns, rows

    def _places(self) -> Table:
        rows: list[Sequence[str]] = [
            (
                self.title(one["method"]), one["place"],
                _range(one["energy"]["mean"], one["energy"]["low"], one["energy"]["high"]),
                percent(one["volume"]), str(one["energy"]["count"]),
            )
            for one in self.document["places"]
        ]  # fmt: skip
        columns = (
            "Method", "Place", "Energy, mean of the cases' shares",
            "By chance, mean of the cases' shares", "Cases",
        )  # fmt: skip
        return "Where the energy lies", columns, rows

    def _faithfulness(self) -> Table:
        rows: list[Sequence[str]] = [
            (
                self.title(one["method"]), one["title"], number(_known(one["value"]["mean"])),
                number(_known(one["area_of_median"])), number(_known(one["null_mean"])),
                number(_known(one["centre"])), _share(one["beaten"]), _share(one["beats_chance"]),
                str(one["value"]["count"]),
            )
            for one in self.document["metrics"]
        ]  # fmt: skip
        columns = (
            "Method", "Metric", "Mean", "Area under the median curve", "Null maps",
            "Centre-weighted map", "Null maps beaten", "Cases that beat the null maps", "Cases",
        )  # fmt: skip
        return "Faithfulness over the evaluated cases", columns, rows

    def _biomarkers(self) -> Table:
        rows: list[Sequence[str]] = [
            (
                self.title(one["method"]), one["segment"], one["quantity"],
                number(_known(one["coefficient"])),
                "" if one["low"] is None else f"{one['low']:.2f} to {one['high']:.2f}",
                "" if one["p_holm"] is None else f"{one['p_holm']:.2g}", str(one["cases"]),
            )
            for one in self.document["biomarkers"]
        ]  # fmt: skip
        columns = (
            "Method", "Segment", "With", "Spearman", "95 % interval, of all methods' together",
            "p (Holm)", "Cases",
        )  # fmt: skip
        return "Correlates of the energy in a segment", columns, rows

    def _pairs(self, metric: str) -> Table:
        rows: list[Sequence[str]] = [
            (
                f"{self.title(one['first'])} − {self.title(one['second'])}", one["segment"],
                "" if one["difference"] is None else signed(one["difference"]),
                interval_words(one["low"], one["high"]),
                "" if one["p_holm"] is None else f"{one['p_holm']:.2g}", str(one["cases"]),
                answer_words(
                    one["answer"], one["better"], one["smallest"], self.title(one["better"])
                ),
            )
            for one in self.document["pairs"]
            if one["metric"] == metric
        ]  # fmt: skip
        columns = (
            "Methods", "Segment", "Mean difference", "95 % interval, of all pairs together",
            "p (Holm)", "Cases", "Answer",
        )  # fmt: skip
        kind = "of the comparison" if metric in METRICS else "of the evaluations"
        return f"Methods on the same cases: {metric.replace('_', ' ')} {kind}", columns, rows


def read_evaluation_section(study: Path) -> EvaluationSection | None:
    """The section of a study's evaluation; None if it has none in this version's format."""
    path = study / STUDY_EVALUATION_FOLDER / STUDY_EVALUATION_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    if document["format"] != STUDY_EVALUATION_FORMAT:
        return None
    return EvaluationSection(
        document, path.parent, document["journal_sha256"] == journal_digest(study)
    )


def _known(value: float | None) -> float:
    return math.nan if value is None else value


def _share(value: float | None) -> str:
    known = _known(value)
    return percent(known) if math.isnan(known) or known >= 0 else "less than around it"


def _range(mean: float | None, low: float | None, high: float | None) -> str:
    text = percent(_known(mean))
    return text if low is None else f"{text} [{percent(_known(low))}, {percent(_known(high))}]"
