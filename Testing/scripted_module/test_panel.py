"""The panel with a real server: every control does what its label says."""

from __future__ import annotations

import csv
import os
import signal
import sys
import venv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from SlicerSaliencyExplainLib.EnginePackages import EnginePackages

from SaliencyExplain.demo.study import classifier_folder, write_phantom_study
from SaliencyExplain.engine.interface import ENDED
from SaliencyExplain.scene.arrays import volume_values
from SaliencyExplain.scene.attributions import attributions_of, threshold
from SaliencyExplain.scene.bands import bands_of
from SaliencyExplain.scene.images import add_image
from SaliencyExplain.scene.mrb import open_mrb, save_mrb
from SaliencyExplain.scene.nodes import composite_nodes
from SaliencyExplain.scene.segmentations import outline

from . import pythonqt
from .conftest import COMMAND, Application, Server
from .test_engine_packages import make_wheel

HONEST = "phantom-3d-honest"

# PythonQt takes a number there, PySide6 would rather have a flag.
pytestmark = pytest.mark.filterwarnings("ignore:.*setTextAlignment:DeprecationWarning")


@pytest.fixture
def ready(application: Application, server: Server) -> Application:
    """Engine, classifier and volume are there."""
    application.connect(server)
    application.open(HONEST)
    application.load()
    return application


def _explain(application: Application, methods: dict[str, Any]) -> Any:
    application.panel.sections.explain.methods.set_values(methods)
    application.panel.refresh()
    application.click("explainButton")
    application.finish("explain")
    assert application.message("explain") == ""
    return application.ui.mapSelector.currentNode()


def _centre(segmentation: Any) -> tuple[float, float, float]:
    ras = [0.0] * 3
    segmentation.GetSegmentCenterRAS(segmentation.GetSegmentation().GetNthSegmentID(0), ras)
    return ras[0], ras[1], ras[2]


def _cells(table: Any) -> list[list[str]]:
    return [
        [
            table.item(row, column).text() if table.item(row, column) else ""
            for column in range(table.columnCount)
        ]
        for row in range(table.rowCount)
    ]


# What cannot be done yet says why


def test_without_an_engine_each_button_says_what_is_missing(application: Application) -> None:
    ui = application.ui
    application.grab("start")
    needs = {
        "startEngineButton": "packages",
        "stopEngineButton": "no engine",
        "openClassifierButton": "file or folder",
        "predictButton": "engine",
        "explainButton": "engine",
        "probeButton": "engine",
        "compareButton": "engine",
        "startStudyButton": "engine",
        "loadStudyButton": "output folder",
        "opacitySlider": "no map",
        "bandsCheckBox": "no map",
        "volumeRenderingCheckBox": "no map",
        "historyTableButton": "Nothing has been clicked",
    }
    for name, words in needs.items():
        widget = getattr(ui, name)
        assert not widget.enabled, name
        assert words in widget.toolTip, (name, widget.toolTip)


def test_each_step_enables_the_next(application: Application, server: Server) -> None:
    ui = application.ui
    ui.engineKindComboBox.currentIndex = 1
    application.run()
    assert ui.startEngineButton.text == "Connect"
    assert "address" in ui.startEngineButton.toolTip
    application.connect(server)
    assert "Ready: cpu" in ui.engineStatusLabel.text
    assert not ui.startEngineButton.enabled
    assert "Open a classifier" in ui.predictButton.toolTip
    application.open(HONEST)
    assert "Choose a volume for" in ui.predictButton.toolTip
    application.load()
    application.run(0.05)
    for name in ("predictButton", "explainButton", "probeButton"):
        assert getattr(ui, name).enabled, name
    assert "no map" in ui.compareButton.toolTip
    application.panel.sections.explain.methods.set_values({})
    application.panel.refresh()
    assert ui.explainButton.toolTip == "Choose at least one method."


def test_settings_are_remembered_for_the_next_panel(
    application: Application, server: Server
) -> None:
    application.connect(server)
    application.open(HONEST)
    again = Application()
    try:
        assert again.ui.serverAddressLineEdit.text == server.address
        assert again.ui.tokenPathLineEdit.currentPath == str(server.token_file)
        combo = again.ui.recentClassifiersComboBox
        assert combo.itemText(1) == f"{HONEST} (demo)"
        combo.activated.emit(1)
        assert again.ui.classifierPathLineEdit.currentPath == str(classifier_folder(HONEST))
    finally:
        again.close()


