"""A map of the scene is evaluated, and what is said of it stands beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import slicer

from SaliencyExplain.scene.attributions import attributions_of, read_attribution, update_attribution
from SaliencyExplain.scene.kept_evaluations import NOT_EVALUATED, answer_line, answers_of
from SaliencyExplain.scene.mrb import open_mrb, save_mrb

from .conftest import HONEST, TABLES_ALIGN_BY_NUMBER, Application, Server

pytestmark = TABLES_ALIGN_BY_NUMBER


@pytest.fixture
def explained(application: Application, server: Server) -> tuple[Application, Any, Any]:
    """A map that shows what the classifier uses, and one that knows nothing of it."""
    application.connect(server)
    application.open(HONEST)
    application.load()
    assert "No map" in application.ui.evaluationButton.toolTip
    application.explain({"gradcam": {}, "random": {}})
    application.run(0.1)
    gradcam, random = attributions_of(slicer.mrmlScene)
    return application, gradcam, random


def _evaluate(application: Application, node: Any) -> dict[str, str]:
    """Evaluates the map that is shown as a user does: its answers."""
    ui = application.ui
    ui.mapSelector.setCurrentNode(node)
    application.run()
    assert ui.evaluationMapSelector.currentNode() is node
    assert ui.evaluationHintLabel.text == NOT_EVALUATED
    assert not ui.evaluationHintLabel.isHidden()
    assert ui.evaluationTable.isHidden()
    # The lowest tier, whatever it costs.
    ui.evaluationBudgetSpinBox.value = 1
    application.click("evaluationButton")
    assert ui.evaluationButton.toolTip == "A map is being evaluated."
    application.finish("evaluation")
    assert application.message("evaluation") == ""
    return {
        ui.evaluationTable.item(row, 0).text(): ui.evaluationTable.item(row, 1).text()
        for row in range(ui.evaluationTable.rowCount)
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
    good = _evaluate(application, gradcam)
    assert list(good) == ["beats chance", "depends on the weights", "stable", "on the tumour"]
    assert good["beats chance"] in ("● yes", "◐ partly")
    assert good["depends on the weights"] == "● yes"
    assert good["on the tumour"] == "● yes"
    assert (
        "beats chance: For glioma-like: deletion over the ranked voxels"
        in ui.evaluationWordsLabel.text
    )
    assert "cost tier least" in ui.evaluationNotesLabel.text
    assert ui.evaluationHintLabel.text == answer_line(gradcam)
    assert "● depends on the weights: yes · " in ui.evaluationHintLabel.text
    assert not ui.evaluationPlotLabel.isHidden()
    card = ui.evaluationCardLabel.pixmap
    assert (card.width(), card.height() > 300) == (460, True)
    assert application.panel.sections.evaluation._card_path().read_bytes()[:4] == b"\x89PNG"
    ui.evaluationCollapsibleButton.collapsed = False
    application.grab("evaluation")

    nothing = _evaluate(application, random)
    assert nothing["beats chance"] == "○ no"
    assert nothing["depends on the weights"] == "○ no"
    # Each map keeps its own.
    ui.mapSelector.setCurrentNode(gradcam)
    application.run()
    assert ui.evaluationTable.item(0, 1).text() == good["beats chance"]
    assert not ui.evaluationCardLabel.isHidden()

    save_mrb(slicer.mrmlScene, tmp_path / "scene.mrb")
    kept = [answer_line(node) for node in attributions_of(open_mrb(tmp_path / "scene.mrb"))]
    assert kept == [answer_line(gradcam), answer_line(random)]
    # What was said was about these values.
    update_attribution(gradcam, read_attribution(gradcam))
    assert answers_of(gradcam) == []


def test_an_evaluation_is_cancelled_and_says_what_is_in_the_way(
    explained: tuple[Application, Any, Any],
) -> None:
    application, _gradcam, random = explained
    ui = application.ui
    ui.mapSelector.setCurrentNode(random)
    application.click("evaluationButton")
    application.wait(lambda: not ui.evaluationProgressFrame.isHidden())
    application.click("evaluationCancelButton")
    application.finish("evaluation")
    assert application.message("evaluation") == "Cancelled."
    assert ui.evaluationHintLabel.text == NOT_EVALUATED

    # Other voxels than those that the map was computed from.
    volume = application.panel.sections.volumes.nodes()[0]
    volume.GetImageData().SetScalarComponentFromDouble(0, 0, 0, 0, 12345.0)
    volume.Modified()
    volume.GetImageData().Modified()
    application.panel.logic.forget_scene()
    application.click("evaluationButton")
    application.finish("evaluation")
    assert "computed from other voxels" in application.message("evaluation")

    application.open("phantom-3d-shortcut")
    application.click("evaluationButton")
    application.finish("evaluation")
    assert "open that classifier to evaluate it" in application.message("evaluation")
    assert answer_line(random) == NOT_EVALUATED


def test_a_map_that_changes_while_its_evaluation_runs_gets_no_answers_of_the_one_before(
    explained: tuple[Application, Any, Any],
) -> None:
    application, _gradcam, random = explained
    ui = application.ui
    ui.mapSelector.setCurrentNode(random)
    ui.evaluationBudgetSpinBox.value = 1
    application.click("evaluationButton")
    before = read_attribution(random)
    update_attribution(random, replace(before, values=2 * before.values))
    application.finish("evaluation")
    assert "is discarded" in application.message("evaluation")
    assert ui.evaluationHintLabel.text == answer_line(random) == NOT_EVALUATED
    assert ui.evaluationTable.isHidden()
    assert ui.evaluationCardLabel.isHidden()
