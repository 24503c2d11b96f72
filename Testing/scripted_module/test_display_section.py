"""A map lies over its volume as the panel's display says."""

from __future__ import annotations

import pytest
import slicer

from SaliencyExplain.scene.attributions import attributions_of, threshold
from SaliencyExplain.scene.band_segments import bands_of
from SaliencyExplain.scene.nodes import composite_nodes
from SaliencyExplain.scene.segmentations import outline

from .conftest import TABLES_ALIGN_BY_NUMBER, Application, cells

pytestmark = TABLES_ALIGN_BY_NUMBER


def test_explains_and_lays_the_map_over_its_volume(ready: Application) -> None:
    volume = ready.panel.sections.volumes.nodes()[0]
    node = ready.explain({"gradcam": {}, "occlusion": {"stride_mm": 30.0}})
    first, second = attributions_of(slicer.mrmlScene, volume)
    assert node is first
    composite = composite_nodes(slicer.mrmlScene)[0]
    assert composite.GetBackgroundVolumeID() == volume.GetID()
    assert composite.GetForegroundVolumeID() == node.GetID()
    assert composite.GetForegroundOpacity() == pytest.approx(0.7)
    assert cells(ready.ui.probabilitiesTable)[0][0] == "glioma-like"

    ready.ui.opacitySlider.value = 0.4
    assert composite.GetForegroundOpacity() == pytest.approx(0.4)
    ready.ui.thresholdSlider.value = 0.5
    assert threshold(node) == pytest.approx(0.5)
    ready.ui.linkViewsCheckBox.checked = True
    assert composite.GetLinkedControl() == 1

    ready.ui.bandsCheckBox.checked = True
    bands = bands_of(slicer.mrmlScene, node)
    assert composite.GetLabelVolumeID() == bands.label_map.GetID()
    assert composite.GetForegroundVolumeID() is None
    ready.ui.mapSelector.setCurrentNode(second)
    bands = bands_of(slicer.mrmlScene, second)
    assert composite.GetLabelVolumeID() == bands.label_map.GetID()
    ready.ui.surfacesCheckBox.checked = True
    assert bands.segmentation.GetDisplayNode().GetVisibility3D()
    ready.ui.bandsCheckBox.checked = False
    assert composite.GetForegroundVolumeID() == second.GetID()
    assert composite.GetLabelVolumeID() is None

    ready.ui.volumeRenderingCheckBox.checked = True
    rendering = second.GetNthDisplayNode(1)
    assert rendering.GetVisibility()
    ready.ui.volumeRenderingCheckBox.checked = False
    assert not rendering.GetVisibility()


def test_a_map_is_never_mixed_with_a_filled_segment(ready: Application) -> None:
    segmentation = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    outline(segmentation, False)
    ready.explain({"gradcam": {}})
    ready.run(0.1)
    assert segmentation.GetDisplayNode().GetVisibility2DFill() == 0
    ready.ui.outlineCheckBox.checked = False
    assert segmentation.GetDisplayNode().GetVisibility2DFill() == 1