def test_the_environment_names_the_engine(
    scene: Any, settings: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SALIENCY_EXPLAIN_ENGINE", str(COMMAND))
    application = Application()
    try:
        assert application.ui.engineCommandLineEdit.text == str(COMMAND)
        assert application.ui.startEngineButton.enabled
    finally:
        application.close()


def test_a_connection_can_be_tested_without_going_over_to_it(
    application: Application, server: Server, tmp_path: Path
) -> None:
    ui = application.ui
    ui.engineKindComboBox.currentIndex = 1
    ui.serverAddressLineEdit.text = server.address
    ui.tokenPathLineEdit.currentPath = str(server.token_file)
    application.run()
    application.click("testConnectionButton")
    application.wait(lambda: application.message("engine"))
    assert "The server answers: cpu" in application.message("engine")
    assert application.panel.connection.state == "off"
    ui.tokenPathLineEdit.currentPath = str(tmp_path / "missing")
    application.click("testConnectionButton")
    application.wait(lambda: "token" in application.message("engine"))
    assert not ui.engineDetailsButton.isHidden()
    assert ui.engineDetailsText.isHidden()
    ui.engineDetailsButton.checked = True
    assert not ui.engineDetailsText.isHidden()
    assert "Traceback" in ui.engineDetailsText.plainText


def test_packages_are_named_before_they_are_installed_and_can_be_removed(
    application: Application, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    wheel = make_wheel(tmp_path, "alpha", "1.5")
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("alpha\n")
    application.panel.packages = EnginePackages(
        tmp_path / "place",
        Path(sys.executable),
        requirements=requirements,
        pip_options=["--no-index", "--find-links", str(tmp_path)],
    )
    ui = application.ui
    application.panel.refresh()
    application.click("planPackagesButton")
    assert not ui.planPackagesButton.enabled
    application.wait(lambda: not ui.packagesPlanFrame.isHidden(), 60)
    size = f"{wheel.stat().st_size} B"
    assert _cells(ui.packagesPlanTable) == [["alpha", "1.5", size]]
    folder = str(application.panel.packages.folder)
    assert folder in ui.packagesPlanLabel.text
    assert size in ui.packagesPlanLabel.text
    application.grab("packages")
    assert not application.panel.packages.folder.exists()

    application.click("installPackagesButton")
    application.click("engineCancelButton")
    application.wait(lambda: "Cancelled" in application.message("engine"), 60)
    assert not application.panel.packages.folder.exists()

    application.click("installPackagesButton")
    application.wait(lambda: application.panel.packages.installed(), 60)
    application.wait(lambda: ui.engineProgressFrame.isHidden())
    assert ui.packagesPlanFrame.isHidden()
    assert folder in ui.packagesLabel.text
    assert ui.startEngineButton.enabled
    application.click("removePackagesButton")
    application.wait(lambda: not application.panel.packages.folder.exists())
    application.wait(lambda: ui.packagesLabel.text == "Not installed.")
    assert not ui.startEngineButton.enabled


def test_without_pytorch_the_panel_says_where_it_comes_from(
    application: Application, tmp_path: Path
) -> None:
    venv.create(tmp_path / "python", with_pip=False)
    python = tmp_path / "python" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    application.panel.packages = EnginePackages(tmp_path / "place", python)
    application.panel.refresh()
    application.click("planPackagesButton")
    application.wait(lambda: application.message("engine"))
    assert "extension 'PyTorch'" in application.message("engine")
    assert application.ui.planPackagesButton.enabled


# Classifier and volumes


def test_a_classifier_says_what_it_is(ready: Application) -> None:
    text = ready.ui.classifierInfoLabel.text
    for words in ("glioma-like", "t1ce", "3D 40 × 48 × 40", "MONAI bundle"):
        assert words in text
    assert ready.ui.fillComboBox.count > 1


def test_trust_is_given_to_one_classifier_only(application: Application) -> None:
    ui = application.ui
    ui.classifierPathLineEdit.currentPath = "/some/classifier"
    ui.trustCheckBox.checked = True
    assert not ui.trustWarningLabel.isHidden()
    ui.classifierPathLineEdit.currentPath = "/another/classifier"
    assert not ui.trustCheckBox.checked
    assert ui.trustWarningLabel.isHidden()


def test_a_classifier_that_cannot_be_opened_is_one_line(
    application: Application, server: Server, tmp_path: Path
) -> None:
    application.connect(server)
    (tmp_path / "model.pt").write_bytes(b"no model")
    application.ui.classifierPathLineEdit.currentPath = str(tmp_path / "model.pt")
    application.click("openClassifierButton")
    application.wait(lambda: application.message("classifier"))
    assert "model.pt" in application.message("classifier")
    assert application.ui.classifierProgressFrame.isHidden()
    application.open(HONEST)


def test_predicts_as_bars(ready: Application) -> None:
    ready.click("predictButton")
    ready.finish("volumes")
    table = ready.ui.probabilitiesTable
    assert not table.isHidden()
    first = _cells(table)[0]
    assert first[0] == "glioma-like"
    assert float(first[2]) > 0.9
    assert table.cellWidget(0, 1).value == pytest.approx(1000 * float(first[2]), abs=1)


# Explain and display


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


def test_explains_and_lays_the_map_over_its_volume(ready: Application) -> None:
    volume = ready.panel.sections.volumes.nodes()[0]
    node = _explain(ready, {"gradcam": {}, "occlusion": {"stride_mm": 30.0}})
    first, second = attributions_of(slicer.mrmlScene, volume)
    assert node is first
    composite = composite_nodes(slicer.mrmlScene)[0]
    assert composite.GetBackgroundVolumeID() == volume.GetID()
    assert composite.GetForegroundVolumeID() == node.GetID()
    assert composite.GetForegroundOpacity() == pytest.approx(0.7)
    assert _cells(ready.ui.probabilitiesTable)[0][0] == "glioma-like"

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


# Click to explain


def test_a_click_is_answered_in_the_panel_and_at_the_point(ready: Application) -> None:
    ui, probe = ready.ui, ready.panel.sections.probe
    segmentation = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    _explain(ready, {"gradcam": {}})
    ui.probeButton.checked = True
    probe.ask_at(_centre(segmentation))
    ready.wait(lambda: probe.history.answers and len(probe.history.answers[0].removals) == 4)
    headers = [ui.probeTable.horizontalHeaderItem(i).text() for i in range(6)]
    assert headers == ["Class", "Before", "− 4 mm", "− 8 mm", "− 16 mm", "− tumour"]
    glioma = next(row for row in _cells(ui.probeTable) if row[0] == "glioma-like")
    assert float(glioma[1]) > 0.9 > 0.3 > float(glioma[5])
    assert ui.probeTable.enabled
    assert not ui.probePlotLabel.isHidden()
    reading = _cells(ui.readingsTable)[0]
    assert reading[:2] == ["Grad-CAM", "glioma-like"]
    assert float(reading[3].split()[0]) > 95
    assert ui.segmentsLabel.text == "In: tumour"
    assert probe.point.node.GetNthControlPointLabel(0).endswith("without tumour")
    ready.grab("click")

    nowhere = tuple(np.add(_centre(segmentation), (40, 0, 0)))
    probe.ask_at(nowhere)
    ready.wait(lambda: len(probe.history.answers) == 2)
    assert ui.segmentsLabel.text == "In: no segment"
    assert [row[0] for row in _cells(ui.historyTable)] == ["1", "2"]
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


# Compare


def test_a_map_is_never_mixed_with_a_filled_segment(ready: Application) -> None:
    segmentation = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    outline(segmentation, False)
    _explain(ready, {"gradcam": {}})
    ready.run(0.1)
    assert segmentation.GetDisplayNode().GetVisibility2DFill() == 0
    ready.ui.outlineCheckBox.checked = False
    assert segmentation.GetDisplayNode().GetVisibility2DFill() == 1


def test_compares_and_exports(ready: Application) -> None:
    ui = ready.ui
    segmentation = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    _explain(ready, {"gradcam": {}})
    ready.run(0.1)
    ui.segmentationSelector.setCurrentNode(segmentation)
    assert [ui.segmentComboBox.itemText(i) for i in range(2)] == ["each segment", "tumour"]
    ready.click("compareButton")
    ready.finish("compare")
    assert ready.message("compare") == ""
    cells = {row[0]: row for row in _cells(ui.comparisonTable)}
    (ours,) = set(cells) - {"random", "centre"}
    assert ours.startswith("Grad-CAM")
    assert float(cells[ours][2]) > 0.9
    assert not ui.curvePlotLabel.isHidden()
    ready.grab("all")
    ready.click("exportComparisonButton")
    tables = slicer.util.getNodesByClass("vtkMRMLTableNode", slicer.mrmlScene)
    assert tables[0].GetTable().GetColumnByName("auroc").GetValue(0) > 0.9
    chart = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLPlotChartNode")
    assert chart.GetNumberOfPlotSeriesNodes() == 3


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

    _explain(ready, {"shapley": {"regions": "segments"}})
    notes = ui.explainNotesLabel.text
    assert "Shapley values of regions: tumour: +" in notes
    assert "interval" not in notes.split("\n")[0]


# Study


def test_a_study_is_left_come_back_to_and_opened(
    application: Application, server: Server, tmp_path: Path
) -> None:
    table = write_phantom_study(tmp_path / "in", dimensions=3, cases=2, seed=4, marker=False)
    application.connect(server)
    application.open(HONEST)
    ui = application.ui
    application.panel.sections.explain.methods.set_values({"gradcam": {}})
    ui.studyFolderPathLineEdit.currentPath = str(table)
    ui.studyOutPathLineEdit.currentPath = str(tmp_path / "out")
    application.run()
    assert ui.studyMethodsLabel.text == "gradcam"
    ui.studyTrialCheckBox.checked = True
    ui.trialBudgetSpinBox.value = 1
    assert ui.studyClassifierPathLineEdit.currentPath == str(classifier_folder(HONEST))
    application.click("startStudyButton")
    application.wait(lambda: application.panel.sections.study.job.status is not None)

    again = Application()
    try:
        again.connect(server)
        again.wait(lambda: again.panel.sections.study.busy)
        again.finish("study")
        assert "2 cases, 0 failed" in again.message("study")
        assert [row[0] for row in _cells(again.ui.casesTable)] == ["phantom-001", "phantom-002"]
        again.ui.studyFolderPathLineEdit.currentPath = str(table)
        # Cases are opened in a new scene as well.
        slicer.mrmlScene.Clear(False)
        again.run(0.1)
        again.ui.casesTable.selectRow(0)
        again.run()
        again.click("openCaseButton")
        assert again.message("study") == ""
        (node,) = attributions_of(slicer.mrmlScene)
        assert again.ui.mapSelector.currentNode() is node
        assert again.ui.trialHintLabel.text.startswith("● beats chance: yes")
        assert again.ui.trialTable.rowCount == 4
        assert again.ui.segmentationSelector.currentNode() is not None
        assert again.ui.openReportButton.enabled
        again.ui.studyCollapsibleButton.collapsed = False
        again.grab("study")
    finally:
        again.close()


# What may go wrong


def test_a_killed_engine_is_one_line_and_the_scene_stays(
    application: Application,
) -> None:
    ui = application.ui
    ui.engineCommandLineEdit.text = str(COMMAND)
    ui.engineCommandLineEdit.editingFinished.emit()
    application.open(HONEST)
    application.load()
    _explain(application, {"gradcam": {}})
    nodes = slicer.mrmlScene.GetNumberOfNodes()
    application.panel.sections.explain.methods.set_values({"occlusion": {"stride_mm": 2.0}})
    application.panel.refresh()
    application.click("explainButton")
    application.wait(lambda: application.panel.sections.explain.job.status is not None)
    os.kill(application.panel.connection._process._process.pid, signal.SIGKILL)
    application.wait(lambda: application.panel.connection.state == "lost")
    application.run(0.2)
    assert not application.panel.sections.explain.busy
    assert ui.explainProgressFrame.isHidden()
    assert "\n" not in application.message("engine")
    assert application.message("engine")
    assert "lost" in ui.engineStatusLabel.text
    assert slicer.mrmlScene.GetNumberOfNodes() >= nodes
    assert ui.startEngineButton.text == "Start again"
    application.grab("lost")
    application.click("startEngineButton")
    # The classifier is opened again by itself.
    application.wait(lambda: ui.predictButton.enabled, 60)
    assert application.message("engine") == ""
    application.click("predictButton")
    application.finish("volumes")
    assert not ui.probabilitiesTable.isHidden()


def test_a_scene_that_is_closed_in_the_middle_takes_its_answers_with_it(
    ready: Application,
) -> None:
    ready.panel.sections.explain.methods.set_values({"occlusion": {"stride_mm": 4.0}})
    ready.panel.refresh()
    ready.ui.probeButton.checked = True
    ready.panel.sections.probe.ask_at((0.0, 0.0, 0.0))
    ready.click("explainButton")
    ready.wait(lambda: ready.panel.sections.explain.job.status is not None)
    slicer.mrmlScene.Clear(False)
    ready.run(1.0)
    assert ready.message("explain") == ready.message("probe") == ""
    assert not ready.panel.sections.explain.busy
    # The engine does not go on for nobody.
    states = {status.state for status in ready.panel.logic.engine.jobs()}
    assert states <= set(ENDED)
    assert attributions_of(slicer.mrmlScene) == []
    assert not ready.ui.probeButton.checked
    assert ready.panel.logic.classifier is not None
    # A new scene is as good as the first one.
    ready.load()
    ready.click("predictButton")
    ready.finish("volumes")
    assert ready.message("volumes") == ""


def test_a_volume_that_is_deleted_is_chosen_no_more(ready: Application) -> None:
    volume = ready.panel.sections.volumes.nodes()[0]
    slicer.mrmlScene.RemoveNode(volume)
    ready.run(0.1)
    assert ready.panel.sections.volumes.nodes() == [None]
    assert not ready.ui.predictButton.enabled


def test_choices_are_saved_with_the_scene_and_trust_is_not(
    ready: Application, tmp_path: Path
) -> None:
    ui = ready.ui
    ready.panel.sections.explain.methods.set_values(
        {"occlusion": {"window_mm": 33.0}, "gradcam": {}}
    )
    ui.targetComboBox.currentIndex = 2
    ui.seedSpinBox.value = 7
    ui.radiiLineEdit.text = "3, 6"
    ui.opacitySlider.value = 0.25
    ui.trustCheckBox.checked = True
    ui.studyOutPathLineEdit.currentPath = "/some/out"
    ready.run(0.05)
    save_mrb(slicer.mrmlScene, tmp_path / "scene.mrb")
    slicer.mrmlScene = open_mrb(tmp_path / "scene.mrb")
    again = Application()
    try:
        parameters = again.panel.parameters
        assert parameters.classifierPath == str(classifier_folder(HONEST))
        assert parameters.images[0].GetName() == "SaliencyExplainPhantom"
        assert parameters.target == "glioma-like"
        assert again.ui.seedSpinBox.value == 7
        assert again.ui.radiiLineEdit.text == "3, 6"
        assert again.ui.opacitySlider.value == pytest.approx(0.25)
        assert again.ui.studyOutPathLineEdit.currentPath == "/some/out"
        assert not again.ui.trustCheckBox.checked
        again.connect(Server(ui.serverAddressLineEdit.text, Path(ui.tokenPathLineEdit.currentPath)))
        again.click("openClassifierButton")
        again.wait(lambda: again.panel.sections.explain.target() == "glioma-like")
        assert again.panel.sections.explain.chosen() == {
            "occlusion": {"window_mm": 33.0},
            "gradcam": {},
        }
        assert again.panel.sections.volumes.nodes() == list(parameters.images)
    finally:
        again.close()


def test_a_script_may_set_the_parameters(ready: Application) -> None:
    ready.panel.parameters.target = "none"
    ready.panel.parameters.methods = '{"smoothgrad": {"samples": 3}}'
    ready.run(0.1)
    assert ready.panel.sections.explain.target() == "none"
    assert ready.panel.sections.explain.chosen() == {"smoothgrad": {"samples": 3}}
