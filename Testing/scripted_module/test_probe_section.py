"""The panel's clicks: answered at the point, dragged, refused in one line, exported."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer

from . import pythonqt
from .conftest import TABLES_ALIGN_BY_NUMBER, Application, cells

pytestmark = TABLES_ALIGN_BY_NUMBER


def _centre(segmentation: Any) -> tuple[float, float, float]:
    ras = [0.0] * 3
    segmentation.GetSegmentCenterRAS(segmentation.GetSegmentation().GetNthSegmentID(0), ras)
    return ras[0], ras[1], ras[2]


def test_a_click_is_answered_in_the_panel_and_at_the_point(ready: Application) -> None:
    ui, probe = ready.ui, ready.panel.sections.probe
    segmentation = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    ready.explain({"gradcam": {}})
    ui.probeButton.checked = True
    probe.ask_at(_centre(segmentation))
    ready.wait(lambda: probe.history.answers and len(probe.history.answers[0].removals) == 4)
    headers = [ui.probeTable.horizontalHeaderItem(i).text() for i in range(6)]
    assert headers == ["Class", "Before", "− 4 mm", "− 8 mm", "− 16 mm", "− tumour"]
    glioma = next(row for row in cells(ui.probeTable) if row[0] == "glioma-like")
    assert float(glioma[1]) > 0.9 > 0.3 > float(glioma[5])
    assert ui.probeTable.enabled
    assert not ui.probePlotLabel.isHidden()
    reading = cells(ui.readingsTable)[0]
    assert reading[:2] == ["Grad-CAM", "glioma-like"]
    assert float(reading[3].split()[0]) > 95
    assert ui.segmentsLabel.text == "In: tumour"
    assert probe.point.node.GetNthControlPointLabel(0).endswith("without tumour")
    ready.grab("click")

    nowhere = tuple(np.add(_centre(segmentation), (40, 0, 0)))
    probe.ask_at(nowhere)
    ready.wait(lambda: len(probe.history.answers) == 2)
    assert ui.segmentsLabel.text == "In: no segment"
    assert [row[0] for row in cells(ui.historyTable)] == ["1", "2"]
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode") == 1


def test_dragging_answers_and_the_last_place_wins(ready: Application) -> None:
    probe = ready.panel.sections.probe
    segmentation = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    ready.ui.probeSegmentsCheckBox.checked = False
    ready.ui.probeButton.checked = True
    centre = _centre(segmentation)
    probe.ask_at(centre)
    ready.wait(lambda: len(probe.history.answers) == 1)
    node = probe.point.node
    shown: list[float] = []
    node.InvokeEvent(node.PointStartInteractionEvent)
    for step in range(1, 40):
        node.SetNthControlPointPositionWorld(0, [centre[0] + step, centre[1], centre[2]])
        ready.run(0.02)
        if probe.answer.probe is not None and ready.ui.probeTable.enabled:
            shown.append(probe.answer.point[0])
    node.InvokeEvent(node.PointEndInteractionEvent)
    ready.wait(lambda: len(probe.history.answers) == 2)
    assert shown
    assert shown == sorted(shown)
    last = probe.history.answers[-1]
    assert last.point == pytest.approx((centre[0] + 39, centre[1], centre[2]))
    assert probe.answer == last
    ready.run(0.3)
    assert len(probe.history.answers) == 2


def test_radii_that_are_none_are_one_line(ready: Application) -> None:
    ready.ui.probeButton.checked = True
    ready.ui.radiiLineEdit.text = "4, eight"
    ready.panel.sections.probe.ask_at((0.0, 0.0, 0.0))
    ready.run(0.1)
    assert ready.message("probe") == "Radii are numbers above 0 in mm, such as 4, 8, 16."
    ready.ui.radiiLineEdit.text = "5"
    ready.ui.radiiLineEdit.editingFinished.emit()
    ready.wait(lambda: ready.panel.sections.probe.history.answers)
    assert [r.radius_mm for r in ready.panel.sections.probe.answer.probe.removals] == [5.0]


def test_a_point_outside_is_one_line(ready: Application) -> None:
    ready.ui.probeButton.checked = True
    ready.panel.sections.probe.ask_at((5000.0, 0.0, 0.0))
    ready.wait(lambda: ready.message("probe"))
    assert "outside" in ready.message("probe").lower()


def test_the_history_is_exported(
    ready: Application, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready.ui.probeSegmentsCheckBox.checked = False
    ready.ui.probeButton.checked = True
    ready.panel.sections.probe.ask_at((0.0, 0.0, 0.0))
    ready.wait(lambda: ready.panel.sections.probe.history.answers)
    ready.click("historyTableButton")
    table = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLTableNode").GetTable()
    # Three radii, four classes.
    assert (table.GetNumberOfRows(), table.GetColumnName(7)) == (12, "class")
    path = tmp_path / "clicks.csv"
    monkeypatch.setattr(pythonqt._FileDialog, "answer", str(path))
    monkeypatch.setattr(slicer.util, "mainWindow", lambda: None)
    ready.click("historyCsvButton")
    rows = list(csv.DictReader(path.open()))
    assert len(rows) == 12
    assert {row["removed"] for row in rows} == {"4 mm", "8 mm", "16 mm"}
    ready.click("clearHistoryButton")
    assert not ready.ui.historyTableButton.enabled
