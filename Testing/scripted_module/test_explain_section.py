"""The panel's explanations: their cost, their progress and what they say in words."""

from __future__ import annotations

import slicer

from SaliencyExplain.scene.arrays import volume_values
from SaliencyExplain.scene.volume_nodes import add_image

from . import pythonqt
from .conftest import TABLES_ALIGN_BY_NUMBER, Application

pytestmark = TABLES_ALIGN_BY_NUMBER


def test_says_the_cost_before_it_starts(ready: Application) -> None:
    ready.panel.sections.explain.methods.set_values({"occlusion": {"stride_mm": 30.0}})
    ready.panel.sections.explain.ask_estimate()
    ready.wait(lambda: "forward passes" in ready.ui.estimateLabel.text)
    few = ready.ui.estimateLabel.text
    ready.panel.sections.explain.methods.field("occlusion", "stride_mm").value = 10.0
    ready.wait(lambda: ready.ui.estimateLabel.text not in ("", few))

    def passes(text: str) -> float:
        return float(text.split()[1].replace(",", ""))

    assert passes(ready.ui.estimateLabel.text) > 5 * passes(few)


def test_shows_progress_and_cancels(ready: Application) -> None:
    ui = ready.ui
    ready.panel.sections.explain.methods.set_values({"occlusion": {"stride_mm": 2.0}})
    ready.panel.refresh()
    ready.click("explainButton")
    assert not ui.explainButton.enabled
    assert ui.explainButton.toolTip == "Maps are being computed."
    ready.wait(lambda: not ui.explainProgressFrame.isHidden() and ui.explainProgressBar.value > 0)
    assert "left" in ui.explainProgressLabel.text or "%" in ui.explainProgressLabel.text
    ready.grab("explaining")
    ready.click("explainCancelButton")
    assert not ui.explainCancelButton.enabled
    ready.finish("explain")
    assert ready.message("explain") == "Cancelled."
    assert ui.explainProgressFrame.isHidden()
    assert ui.explainButton.enabled


def test_what_each_segment_contributes_is_said_in_words(ready: Application) -> None:
    ui = ready.ui
    explain = ready.panel.sections.explain
    explain.methods.set_values({"shapley": {"regions": "segments"}, "expected-gradients": {}})
    ready.run()
    assert "choose a segmentation under Compare" in ui.besideSegmentsLabel.text
    ui.segmentationSelector.setCurrentNode(
        slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    )
    ready.run()
    assert "chosen under Compare" in ui.besideSegmentsLabel.text
    assert not ui.backgroundsBox.isHidden()
    # The volume that is explained is no background for itself.
    assert ui.backgroundsList.count == 0
    values, affine = volume_values(ready.panel.sections.volumes.nodes()[0])
    background = add_image(slicer.mrmlScene, values, affine, "healthy")
    ready.wait(lambda: ui.backgroundsList.count == 1)
    ui.backgroundsList.item(0).setCheckState(pythonqt.QtCore.Qt.Checked)
    assert explain.beside().backgrounds == (background,)

    ready.explain({"shapley": {"regions": "segments"}})
    notes = ui.explainNotesLabel.text
    assert "Shapley values of regions: tumour: +" in notes
    assert "interval" not in notes.split("\n")[0]


def test_a_method_that_fails_is_named_beside_the_maps_that_came(ready: Application) -> None:
    ready.explain({"gradient": {}, "deepshap": {}})
    notes = ready.ui.explainNotesLabel.text.split("\n")
    assert "deepshap" in notes[0]
    assert "SE-BACKGROUNDS" in notes[0]
    assert not ready.ui.explainNotesLabel.isHidden()
