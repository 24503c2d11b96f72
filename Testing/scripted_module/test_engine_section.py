"""The panel's engine: named, tested, installed, removed, lost and started again."""

from __future__ import annotations

import os
import signal
import sys
import venv
from pathlib import Path
from typing import Any

import pytest
import slicer
from SlicerSaliencyExplainLib.EnginePackages import EnginePackages

from .conftest import (
    COMMAND,
    HONEST,
    TABLES_ALIGN_BY_NUMBER,
    Application,
    Server,
    cells,
    make_wheel,
)

pytestmark = TABLES_ALIGN_BY_NUMBER


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
    application.wait(lambda: not ui.packagesPlanFrame.isHidden())
    size = f"{wheel.stat().st_size} B"
    assert cells(ui.packagesPlanTable) == [["alpha", "1.5", size]]
    folder = str(application.panel.packages.folder)
    assert folder in ui.packagesPlanLabel.text
    assert size in ui.packagesPlanLabel.text
    application.grab("packages")
    assert not application.panel.packages.folder.exists()

    application.click("installPackagesButton")
    application.click("engineCancelButton")
    application.wait(lambda: "Cancelled" in application.message("engine"))
    assert not application.panel.packages.folder.exists()

    application.click("installPackagesButton")
    application.wait(lambda: application.panel.packages.installed())
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


@pytest.mark.slow
def test_a_killed_engine_is_one_line_and_the_scene_stays(
    application: Application,
) -> None:
    ui = application.ui
    ui.engineCommandLineEdit.text = str(COMMAND)
    ui.engineCommandLineEdit.editingFinished.emit()
    application.open(HONEST)
    application.load()
    application.explain({"gradcam": {}})
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
    application.wait(lambda: ui.predictButton.enabled)
    assert application.message("engine") == ""
    application.click("predictButton")
    application.finish("volumes")
    assert not ui.probabilitiesTable.isHidden()
