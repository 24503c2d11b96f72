"""The contents of a report on one study, read from its journal in one pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from SaliencyExplain.attribution.registry import methods
from SaliencyExplain.comparison.summary import Summary, summarise
from SaliencyExplain.length_unit import joined
from SaliencyExplain.records import control_names
from SaliencyExplain.records.agreement_row import METRICS, Row
from SaliencyExplain.records.case_entry import CaseEntry
from SaliencyExplain.records.journal_file import JournalFile
from SaliencyExplain.results.study_result import Labels
from SaliencyExplain.studies.study_tables import count_predictions

#: Cases shown as best and as worst, each.
_EXTREMES = 4

_CONTROL_TITLES = {"random": "random map", "centre": "centre-weighted map"}


@dataclass(frozen=True)
class StudyOutput:
    """A finished study that a report is about.

    Attributes:
        folder: Its output folder.
        title: Its heading in the report.
    """

    folder: Path
    title: str


@dataclass
class RunData:
    """One study of a report.

    Attributes:
        output: Its folder and title.
        configuration: The journal's first line.
        done: Cases with an explanation.
        failed: Cases with a failure.
        compared: Cases that were compared with a segmentation.
        segments: Names of the segments, the most frequent first.
        labels: The accuracy, where there are labels.
        summaries: ``{(method, segment, figure): summary}``.
        values: ``{(method, segment, figure): values of the cases}`` for the figures drawn.
        withheld: ``(method, segment)`` whose agreement was withheld in a case.
        layers: Layers looked at, ``{method: names}``.
        titles: Titles of all maps' labels, as :func:`map_titles`.
        best: Names of the best cases, the best first.
        worst: Names of the worst cases, the worst first.
        typical: The case in the middle; None where no case was compared.
        length_unit: Of the cases' lengths: ``mm``, ``px`` or ``mm or px``.
    """

    output: StudyOutput
    journal: JournalFile
    configuration: dict[str, Any]
    done: int = 0
    failed: int = 0
    compared: int = 0
    segments: list[str] = field(default_factory=list)
    labels: Labels | None = None
    summaries: dict[tuple[str, str, str], Summary] = field(default_factory=dict)
    values: dict[tuple[str, str, str], list[float]] = field(default_factory=dict)
    withheld: set[tuple[str, str]] = field(default_factory=set)
    layers: dict[str, list[str]] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    best: list[str] = field(default_factory=list)
    worst: list[str] = field(default_factory=list)
    typical: str | None = None
    length_unit: str = "mm"

    @property
    def title(self) -> str:
        """The run's heading."""
        return self.output.title

    @property
    def labels_of_maps(self) -> list[str]:
        """Labels of the methods' maps in the order of the table, without added control maps."""
        return [name for name in self.maps if name not in control_names.NAMES]

    @property
    def first_label(self) -> str | None:
        """Label of the first method's map, by which cases are ordered and chosen."""
        return self.labels_of_maps[0] if self.labels_of_maps else None

    @property
    def maps(self) -> list[str]:
        """Labels of all compared maps, the control maps last."""
        found = list(dict.fromkeys(method for method, _, _ in self.summaries))
        return sorted(found, key=lambda name: name in control_names.NAMES)

    def title_of(self, label: str) -> str:
        """A map's label as people read it, as :func:`map_titles`."""
        return self.titles.get(label, label)

    def entries(self) -> Iterator[CaseEntry]:
        """The cases' entries in the journal's order, one at a time."""
        yield from self.journal.entries()

    def of(self, method: str, segment: str, figure: str) -> Summary | None:
        """One summary; None where the method was never compared with the segment."""
        return self.summaries.get((method, segment, figure))


def map_titles(labels: Sequence[str]) -> dict[str, str]:
    """Maps' labels as people read them; with the layer only where a method has several maps.

    Args:
        labels: Of all maps, each once.

    Returns:
        ``{label: title}``, the control maps among them.
    """
    known = methods()
    names = [label.partition("@")[0] for label in labels]
    titles = {}
    for label, name in zip(labels, names, strict=True):
        title = known[name].title if name in known else name
        layer = label.partition("@")[2]
        titles[label] = f"{title} at {layer}" if layer and names.count(name) > 1 else title
    return {**titles, **_CONTROL_TITLES}


def gather(output: StudyOutput) -> RunData:
    """Reads a study's journal; memory holds the comparison's figures, never a map.

    Raises:
        InputError: The folder holds no study.
    """
    journal = JournalFile.read(output.folder)
    data = RunData(output, journal, journal.configuration)
    rows: list[Row] = []
    found: Counter[str] = Counter()
    labels: dict[str, None] = {}
    units: set[str] = set()
    for entry in data.entries():
        data.failed += bool(entry.failures)
        if entry.result is None:
            continue
        data.done += 1
        units.add(entry.result.length_unit)
        for map_ in entry.result.maps:
            name, _, layer = map_.label.partition("@")
            seen = data.layers.setdefault(name, [])
            if layer and layer not in seen:
                seen.append(layer)
            labels[map_.label] = None
        own = entry.result.rows
        rows += own
        data.compared += bool(own)
        found.update({row.segment for row in own})
    data.segments = [segment for segment, _ in found.most_common()]
    data.titles = map_titles(list(labels))
    data.length_unit = joined(units)
    data.labels = count_predictions(journal)
    for summary in summarise(rows, metrics=(*METRICS, "energy_chance_body")):
        data.summaries[summary.method, summary.segment, summary.metric] = summary
    data.withheld = {(row.method, row.segment) for row in rows if row.remark}
    for row in rows:
        for figure in ("auroc", "energy_inside"):
            value = getattr(row.agreement, figure)
            if not np.isnan(value):
                data.values.setdefault((row.method, row.segment, figure), []).append(value)
    _order(data, rows)
    return data


def _order(data: RunData, rows: Sequence[Row]) -> None:
    """Sets best, worst and typical case by the AUROC of the first method for the first segment."""
    if not data.first_label or not data.segments:
        return
    first, segment = data.first_label, data.segments[0]
    scored = sorted(
        (row.agreement.auroc, row.case)
        for row in rows
        if row.method == first and row.segment == segment and not np.isnan(row.agreement.auroc)
    )
    cases = [case for _, case in scored]
    # The two lists never share a case.
    count = min(_EXTREMES, len(cases) // 2)
    data.best, data.worst = cases[::-1][:count], cases[:count]
    data.typical = cases[len(cases) // 2] if cases else None
