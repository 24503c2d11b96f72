"""The report of one study or several beside each other: one self-contained HTML page."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from SaliencyExplain.attribution.registry import find_method
from SaliencyExplain.comparison.table import auroc_chance
from SaliencyExplain.errors import ErrorCode, OutputError
from SaliencyExplain.images.image_writing import atomic_file
from SaliencyExplain.pictures import to_jpeg
from SaliencyExplain.pictures.figure_layout import STANDARD_WIDTH
from SaliencyExplain.plain_text import visible
from SaliencyExplain.records import control_names
from SaliencyExplain.records.case_entry import CaseEntry, CaseResult, MapEntry, true_class
from SaliencyExplain.records.left_out import LeftOut
from SaliencyExplain.results.evaluation_results import card_name
from SaliencyExplain.specification.parameters import value_text
from SaliencyExplain.studies.case_reading import EVALUATION_STAGE
from SaliencyExplain.studies.report_contrast import greatest_contrast
from SaliencyExplain.studies.report_data import RunData, StudyOutput, gather
from SaliencyExplain.studies.report_evaluation import EvaluationSection, read_evaluation_section
from SaliencyExplain.studies.report_figure import agreement_figure
from SaliencyExplain.studies.report_words import (
    figure_text,
    number,
    percent,
    sentences,
    with_interval,
)

__all__ = ["StudyOutput", "write_report"]

#: Bytes of pictures inside a page; beyond them pictures become links to their files.
#: Browsers open pages of this size on a laptop without waiting.
PICTURE_BUDGET = 48_000_000
#: Width of a picture in the page while there are few, and when there are many, in pixels.
_WIDE, _NARROW, _FEW = 900, 560, 120

#: The table of a study: figure, heading, what it is; ``unit`` is that of lengths.
_TABLE = (
    ("auroc", "AUROC", "chance that a voxel inside outranks one outside; chance 0.5"),
    (
        "energy_inside",
        "Energy inside, mean of shares",
        "share of what speaks for the class that lies inside, the mean of the cases' shares",
    ),
    ("energy_chance", "Energy by chance", "the segment's share of the volume"),
    ("energy_chance_body", "… of the body", "the segment's share of the body"),
    ("pointing", "Pointing", "share of cases whose strongest voxel lies inside"),
    ("pointing_tolerance", "Pointing, 5 {unit}", "the same, or within 5 {unit}"),
    ("average_precision", "Average precision", "chance: energy by chance"),
    ("rank_accuracy", "Rank accuracy", "share of the segment among as many strongest voxels"),
    ("dice_equal_volume", "Dice", "of the segment and as many strongest voxels"),
    ("dice_best", "Best Dice", "over all thresholds; an upper bound"),
    ("hausdorff95_mm", "Hausdorff 95 % ({unit})", "at equal volume; less is better"),
    ("mean_surface_distance_mm", "Surface distance ({unit})", "mean, at equal volume"),
    ("centre_distance_mm", "Centre distance ({unit})", "between the centres of mass"),
)


class _Pictures:
    """Small copies of the PNG files until the page's budget is used up."""

    def __init__(self, page: Path, count: int) -> None:
        self.page = page
        self.width = _WIDE if count <= _FEW else _NARROW
        self.left = PICTURE_BUDGET
        self.left_for_cards = PICTURE_BUDGET // 3
        self.linked = 0

    def show(
        self, run: RunData, entry: CaseEntry, result: CaseResult, map_: MapEntry
    ) -> dict[str, Any]:
        """The picture of one map: words, link, data if there is room, evaluation."""
        path = run.output.folder / entry.case / map_.files.picture
        title = run.title_of(map_.label)
        if map_.share_done < 1:
            title += f" (partial: {percent(min(map_.share_done, 0.99))} done)"
        shown = {
            "case": entry.case,
            "title": title,
            "target": result.target,
            "figures": _picture_figures(run, result, map_.label),
            **self._file(path, self.width),
        }
        return shown | self._evaluation(path.parent, entry, result, map_.label)

    def _evaluation(
        self, folder: Path, entry: CaseEntry, result: CaseResult, label: str
    ) -> dict[str, Any]:
        """The evaluation of a map, and its trust card."""
        answers = None if result.evaluation is None else result.evaluation.answers.get(label)
        failed = any(failure.stage == EVALUATION_STAGE for failure in entry.failures)
        if answers is None:
            return {"answers": [], "evaluation_failed": failed, "card": None}
        before = self.left
        card = self._file(folder / card_name(label), STANDARD_WIDTH, most=self.left_for_cards)
        self.left_for_cards -= before - self.left
        return {"answers": answers, "evaluation_failed": failed, "card": card}

    def _file(self, path: Path, width: int, most: int = PICTURE_BUDGET) -> dict[str, str]:
        """The link to a PNG file, and its data of at most so many bytes if there is room."""
        file = {"link": _link(self.page.parent, path), "data": ""}
        try:
            png = path.read_bytes()
        except FileNotFoundError:
            return file | {"link": ""}
        if min(self.left, most) > 0:
            data = base64.b64encode(to_jpeg(png, width)).decode("ascii")
            if len(data) <= min(self.left, most):
                self.left -= len(data)
                return file | {"data": f"data:image/jpeg;base64,{data}"}
            if most >= self.left:
                self.left = 0
        self.linked += 1
        return file


