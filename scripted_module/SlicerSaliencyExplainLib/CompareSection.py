"""The panel's section "Compare"."""

from __future__ import annotations

from typing import Any

from slicer.i18n import tr as _

from SaliencyExplain.engine.wire.results import CompareResult
from SaliencyExplain.scene.attributions import attributions_of
from SaliencyExplain.scene.names import IMAGE_ROLE, TARGET

from .LinePlot import COLORS, Line, draw_plot
from .SceneTables import add_curve_chart, add_table
from .Section import Section, allow
from .Segments import segment_names
from .Tables import fill_table

#: Columns of the engine's table that the panel shows, with their titles (``unit`` is that of
#: lengths); all are exported.
_SHOWN = {
    "method": _("Map"),
    "segment": _("Segment"),
    "auroc": _("AUROC"),
    "energy_inside": _("Energy inside"),
    "energy_chance": _("by chance"),
    "pointing": _("Peak inside"),
    "dice_best": _("Best Dice"),
    "centre_distance_mm": _("Centres apart, {unit}"),
}


class CompareSection(Section):
    """Compares the maps of a volume with a segmentation, and with control maps."""

    prefix = "compare"

    def __init__(self, panel: Any) -> None:
        super().__init__(panel)
        self._groups: list[tuple[Any, str, list[Any]]] = []
        self._segment_ids: list[str] = []
        self._result: CompareResult | None = None
        self._target = ""
        ui = self.ui
        ui.segmentationSelector.connect("currentNodeChanged(vtkMRMLNode*)", self._on_segmentation)
        ui.compareButton.connect("clicked(bool)", self._on_compare)
        ui.exportComparisonButton.connect("clicked(bool)", self._on_export)

    def maps_changed(self) -> None:
        """Maps have come or gone: they are offered by volume and class."""
        combo = self.ui.compareMapsComboBox
        chosen = combo.currentText
        self._groups = self._grouped()
        names = [
            f"{image.GetName()}: {target} ({len(nodes)})" for image, target, nodes in self._groups
        ]
        combo.clear()
        for name in names:
            combo.addItem(name)
        bare = [name.rpartition(" (")[0] for name in names]
        if chosen.rpartition(" (")[0] in bare:
            combo.currentIndex = bare.index(chosen.rpartition(" (")[0])

    def scene_closed(self) -> None:
        """Forgets what was about the scene of before."""
        super().scene_closed()
        self._forget()
        self.maps_changed()

    def refresh(self) -> None:
        """Brings its widgets in line with the state of the panel."""
        ui = self.ui
        node = ui.segmentationSelector.currentNode()
        allow(
            ui.compareButton,
            _("Measure the agreement of each map with the segment."),
            (self.busy, _("The comparison is on its way.")),
            (self.panel.logic.engine is None, _("Start or connect an engine.")),
            (not self._groups, _("No map yet. Explain a volume first.")),
            (node is None, _("Choose a segmentation.")),
            (node is not None and not self._segment_ids, _("The segmentation has no segment.")),
        )

    def _grouped(self) -> list[tuple[Any, str, list[Any]]]:
        groups: dict[tuple[str, str], tuple[Any, str, list[Any]]] = {}
        for node in attributions_of(self.panel.logic.scene):
            image = node.GetNodeReference(IMAGE_ROLE)
            if image is not None:
                target = node.GetAttribute(TARGET)
                groups.setdefault((image.GetID(), target), (image, target, []))[2].append(node)
        return list(groups.values())

    def _on_segmentation(self, node: Any = None) -> None:
        known = segment_names(node)
        self._segment_ids = [id_ for id_, _name in known]
        combo = self.ui.segmentComboBox
        combo.clear()
        combo.addItem(_("each segment"))
        for _id, name in known:
            combo.addItem(name)
        self.panel.segmentation_changed()

    def _on_compare(self, _checked: bool = False) -> None:
        self._forget()
        image, self._target, maps = self._groups[max(0, self.ui.compareMapsComboBox.currentIndex)]
        index = self.ui.segmentComboBox.currentIndex
        wanted = [self._segment_ids[index - 1]] if index > 0 else None
        self.begin(
            lambda: self.panel.logic.compare(
                image,
                maps,
                self.ui.segmentationSelector.currentNode(),
                wanted,
                progress=self.show_progress,
                done=self._done,
                failed=self.fail,
                cancelled=self.cancelled,
            ),
            _("Comparing …"),
        )

    def _done(self, result: CompareResult) -> None:
        self.end()
        self._result = result
        shown = [column for column in _SHOWN if column in result.columns]
        rows = [[_short(row, column) for column in shown] for row in result.rows]
        titles = [_SHOWN[column].format(unit=result.length_unit) for column in shown]
        fill_table(self.ui.comparisonTable, titles, rows)
        self._draw(result)
        self.ui.compareNotesLabel.text = "\n".join(result.notes)
        self.ui.compareNotesLabel.visible = bool(result.notes)
        self.ui.exportComparisonButton.visible = True
        self.panel.refresh()

    def _draw(self, result: CompareResult) -> None:
        control_maps = ("random", "centre")
        several = len({curve.segment for curve in result.curves}) > 1
        lines = [Line(_("chance"), (0.0, 1.0), (0.0, 1.0), "#808080", dashed=True)]
        for number, curve in enumerate(result.curves):
            label = curve.label.removesuffix(f" - {self._target}")
            name = f"{label}, {curve.segment}" if several else label
            lines.append(
                Line(
                    name,
                    curve.share_of_image,
                    curve.share_of_segment,
                    COLORS[number % len(COLORS)],
                    dashed=curve.label in control_maps,
                )
            )
        draw_plot(
            self.ui.curvePlotLabel,
            lines,
            x_title=_("strongest share of the image"),
            y_title=_("share of the segment in it"),
            x_end=1.0,
        )

    def _on_export(self, _checked: bool = False) -> None:
        scene, result = self.panel.logic.scene, self._result
        rows = [[row.get(column) for column in result.columns] for row in result.rows]
        table = add_table(scene, "Comparison", result.columns, rows)
        chart = add_curve_chart(scene, "Comparison curves", result.curves)
        self.say(
            _("In the table {table} and the chart {chart}.").format(
                table=table.GetName(), chart=chart.GetName()
            )
        )

    def _forget(self) -> None:
        self._result = None
        for name in ("comparisonTable", "curvePlotLabel", "exportComparisonButton"):
            getattr(self.ui, name).visible = False
        self.ui.compareNotesLabel.visible = False


def _short(row: dict[str, Any], column: str) -> Any:
    """A cell of the panel's table; the class of all maps stands above the table."""
    value = row.get(column)
    if column == "auroc" and value is not None and "auroc_low" in row:
        return _("{mean:.2f} ({low:.2f} to {high:.2f})").format(
            mean=value, low=row["auroc_low"], high=row["auroc_high"]
        )
    return value.removesuffix(f" - {row['target']}") if column == "method" else value
