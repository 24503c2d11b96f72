"""The panel's comparison of a map with segments, in its table and exported."""

from __future__ import annotations

import slicer

from .conftest import TABLES_ALIGN_BY_NUMBER, Application, cells

pytestmark = TABLES_ALIGN_BY_NUMBER


def test_compares_and_exports(ready: Application) -> None:
    ui = ready.ui
    segmentation = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    ready.explain({"gradcam": {}})
    ready.run(0.1)
    ui.segmentationSelector.setCurrentNode(segmentation)
    assert [ui.segmentComboBox.itemText(i) for i in range(2)] == ["each segment", "tumour"]
    ready.click("compareButton")
    ready.finish("compare")
    assert ready.message("compare") == ""
    rows = {row[0]: row for row in cells(ui.comparisonTable)}
    (ours,) = set(rows) - {"random", "centre"}
    assert ours.startswith("Grad-CAM")
    assert float(rows[ours][2]) > 0.9
    assert not ui.curvePlotLabel.isHidden()
    ready.grab("all")
    ready.click("exportComparisonButton")
    tables = slicer.util.getNodesByClass("vtkMRMLTableNode", slicer.mrmlScene)
    assert tables[0].GetTable().GetColumnByName("auroc").GetValue(0) > 0.9
    chart = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLPlotChartNode")
    assert chart.GetNumberOfPlotSeriesNodes() == 3
