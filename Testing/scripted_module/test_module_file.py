"""The module file as Slicer loads it."""

from __future__ import annotations

import hashlib
import importlib
import subprocess
import sys
import types
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname
from xml.etree import ElementTree

import pytest
import slicer
from SlicerSaliencyExplainLib.Samples import SAMPLES, load_sample

from Testing.waiting import HUNG

from . import pythonqt
from .conftest import MODULE_FOLDER

_WITHOUT_TORCH = """
import sys
sys.path[:0] = [{project!r}]
class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "monai", "scipy", "SimpleITK", "fastapi"):
            raise ImportError(name + " is not in Slicer's Python")
sys.meta_path.insert(0, Refused())
from pathlib import Path
import tempfile
from SaliencyExplain.scene.nodes import new_scene
from Testing.scripted_module import slicer_app
slicer_app.install(Path(tempfile.mkdtemp()), new_scene())
sys.path.append({module!r})
import subprocess, threading
def refuse(*_, **__):
    raise AssertionError("no process is started before the user asks for one")
subprocess.Popen.__init__ = refuse
import SlicerSaliencyExplain
from SlicerSaliencyExplainLib import Panel, StudySection
assert threading.active_count() == 1
print("fine")
"""


@pytest.mark.slow
def test_is_imported_without_torch_and_starts_nothing() -> None:
    code = _WITHOUT_TORCH.format(project=str(MODULE_FOLDER.parent), module=str(MODULE_FOLDER))
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=HUNG, check=False
    )
    assert result.stdout.strip() == "fine", result.stderr


def test_says_what_it_is_and_registers_its_samples(
    scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("SlicerSaliencyExplain")
    parent = types.SimpleNamespace()
    module.SlicerSaliencyExplain(parent)
    assert parent.title == "Saliency Explain"
    assert parent.categories == ["Quantification"]
    assert module.registerSampleData in slicer.app.started
    registered: list[dict[str, Any]] = []
    sample_data = types.ModuleType("SampleData")
    sample_data.SampleDataLogic = types.SimpleNamespace(
        registerCustomSampleDataCategory=lambda *_, **__: None,
        registerCustomSampleDataSource=lambda **source: registered.append(source),
    )
    monkeypatch.setitem(sys.modules, "SampleData", sample_data)
    module.registerSampleData()
    assert [source["sampleName"] for source in registered] == [
        "SaliencyExplainPhantom",
        "SaliencyExplainMarkedPhantom",
    ]
    for source in registered:
        files = [Path(url2pathname(urlsplit(uri).path)) for uri in source["uris"]]
        digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
        assert source["checksums"] == [f"SHA256:{digest}" for digest in digests]
        assert Path(source["thumbnailFileName"]).is_file()
    _, segmentation = load_sample(scene, SAMPLES[1])
    segments = segmentation.GetSegmentation()
    names = [segments.GetNthSegment(i).GetName() for i in range(segments.GetNumberOfSegments())]
    assert names == ["tumour", "marker"]


def test_without_the_module_sample_data_nothing_happens(scene: Any) -> None:
    importlib.import_module("SlicerSaliencyExplain").registerSampleData()
    assert "SampleData" not in sys.modules


def test_an_older_python_is_told_plainly(scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("SlicerSaliencyExplain")
    monkeypatch.setattr(module, "TOO_OLD", True)
    window = pythonqt.QtWidgets.QWidget()
    layout = pythonqt.QtWidgets.QVBoxLayout(window)
    widget = module.SlicerSaliencyExplainWidget(window)
    widget.setup()
    widget.enter()
    widget.exit()
    widget.cleanup()
    assert layout.count() == 1
    assert "needs Python 3.10 or newer" in layout.itemAt(0).widget().text
    assert widget.panel is None


def test_each_node_selector_of_the_panel_is_given_the_scene() -> None:
    """Slicer tells the scene through the form's own connections; without one a list is empty."""
    form = ElementTree.parse(MODULE_FOLDER / "Resources" / "UI" / "SlicerSaliencyExplain.ui")
    selectors = {
        widget.get("name")
        for widget in form.iter("widget")
        if widget.get("class") == "qMRMLNodeComboBox"
    }
    connected = {
        connection.findtext("receiver")
        for connection in form.iter("connection")
        if connection.findtext("signal") == "mrmlSceneChanged(vtkMRMLScene*)"
    }
    assert selectors
    assert connected == selectors
