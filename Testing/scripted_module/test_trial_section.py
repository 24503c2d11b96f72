"""A map of the scene is tried, and what is said of it stands beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import slicer

from SaliencyExplain.scene.attributions import attributions_of, read_attribution, update_attribution
from SaliencyExplain.scene.kept_evaluations import NOT_TRIED, verdict_line, verdicts_of
from SaliencyExplain.scene.mrb import open_mrb, save_mrb

from .conftest import HONEST, TABLES_ALIGN_BY_NUMBER, Application, Server

pytestmark = TABLES_ALIGN_BY_NUMBER


@pytest.fixture
def explained(application: Application, server: Server) -> tuple[Application, Any, Any]:
    """A map that shows what the classifier uses, and one that knows nothing of it."""
    application.connect(server)
    application.open(HONEST)
    application.load()
    assert "no map" in application.ui.trialButton.toolTip
    application.explain({"gradcam": {}, "random": {}})
    application.run(0.1)
    gradcam, random = attributions_of(slicer.mrmlScene)
    return application, gradcam, random


def _try(application: Application, node: Any) -> dict[str, str]:
    """Tries the map that is shown as a user does: its verdicts."""
    ui = application.ui
    ui.mapSelector.setCurrentNode(node)
    application.run()
    assert ui.trialMapSelector.currentNode() is node
    assert ui.trialHintLabel.text == NOT_TRIED
    assert not ui.trialHintLabel.isHidden()
    assert ui.trialTable.isHidden()
    # The least effort, whatever it costs.
    ui.trialBudgetSpinBox.value = 1
    application.click("trialButton")
    assert ui.trialButton.toolTip == "A map is being evaluated."
    application.finish("trial")
    assert application.message("trial") == ""
    return {
        ui.trialTable.item(row, 0).text(): ui.trialTable.item(row, 1).text()
        for row in range(ui.trialTable.rowCount)
    }


def test_a_map_that_knows_nothing_reads_differently_from_grad_cam(
    explained: tuple[Application, Any, Any], tmp_path: Path
) -> None:
    application, gradcam, random = explained
    ui = application.ui
    ui.segmentationSelector.setCurrentNode(
        slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    )
    application.run()
    good = _try(application, gradcam)
    assert list(good) == ["beats chance", "depends on the weights", "stable", "on the tumour"]
    assert good["beats chance"] in ("● yes", "◐ partly")
    assert good["depends on the weights"] == "● yes"
    assert good["on the tumour"] == "● yes"
    assert (
        "beats chance: For glioma-like: deletion over the ranked voxels" in ui.trialWordsLabel.text
    )
    assert "least effort" in ui.trialNotesLabel.text
    assert ui.trialHintLabel.text == verdict_line(gradcam)
    assert "● depends on the weights: yes · " in ui.trialHintLabel.text
    assert not ui.trialPlotLabel.isHidden()
    card = ui.trialCardLabel.pixmap
    assert (card.width(), card.height() > 300) == (460, True)
    assert application.panel.sections.trial._card_path().read_bytes()[:4] == b"\x89PNG"
    ui.trialCollapsibleButton.collapsed = False
    application.grab("trial")

    nothing = _try(application, random)
    assert nothing["beats chance"] == "○ no"
    assert nothing["depends on the weights"] == "○ no"
    # Each map keeps its own.
    ui.mapSelector.setCurrentNode(gradcam)
    application.run()
    assert ui.trialTable.item(0, 1).text() == good["beats chance"]
    assert not ui.trialCardLabel.isHidden()

    save_mrb(slicer.mrmlScene, tmp_path / "scene.mrb")
    kept = [verdict_line(node) for node in attributions_of(open_mrb(tmp_path / "scene.mrb"))]
    assert kept == [verdict_line(gradcam), verdict_line(random)]
    # What was said was about these values.
    update_attribution(gradcam, read_attribution(gradcam))
    assert verdicts_of(gradcam) == []


def test_a_trial_is_cancelled_and_says_what_is_in_the_way(
    explained: tuple[Application, Any, Any],
) -> None:
    application, _gradcam, random = explained
    ui = application.ui
    ui.mapSelector.setCurrentNode(random)
    application.click("trialButton")
    application.wait(lambda: not ui.trialProgressFrame.isHidden())
    application.click("trialCancelButton")
    application.finish("trial")
    assert application.message("trial") == "Cancelled."
    assert ui.trialHintLabel.text == NOT_TRIED

    # Other voxels than those that the map was computed from.
    volume = application.panel.sections.volumes.nodes()[0]
    volume.GetImageData().SetScalarComponentFromDouble(0, 0, 0, 0, 12345.0)
    volume.Modified()
    volume.GetImageData().Modified()
    application.panel.logic.forget_scene()
    application.click("trialButton")
    application.finish("trial")
    assert "computed from other voxels" in application.message("trial")

    application.open("phantom-3d-shortcut")
    application.click("trialButton")
    application.finish("trial")
    assert "open that classifier to evaluate it" in application.message("trial")
    assert verdict_line(random) == NOT_TRIED


def test_a_map_that_changes_while_its_trial_runs_gets_no_verdicts_of_the_one_before(
    explained: tuple[Application, Any, Any],
) -> None:
    application, _gradcam, random = explained
    ui = application.ui
    ui.mapSelector.setCurrentNode(random)
    ui.trialBudgetSpinBox.value = 1
    application.click("trialButton")
    before = read_attribution(random)
    update_attribution(random, replace(before, values=2 * before.values))
    application.finish("trial")
    assert "is discarded" in application.message("trial")
    assert ui.trialHintLabel.text == verdict_line(random) == NOT_TRIED
    assert ui.trialTable.isHidden()
    assert ui.trialCardLabel.isHidden()
