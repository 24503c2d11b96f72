"""The panel as a whole, with a real server: what each step enables, what is kept and let go."""

from __future__ import annotations

from pathlib import Path

import pytest
import slicer

from SaliencyExplain.demo.study import classifier_folder
from SaliencyExplain.engine.interface import ENDED
from SaliencyExplain.scene.attributions import attributions_of
from SaliencyExplain.scene.mrb import open_mrb, save_mrb

from .conftest import HONEST, TABLES_ALIGN_BY_NUMBER, Application, Server

pytestmark = TABLES_ALIGN_BY_NUMBER


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
        "opacitySlider": "No map",
        "bandsCheckBox": "No map",
        "volumeRenderingCheckBox": "No map",
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
    assert "No map" in ui.compareButton.toolTip
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
