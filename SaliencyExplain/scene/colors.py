"""Colour tables of heat and of bands as nodes."""

from __future__ import annotations

import numpy as np
import slicer

from SaliencyExplain.bands import BANDS
from SaliencyExplain.colormaps import ENTRIES, color_table
from SaliencyExplain.scene import names
from SaliencyExplain.scene.nodes import nodes_of_kind

#: Slice views scale a window to 256 steps before they look up colours. Values within this share of
#: its end cannot be distinguished from zero, which is never drawn, even without a threshold.
_ZERO = 1 / 100

_BAND_TABLE = "Saliency bands"


def add_heat_table(scene: slicer.vtkMRMLScene, name: str) -> slicer.vtkMRMLColorTableNode:
    """Adds an empty colour table for a map; `fill_heat_table` fills it."""
    table = slicer.vtkMRMLColorTableNode()
    table.SetName(scene.GenerateUniqueName(f"{name} colors"))
    table.SetTypeToUser()
    table.SetAttribute(names.KIND, names.COLORS)
    return scene.AddNode(table)


def fill_heat_table(table: slicer.vtkMRMLColorTableNode, signed: bool, threshold: float) -> None:
    """Fills a colour table with heat colours that are not drawn below a threshold.

    A slice view treats a colour's opacity as on or off, and a ramp down to zero would cover the
    image with haze. Therefore colours below the threshold are off and all others on.

    Args:
        table: Table of a map that is shown from -end to end (signed) or from 0 to end.
        signed: Whether the map is signed.
        threshold: Share of the window's end below which nothing is drawn, [0, 1).
    """
    colors = color_table(signed)
    strength = np.abs(np.linspace(-1.0 if signed else 0.0, 1.0, ENTRIES))
    drawn = strength >= max(threshold, _ZERO)
    modified = table.StartModify()
    table.SetNumberOfColors(ENTRIES)
    for row, (color, on) in enumerate(zip(colors.tolist(), drawn.tolist(), strict=True)):
        table.SetColor(row, str(row), *color, float(on))
    table.EndModify(modified)


def band_table(scene: slicer.vtkMRMLScene) -> slicer.vtkMRMLColorTableNode:
    """The table of the bands' colours and names, one for each scene."""
    for table in nodes_of_kind(scene, "vtkMRMLColorTableNode", names.COLORS):
        if table.GetName() == _BAND_TABLE:
            return table
    table = slicer.vtkMRMLColorTableNode()
    table.SetName(_BAND_TABLE)
    table.SetTypeToUser()
    table.SetAttribute(names.KIND, names.COLORS)
    table.SetNumberOfColors(max(band.label for band in BANDS) + 1)
    table.SetColor(0, "background", 0.0, 0.0, 0.0, 0.0)
    for band in BANDS:
        table.SetColor(band.label, band.name, *band.color, 1.0)
    return scene.AddNode(table)
