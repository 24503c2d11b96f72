"""The panel's section "Compare": agreement of maps with segments, and control maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from trame.widgets import html

from SaliencyExplain import csv_text
from SaliencyExplain.engine.interface import Engine
from SaliencyExplain.engine.wire.requests import CompareRequest
from SaliencyExplain.engine.wire.results import CompareResult
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.scene import names
from SaliencyExplain.scene.arrays import on_axes
from SaliencyExplain.scene.attributions import attributions_of, read_attribution
from SaliencyExplain.viewer import opened_images
from SaliencyExplain.viewer.page_plots import build_plot, curve_plot
from SaliencyExplain.viewer.page_words import number_text
from SaliencyExplain.viewer.part import Part
from SaliencyExplain.viewer.widgets import button, section, select
from SaliencyExplain.voxel_volume import Volume

ALL = "all"
_NO_MAP = "No map yet. Explain a volume first."

#: Columns of the engine's table that the page shows, with their titles; the CSV has all.
#: ``unit`` is that of lengths.
_SHOWN = {
    "method": "Map",
    "auroc": "AUROC",
    "energy_inside": "Energy inside",
    "energy_chance": "by chance",
    "pointing": "Peak inside",
    "dice_best": "Best Dice",
    "centre_distance_mm": "Distance, {unit}",
}
_CONTROL_MAPS = ("random", "centre")


class ComparePart(Part):
    """Holds the maps of an image against its segments."""

    prefix = "compare"

    def __init__(self, viewer: Any) -> None:
        super().__init__(
            viewer, targets=[], target=None, segments=[], segment=ALL, why=_NO_MAP, tables=[]
        )
        self._result: CompareResult | None = None

    def build(self) -> None:
        """The section's controls."""
        with section("Compare", self):
            with html.Div(classes="se-two"):
                select(
                    self.name("target"),
                    (self.name("targets"),),
                    "Maps of",
                    "All maps of one class.",
                )
                select(self.name("segment"), (self.name("segments"),), "Segment",
                       "One segment, or each of them.")  # fmt: skip
            button(
                "Compare",
                self.compare,
                "Measure the agreement of each map with the segment.",
                color="primary",
                disabled=(f"!!{self.name('why')} || {self.name('busy')}",),
                classes="se-compare-button",
            )
            html.Div("{{ " + self.name("why") + " }}", v_if=(self.name("why"),), classes="se-hint")
            with html.Div(v_for=f"table in {self.name('tables')}", key="table.segment"):
                html.Div("{{ table.segment }}", classes="se-subtitle")
                self._build_table()
                build_plot("table.plot")
            html.A("CSV", v_if=(f"{self.name('tables')}.length",), href="/comparison.csv",
                   download="comparison.csv", classes="se-link")  # fmt: skip

    def changed(self) -> None:
        """Maps or segments have come or gone: what is offered is another."""
        image = self.viewer.shown
        nodes = attributions_of(self.viewer.scene, image.node) if image is not None else []
        targets = list(dict.fromkeys(read_target(node) for node in nodes))
        kept = self.get("target")
        if kept not in targets:
            kept = targets[-1] if targets else None
        node = self.viewer.segmentation
        segments = [{"title": "each", "value": ALL}]
        if node is not None:
            segmentation = node.GetSegmentation()
            for n in range(segmentation.GetNumberOfSegments()):
                title = segmentation.GetNthSegment(n).GetName()
                segments.append({"title": title, "value": segmentation.GetNthSegmentID(n)})
        known = [row["value"] for row in segments]
        why = (
            _NO_MAP
            if not nodes
            else "Open a segmentation: drop it on the page."
            if node is None
            else ""
        )
        self.put(
            targets=targets,
            target=kept,
            segments=segments,
            segment=self.get("segment") if self.get("segment") in known else ALL,
            why=why,
        )

    def forget(self) -> None:
        """What was measured was about another image or segmentation."""
        self.drop()
        self._result = None
        self.put(tables=[], notes=[], error="")
        self.changed()

    def compare(self) -> None:
        """Measures the agreement of each map with the segments."""
        self.work(self._compare(), "Comparing …")

    def csv(self) -> str:
        """The whole table, undefined figures empty."""
        if self._result is None:
            return ""
        columns = self._result.columns
        lines = ([row.get(column) for column in columns] for row in self._result.rows)
        return csv_text.table_text([columns, *lines])

    async def _compare(self) -> None:
        viewer, target, chosen = self.viewer, self.get("target"), self.get("segment")
        image, node = viewer.shown, viewer.segmentation
        if image is None or node is None or target is None:
            raise InputError(
                ErrorCode.SELECTION, self.get("why") or "Choose the class whose maps are compared."
            )
        axes, affine = image.image.ndim - 1, opened_images.affine_of(image.image)
        maps, resolutions, fields, own = {}, {}, {}, {}
        for one in attributions_of(viewer.scene, image.node):
            if read_target(one) == target:
                map = read_attribution(one)
                # Without the class, which all share; two of one method differ in their end.
                label = one.GetName().replace(f" - {target}", "")
                maps[label] = Volume(on_axes(map.values, axes).astype(np.float32), map.affine)
                resolutions[label], own[label] = map.resolution_mm, map.own_segments
                if map.field_of_view is not None:
                    fields[label] = map.field_of_view
        masks, names_of, segment_notes = opened_images.segment_masks(
            node, image, None if chosen == ALL else [chosen]
        )
        voxels = Volume(np.ascontiguousarray(image.image.numpy(), dtype=np.float32), affine)

        def request(engine: Engine) -> CompareRequest:
            return CompareRequest(
                engine.put(voxels),
                {label: engine.put(volume) for label, volume in maps.items()},
                target,
                engine.put(masks),
                names_of,
                segment_notes,
                case=image.public_name,
                resolutions_mm=resolutions,
                fields_of_view=fields,
                own_segments=own,
            )

        self._result = await viewer.runner.job(
            request, started=self.started, progress=self.show_progress
        )
        self._show(self._result)
        other = viewer.segmented
        if other is not None and not opened_images.share_grid(other, image):
            note = f"The segments were opened for {other.name}, which has another grid."
            self.put(notes=[note, *self._result.notes])

    def _show(self, result: CompareResult) -> None:
        segments = list(dict.fromkeys(str(row["segment"]) for row in result.rows))
        titles = [title.format(unit=result.length_unit) for title in _SHOWN.values()]
        self.put(
            tables=[
                {
                    "segment": segment,
                    "titles": titles,
                    "rows": [
                        {
                            "control_map": row["method"] in _CONTROL_MAPS,
                            "cells": [_cell(row, column) for column in _SHOWN],
                        }
                        for row in result.rows
                        if row["segment"] == segment
                    ],
                    "plot": curve_plot(result, segment),
                }
                for segment in segments
            ],
            notes=list(result.notes),
        )

    def _build_table(self) -> None:
        with html.Table(classes="se-table se-compare-table"):
            with html.Thead(), html.Tr():
                html.Th("{{ title }}", v_for="(title, t) in table.titles", key="t")
            with (
                html.Tbody(),
                html.Tr(
                    v_for="(row, r) in table.rows",
                    key="r",
                    classes=("row.control_map ? 'se-control' : ''",),
                ),
            ):
                html.Td("{{ cell }}", v_for="(cell, c) in row.cells", key="c", title=("cell",))


def read_target(node: Any) -> str:
    """The class that a map explains."""
    return str(node.GetAttribute(names.TARGET))


def _cell(row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    if column == "auroc" and f"{column}_low" in row:
        ends = " to ".join(number_text(row[f"{column}_{end}"]) for end in ("low", "high"))
        return f"{number_text(value)} ({ends})"
    if isinstance(value, float) and 0 < abs(value) < 0.001:
        # One digit: seven columns share a panel of 356 pixels, and the CSV has all of them.
        return f"{value:.1g}"
    return value if isinstance(value, str) else number_text(value)