@dataclass(frozen=True)
class _Run:
    """One study as the template sees it."""

    data: RunData
    anchor: str
    pictures: _Pictures

    @cached_property
    def evaluation(self) -> EvaluationSection | None:
        """The result of ``saliency-explain evaluate study``; None if it was not run."""
        return read_evaluation_section(self.data.output.folder)

    @property
    def sentences(self) -> list[str]:
        return sentences(self.data)

    @property
    def methods(self) -> list[dict[str, Any]]:
        """The methods with their parameters and units."""
        described = []
        for given in self.data.configuration["methods"]:
            method = find_method(given["name"])
            known = {field.name: field.metadata for field in fields(method)}
            layers = self.data.layers.get(method.name, [])
            described.append(
                {
                    "title": method.title,
                    "source": method.source,
                    "layers": layers,
                    "parameters": [
                        f"{name} {value_text(known[name], value, self.data.length_unit)}"
                        for name, value in given["parameters"].items()
                        if name != "layers"
                    ],
                }
            )
        return described

    @property
    def left_out(self) -> list[LeftOut]:
        """What lies in the study's folder beside its cases."""
        return self.data.journal.left_out()

    @property
    def folder_notes(self) -> list[str]:
        """Notes on the study's folder or table."""
        return self.data.journal.folder_notes()

    def figures(self, segment: str) -> list[Markup]:
        return [
            Markup(visible(agreement_figure(self.data, segment, figure)))
            for figure in ("auroc", "energy_inside")
            if any((name, segment, figure) in self.data.values for name in self.data.maps)
        ]

    def columns(self, segment: str) -> list[tuple[str, str, str]]:
        """The figures that at least one map has for the segment."""
        unit = self.data.length_unit
        return [
            (figure, heading.format(unit=unit), words.format(unit=unit))
            for figure, heading, words in _TABLE
            if any(self._means(segment, figure))
        ]

    def _means(self, segment: str, figure: str) -> Iterator[bool]:
        for name in self.data.maps:
            summary = self.data.of(name, segment, figure)
            yield summary is not None and not math.isnan(summary.interval.mean)

    def table(self, segment: str) -> list[dict[str, Any]]:
        """A row for each map: its title, and a cell for each column."""
        lines = []
        for name in self.data.maps:
            if self.data.of(name, segment, "auroc") is None:
                continue
            cells = []
            for figure, _, _ in self.columns(segment):
                summary = self.data.of(name, segment, figure)
                if summary is None:
                    cells.append({"mean": "–", "range": "", "better": False})
                    continue
                interval = summary.interval
                beaten = [summary.beats(control_map) for control_map in summary.against]
                cells.append(
                    {
                        "mean": figure_text(figure, interval.mean),
                        "range": ""
                        if math.isnan(interval.low) or figure.startswith("energy_chance")
                        else f"{figure_text(figure, interval.low)} – "
                        f"{figure_text(figure, interval.high)}",
                        "better": len(beaten) == len(control_names.NAMES) and all(beaten),
                    }
                )
            lines.append(
                {
                    "title": self.data.title_of(name),
                    "control_map": name in control_names.NAMES,
                    "cells": cells,
                }
            )
        return lines

    @property
    def score_columns(self) -> list[tuple[str, str]]:
        """``(map, segment)`` whose AUROC the table of cases shows."""
        segments = self.data.segments
        maps = self.data.labels_of_maps
        # More than eight columns are hard to read: then only the first segment.
        if len(maps) * len(segments) > 8:
            segments = segments[:1]
        return [(name, segment) for segment in segments for name in maps]

    def lines(self) -> Iterator[dict[str, Any]]:
        """The cases of the table, one at a time."""
        classes = self.data.configuration["classes"]
        for entry in self.data.entries():
            result = entry.result
            if result is None:
                continue
            truth = true_class(entry.label, classes)
            predicted = result.predicted(classes)
            found = {(row.method, row.segment): row.agreement for row in result.rows}
            yield {
                "case": entry.case,
                "link": _link(self.pictures.page.parent, self.data.output.folder / entry.case),
                "label": truth or entry.label or "",
                "predicted": predicted,
                "wrong": truth is not None and truth != predicted,
                "target": result.target,
                "probability": f"{max(result.probabilities):.3f}",
                "scores": [
                    number(found[key].auroc) if key in found else "–" for key in self.score_columns
                ],
                "notes": result.notes,
            }

    def typical(self) -> dict[str, Any] | None:
        """The picture of the median case, as a typical one."""
        return self._first_picture(self.data.typical) if self.data.typical else None

    def glance(self, segment: str) -> list[tuple[str, str, str]]:
        """For the comparison of studies: method, AUROC, and energy beside chance."""
        said = []
        for name in self.data.labels_of_maps:
            auroc = self.data.of(name, segment, "auroc")
            energy = self.data.of(name, segment, "energy_inside")
            chance = self.data.of(name, segment, "energy_chance")
            if auroc and energy and chance:
                shares = f"{percent(energy.interval.mean)} (chance {percent(chance.interval.mean)})"
                said.append(
                    (self.data.title_of(name), with_interval("auroc", auroc.interval), shares)
                )
        return said

    def extremes(self) -> list[tuple[str, list[dict[str, Any]]]]:
        """The best and the worst cases, with the picture of the first method."""
        groups = (("Best", self.data.best), ("Worst", self.data.worst))
        return [
            (word, [self._first_picture(case) for case in cases]) for word, cases in groups if cases
        ]

    def picture(self, case: str, label: str) -> dict[str, Any]:
        """The picture of one map of one case."""
        entry = self.data.journal.entry(case)
        assert entry.result is not None
        map_ = next(one for one in entry.result.maps if one.label == label)
        return self.pictures.show(self.data, entry, entry.result, map_)

    def _first_picture(self, case: str) -> dict[str, Any]:
        return self.picture(case, self.data.labels_of_maps[0])

    def gallery(self) -> Iterator[dict[str, Any]]:
        """All pictures, one at a time."""
        for entry in self.data.entries():
            if entry.result is not None:
                for map_ in entry.result.maps:
                    yield self.pictures.show(self.data, entry, entry.result, map_)

    def failures(self) -> Iterator[tuple[str, str, str]]:
        """Case, stage and reason of each failure, one at a time."""
        for entry in self.data.entries():
            for failure in entry.failures:
                yield entry.case, failure.stage, failure.reason


