"""Tables and charts of the panel as nodes, so that they are saved with the scene."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import slicer
import vtk

from SaliencyExplain.results.agreement_curve import AgreementCurve


def add_table(
    scene: Any, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> slicer.vtkMRMLTableNode:
    """Adds a table node.

    Args:
        scene: Where to.
        name: Of the node.
        columns: Their titles.
        rows: Values in the order of the columns; a column of numbers (and None) becomes a
            column of numbers, with NaN for None, any other one text.
    """
    node = scene.AddNewNodeByClass("vtkMRMLTableNode", scene.GenerateUniqueName(name))
    table = node.GetTable()
    for index, title in enumerate(columns):
        values = [row[index] for row in rows]
        if values and all(value is None or isinstance(value, (int, float)) for value in values):
            array: Any = vtk.vtkDoubleArray()
            values = [float("nan") if value is None else float(value) for value in values]
        else:
            array = vtk.vtkStringArray()
            values = ["" if value is None else str(value) for value in values]
        array.SetName(title)
        for value in values:
            array.InsertNextValue(value)
        table.AddColumn(array)
    node.SetUseFirstColumnAsRowHeader(False)
    node.Modified()
    return node


def add_curve_chart(
    scene: Any, name: str, curves: Sequence[AgreementCurve]
) -> slicer.vtkMRMLPlotChartNode:
    """Adds the curves as a chart, with the tables that they are drawn from."""
    chart = scene.AddNewNodeByClass("vtkMRMLPlotChartNode", scene.GenerateUniqueName(name))
    chart.SetTitle(name)
    chart.SetXAxisTitle("share of the image")
    chart.SetYAxisTitle("share of the segment")
    for curve in curves:
        title = f"{curve.label}, {curve.segment}"
        table = add_table(
            scene,
            f"{name}: {title}",
            ("share of the image", "share of the segment"),
            list(zip(curve.share_of_image, curve.share_of_segment, strict=True)),
        )
        series = scene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", title)
        series.SetAndObserveTableNodeID(table.GetID())
        series.SetXColumnName("share of the image")
        series.SetYColumnName("share of the segment")
        series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
        series.SetMarkerStyle(slicer.vtkMRMLPlotSeriesNode.MarkerStyleNone)
        series.SetUniqueColor()
        chart.AddAndObservePlotSeriesNodeID(series.GetID())
    return chart
