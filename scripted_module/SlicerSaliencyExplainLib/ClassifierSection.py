"""The panel's section "Classifier"."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

import SaliencyExplain
from SaliencyExplain.engine.interface import ClassifierInfo
from SaliencyExplain.errors import SaliencyExplainError

from .BackgroundCalls import Call
from .Failures import Failure
from .Section import Section, allow

_REMEMBERED = 8


def demo_classifiers() -> list[str]:
    """The folders of the classifiers that come with SaliencyExplain."""
    package = Path(SaliencyExplain.__file__).resolve().parent
    found = {
        bundle.parent.name: str(bundle.parent)
        for home in (package, package.parent, Path(__file__).resolve().parents[1])
        for bundle in sorted((home / "Resources" / "Classifiers").glob("*/configs"))
    }
    return list(found.values())


class ClassifierSection(Section):
    """Opens a classifier and says what it is."""

    prefix = "classifier"

    def __init__(self, panel: Any) -> None:
        super().__init__(panel)
        self._call: Call | None = None
        ui = self.ui
        ui.openClassifierButton.connect("clicked(bool)", self._on_open)
        ui.classifierPathLineEdit.connect("currentPathChanged(QString)", self._on_path)
        ui.recentClassifiersComboBox.connect("activated(int)", self._on_recent)
        ui.trustCheckBox.connect("toggled(bool)", self._on_trust)
        self._fill_recent()

    def parameters_changed(self) -> None:
        """Shows what the parameter node says."""
        parameters = self.panel.parameters
        if parameters is not None and parameters.classifierPath:
            self.ui.classifierPathLineEdit.currentPath = parameters.classifierPath

    def scene_closed(self) -> None:
        """A classifier is independent of scenes: it stays open."""

    def refresh(self) -> None:
        """Brings its widgets in line with the state of the panel."""
        ui = self.ui
        server = ui.engineKindComboBox.currentIndex == 1
        ui.classifierOnServerCheckBox.visible = server
        opening = self._call is not None and not self._call.finished
        blocked = self.panel.sections.engine.why_not_startable()
        allow(
            ui.openClassifierButton,
            _("Load the classifier; starts the engine where none runs."),
            (opening, _("A classifier is being opened.")),
            (not ui.classifierPathLineEdit.currentPath.strip(), _("Choose a file or folder.")),
            (bool(blocked), blocked),
        )
        classifier = self.panel.logic.classifier
        ui.classifierInfoLabel.text = describe(classifier) if classifier else ""

    def open_again(self) -> None:
        """Opens the classifier of before in a new engine."""
        try:
            call = self.panel.logic.open_again(done=self._opened, failed=self._failed)
        except SaliencyExplainError as error:
            self.fail(Failure.of(error))
            return
        if call is not None:
            self._show_opening(call)

    def _on_open(self, _checked: bool = False) -> None:
        self.clear_message()
        self.panel.sections.engine.start(self._open)
        self.panel.refresh()

    def _open(self) -> None:
        path = self.ui.classifierPathLineEdit.currentPath.strip()
        on_server = self.ui.classifierOnServerCheckBox
        try:
            call = self.panel.logic.open_classifier(
                path,
                trust=self.ui.trustCheckBox.checked,
                on_server=on_server.checked and self.ui.engineKindComboBox.currentIndex == 1,
                done=self._opened,
                failed=self._failed,
            )
        except SaliencyExplainError as error:
            self.fail(Failure.of(error))
            return
        self._show_opening(call)

    def _show_opening(self, call: Call) -> None:
        self._call = call
        self.ui.classifierProgressBar.maximum = 0
        self.ui.classifierProgressLabel.text = _("Opening …")
        self.ui.classifierCancelButton.enabled = True
        self.ui.classifierProgressFrame.visible = True
        self.panel.refresh()

    def _opened(self, _classifier: ClassifierInfo) -> None:
        self._call = None
        self.end()
        path = self.ui.classifierPathLineEdit.currentPath.strip()
        if self.panel.parameters is not None:
            self.panel.parameters.classifierPath = path
        self._remember(path)
        self.panel.classifier_changed()

    def _failed(self, failure: Failure) -> None:
        self._call = None
        line = failure.line
        if "--trust" in line:
            line = line.replace("--trust", _("'Run code that comes with it'"))
        self.fail(Failure(line, failure.details, failure.lost))

    def _on_cancel(self, _checked: bool = False) -> None:
        # Loading cannot be stopped in the middle; its answer is dropped.
        if self._call is not None:
            self._call.cancel()
            self._call = None
        self.cancelled()

    def _on_path(self, _path: str) -> None:
        # Trust was given to another classifier.
        self.ui.trustCheckBox.checked = False
        self.panel.refresh()

    def _on_trust(self, on: bool) -> None:
        self.ui.trustWarningLabel.visible = on

    def _on_recent(self, index: int) -> None:
        if index > 0:
            self.ui.classifierPathLineEdit.currentPath = self._recent[index - 1]
            self.ui.recentClassifiersComboBox.currentIndex = 0

    def _remember(self, path: str) -> None:
        known = [other for other in self._remembered() if other != path]
        kept = [path, *known][:_REMEMBERED]
        self.panel.settings.write("RecentClassifiers", json.dumps(kept))
        self._fill_recent()

    def _remembered(self) -> list[str]:
        try:
            return [str(path) for path in json.loads(self.panel.settings.read("RecentClassifiers"))]
        except ValueError:
            return []

    def _fill_recent(self) -> None:
        shipped = demo_classifiers()
        self._recent = list(dict.fromkeys([*self._remembered(), *shipped]))
        combo = self.ui.recentClassifiersComboBox
        combo.clear()
        combo.addItem(_("recent and demo classifiers"))
        for path in self._recent:
            name = Path(path).name
            combo.addItem(_("{name} (demo)").format(name=name) if path in shipped else name)


def describe(classifier: ClassifierInfo) -> str:
    """The description of a classifier, as rich text."""
    rows = [
        (_("Name"), classifier.name),
        (_("Classes"), ", ".join(classifier.classes)),
        (_("Channels"), ", ".join(classifier.channels)),
        (_("Input"), _input_text(classifier)),
        (_("Format"), classifier.format),
    ]
    lines = [
        f"<tr><td>{html.escape(name)}:&nbsp;</td><td>{html.escape(value)}</td></tr>"
        for name, value in rows
    ]
    notes = "".join(f"<br>⚠ {html.escape(note)}" for note in classifier.notes)
    return f"<table>{''.join(lines)}</table>{notes}"


def _input_text(classifier: ClassifierInfo) -> str:
    words = [f"{classifier.spatial_dims}D"]
    if classifier.input_size:
        words.append(" × ".join(map(str, classifier.input_size)) + _(" voxels"))
    if classifier.spacing:
        words.append(_("of ") + " × ".join(f"{size:g}" for size in classifier.spacing) + " mm")
    return " ".join(words)
