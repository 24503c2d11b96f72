"""The module with a real scene, a real engine and, for the widget, adapted PySide6."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6", reason="PySide6 is not installed")

import slicer

from SaliencyExplain.demo.study import classifier_folder
from SaliencyExplain.engine.queue.local_engine import LocalEngine
from SaliencyExplain.scene.nodes import new_scene
from Testing.waiting import HUNG, until

from . import pythonqt, slicer_app

MODULE_FOLDER = Path(__file__).resolve().parents[2] / "scripted_module"
#: The program of the environment that runs the tests.
COMMAND = Path(sys.executable).with_name("saliency-explain")
HONEST = "phantom-3d-honest"

WAIT_SECONDS = HUNG
#: PythonQt takes a number there, PySide6 would rather have a flag.
TABLES_ALIGN_BY_NUMBER = pytest.mark.filterwarnings("ignore:.*setTextAlignment:DeprecationWarning")

#: Slicer puts a module's folder on the path; ``qt`` and ``ctk`` come from the adapter. Here and
#: not in a fixture, so that tests import the module's parts as any others.
sys.path.append(str(MODULE_FOLDER))
slicer_app.install(Path(tempfile.mkdtemp(prefix="saliency-explain-")), new_scene())

from SlicerSaliencyExplainLib.Samples import load_sample  # noqa: E402


@pytest.fixture
def scene() -> Iterator[Any]:
    """An empty scene, as slicer.mrmlScene."""
    slicer.mrmlScene = new_scene()
    yield slicer.mrmlScene
    slicer.mrmlScene.Clear(True)


@pytest.fixture(scope="session")
def engine() -> Iterator[LocalEngine]:
    """An engine in this process, shared: classifiers stay loaded."""
    engine = LocalEngine(data=("/",), trust=False)
    yield engine
    engine.close()


@dataclass(frozen=True)
class Server:
    """A running server of the session, as the panel names it."""

    address: str
    token_file: Path


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real server in a process of its own; it may read this computer's disk."""
    token_file = tmp_path_factory.mktemp("server") / "token"
    command = [str(COMMAND), "serve", "--token-file", str(token_file), "--data", "/"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    said = json.loads(process.stdout.readline())
    yield Server(said["address"], token_file)
    process.terminate()
    process.wait(HUNG)


class Application:
    """The module's panel in a window, and ways to wait for it."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        # Qt goes on after an exception in a slot; a test must not.
        self._hook, sys.excepthook = sys.excepthook, self._on_error
        self.module = importlib.import_module("SlicerSaliencyExplain")
        self.window = pythonqt.QtWidgets.QWidget()
        pythonqt.QtWidgets.QVBoxLayout(self.window)
        self.window.isEntered = True
        self.widget = self.module.SlicerSaliencyExplainWidget(self.window)
        self.widget.setup()
        self.panel = self.widget.panel
        self.ui = self.widget.ui
        self.window.resize(520, 1400)

    def _on_error(self, kind: Any, error: BaseException, trace: Any) -> None:
        self.errors.append(error)
        self._hook(kind, error, trace)

    def run(self, seconds: float = 0.0) -> None:
        """Lets timers and events run."""
        end = time.monotonic() + seconds
        while True:
            pythonqt.application().processEvents()
            if self.errors:
                raise self.errors[0]
            if time.monotonic() >= end:
                return
            time.sleep(0.002)

    def wait(self, ready: Callable[[], Any]) -> None:
        """Lets timers and events run until something holds."""
        until(ready, meanwhile=lambda: self.run(0.01))

    def click(self, name: str) -> None:
        """Presses a button as a user does: not while it is disabled."""
        button = getattr(self.ui, name)
        assert button.enabled, f"{name} is disabled: {button.toolTip}"
        button.click()
        self.run()

    def connect(self, server: Server) -> None:
        """Goes over to a server, as a user does."""
        self.ui.engineKindComboBox.currentIndex = 1
        self.ui.serverAddressLineEdit.text = server.address
        self.ui.serverAddressLineEdit.editingFinished.emit()
        self.ui.tokenPathLineEdit.currentPath = str(server.token_file)
        self.click("startEngineButton")
        self.wait(lambda: self.panel.connection.state == "ready")

    def open(self, classifier: str) -> None:
        """Opens a demo classifier."""
        self.ui.classifierPathLineEdit.currentPath = str(classifier_folder(classifier))
        before = self.panel.logic.classifier
        self.click("openClassifierButton")
        self.wait(lambda: self.panel.logic.classifier not in (None, before))
        self.run()

    def load(self) -> tuple[Any, Any]:
        """Loads the sample; its volume becomes the classifier's input by itself."""
        volume, segmentation = load_sample(slicer.mrmlScene)
        self.wait(lambda: volume in self.panel.sections.volumes.nodes())
        return volume, segmentation

    def explain(self, methods: dict[str, Any]) -> Any:
        """Computes maps by these methods and their parameters: the one that is shown then."""
        self.panel.sections.explain.methods.set_values(methods)
        self.panel.refresh()
        self.click("explainButton")
        self.finish("explain")
        assert self.message("explain") == ""
        return self.ui.mapSelector.currentNode()

    def finish(self, section: str) -> None:
        """Waits until a section's job has ended."""
        self.wait(lambda: not getattr(self.panel.sections, section).busy)
        self.run()

    def message(self, section: str) -> str:
        """The one line that a section shows; empty: none."""
        frame = getattr(self.ui, f"{section}MessageFrame")
        shown = not frame.isHidden()
        return getattr(self.ui, f"{section}MessageLabel").text if shown else ""

    def grab(self, name: str) -> None:
        """Saves a picture of the panel into the folder that the environment names."""
        folder = os.environ.get("SALIENCY_EXPLAIN_SCREENSHOTS")
        if folder:
            self.window.show()
            self.run(0.1)
            hint = self.window.sizeHint()
            self.window.resize(520, max(600, hint.height()))
            self.run(0.1)
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.window.grab().save(str(Path(folder) / f"panel-{name}.png"))

    def close(self) -> None:
        """Ends the widget as Slicer does."""
        self.widget.cleanup()
        self.window.close()
        self.window.deleteLater()
        pythonqt.application().processEvents()
        sys.excepthook = self._hook


@pytest.fixture
def settings() -> None:
    """No settings of an earlier test."""
    pythonqt.QtCore.QSettings().clear()


@pytest.fixture
def application(
    scene: Any, settings: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Application]:
    """The panel, with no engine yet."""
    monkeypatch.delenv("SALIENCY_EXPLAIN_ENGINE", raising=False)
    application = Application()
    yield application
    application.close()


@pytest.fixture
def ready(application: Application, server: Server) -> Application:
    """The panel with engine, classifier and volume."""
    application.connect(server)
    application.open(HONEST)
    application.load()
    return application


def cells(table: Any) -> list[list[str]]:
    """The texts of a table's rows; empty where a cell has none."""
    return [
        [
            table.item(row, column).text() if table.item(row, column) else ""
            for column in range(table.columnCount)
        ]
        for row in range(table.rowCount)
    ]


def make_wheel(folder: Path, name: str, version: str, *needs: str) -> Path:
    """A wheel with one module that knows its version."""
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    information = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    contents = {
        f"{name}.py": f"version = {version!r}\n",
        f"{information}/METADATA": metadata + "".join(f"Requires-Dist: {need}\n" for need in needs),
        f"{information}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{information}/RECORD": "",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for file, text in contents.items():
            archive.writestr(file, text)
    return wheel