def write_report(out: Path, runs: Sequence[StudyOutput], *, title: str = "") -> Path:
    """Writes a page about studies: one, or several beside each other.

    The page holds everything: no network, no further files. Pictures are small
    JPEGs, up to 48 MB of them; where they are more, the rest are links to the PNG
    files in the cases' folders, and the page says so. It is written while the
    journals are read: memory holds the comparison's figures and one picture. The
    same studies give the same bytes.

    Args:
        out: The page; its links are relative to its folder.
        runs: The studies' output folders with their headings.
        title: The page's heading; the first study's where it is empty.

    Returns:
        The page.

    Raises:
        InputError: A folder holds no study.
        OutputError: The page cannot be written.
    """
    gathered = [gather(run) for run in runs]
    pictures = _Pictures(
        out, sum(data.done * len(data.configuration["methods"]) for data in gathered)
    )
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("SaliencyExplain.studies", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.globals |= {
        "percent": percent,
    }
    stream = environment.get_template("report.html.j2").generate(
        title=title or gathered[0].title,
        runs=[_Run(data, f"run-{n}", pictures) for n, data in enumerate(gathered, start=1)],
        contrast=greatest_contrast(gathered),
        segments=list(dict.fromkeys(name for data in gathered for name in data.segments)),
        pictures=pictures,
        budget=PICTURE_BUDGET // 1_000_000,
    )
    try:
        with atomic_file(out) as temporary, temporary.open("w", encoding="utf-8") as file:
            for chunk in stream:
                file.write(chunk)
    except OSError as error:
        raise OutputError(
            ErrorCode.OUTPUT_UNWRITABLE, f"{out}: cannot be written ({error.strerror})."
        ) from error
    return out


def _shown(value: Any) -> Any:
    """Text of strangers without characters that act; the template escapes what is HTML."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _picture_figures(run: RunData, result: CaseResult, label: str) -> str:
    rows = result.rows
    return "; ".join(
        f"{row.segment}: {row.remark}"
        if row.remark
        else f"{row.segment}: AUROC {number(row.agreement.auroc)} "
        f"({auroc_chance(rows, row.segment)}), energy "
        f"{percent(row.agreement.energy_inside)} (chance {percent(row.agreement.energy_chance)})"
        for row in rows
        if row.method == label and row.segment in run.segments[:2]
    )


def _link(page_folder: Path, path: Path) -> str:
    """A link from the page to a file, relative wherever one lies below the other."""
    try:
        relative = path.resolve().relative_to(page_folder.resolve())
    except ValueError:
        return path.resolve().as_uri()
    return quote(relative.as_posix())
