"""The panel's section "Study folder"."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from SaliencyExplain.engine.interface import ENDED, JobStatus
from SaliencyExplain.engine.wire.requests import StudyRequest
from SaliencyExplain.errors import SaliencyExplainError
from SaliencyExplain.records.journal_file import JournalFile
from SaliencyExplain.records.study_rows import StudyRow, study_rows
from SaliencyExplain.results.study_result import StudyResult
from SaliencyExplain.specification.spec import ExplainSpec, Limits, MethodChoice
from SaliencyExplain.specification.target import Target

from .ExplainSection import PREDICTED
from .Failures import Failure
from .Section import Section, allow
from .StudyCases import CaseSources, find_sources, load_case
from .Tables import fill_table

_TARGETS = (PREDICTED, "label")


class StudySection(Section):
    """Runs a study in the engine, finds a running one again, and opens its cases."""

    prefix = "study"

    def __init__(self, panel: Any) -> None:
        super().__init__(panel)
        self._cases: list[StudyRow] = []
        self._report = ""
        self._sources: dict[str, CaseSources] = {}
        ui = self.ui
        for name in ("studyFolder", "studyClassifier", "studyOut"):
            edit = getattr(ui, f"{name}PathLineEdit")
            edit.connect("currentPathChanged(QString)", self._on_path)
        ui.studyTargetComboBox.connect("currentIndexChanged(int)", self._on_path)
        ui.startStudyButton.connect("clicked(bool)", self._on_start)
        ui.loadStudyButton.connect("clicked(bool)", self._on_load)
        ui.casesTable.connect("cellDoubleClicked(int,int)", self._on_case)
        ui.casesTable.connect("itemSelectionChanged()", self.panel.refresh)
        ui.openCaseButton.connect("clicked(bool)", self._on_open_case)
        ui.openReportButton.connect("clicked(bool)", self._on_report)

    def scene_closed(self) -> None:
        """A study belongs to no scene: it runs on."""

    def parameters_changed(self) -> None:
        """Shows what the parameter node says."""
        parameters = self.panel.parameters
        if parameters is None:
            return
        # A new scene says nothing of a study, and the one that is shown goes on.
        if parameters.studyFolder:
            self.ui.studyFolderPathLineEdit.currentPath = parameters.studyFolder
        if parameters.studyOut:
            self.ui.studyOutPathLineEdit.currentPath = parameters.studyOut
        if parameters.studyTarget in _TARGETS:
            self.ui.studyTargetComboBox.currentIndex = _TARGETS.index(parameters.studyTarget)

    def classifier_changed(self) -> None:
        """The classifier of the panel is the study's, unless another one was named."""
        if not self.ui.studyClassifierPathLineEdit.currentPath:
            path = self.ui.classifierPathLineEdit.currentPath
            self.ui.studyClassifierPathLineEdit.currentPath = path

    def engine_changed(self) -> None:
        """Looks for a study that an engine works on already."""
        if self.panel.logic.engine is not None and not self.busy:
            self.panel.logic.find_studies(self._found)

    def refresh(self) -> None:
        """Brings its widgets in line with the state of the panel."""
        ui = self.ui
        methods = self.panel.sections.explain.chosen()
        ui.studyMethodsLabel.text = ", ".join(methods) or _("none: choose them under Explain")
        missing = [
            (not edit.currentPath.strip(), words)
            for edit, words in (
                (ui.studyFolderPathLineEdit, _("Choose the folder of cases.")),
                (ui.studyClassifierPathLineEdit, _("Choose a classifier.")),
                (ui.studyOutPathLineEdit, _("Choose the output folder.")),
            )
        ]
        allow(
            ui.startStudyButton,
            _("Start the study, or go on with one that was stopped."),
            (self.busy, _("A study is running.")),
            (self.panel.logic.engine is None, _("Start or connect an engine.")),
            *missing,
            (not methods, _("Choose methods under Explain.")),
        )
        allow(
            ui.loadStudyButton,
            _("Show the cases of the output folder."),
            missing[2],
            (not self._is_near(), _("The output folder is on another computer.")),
        )
        row = ui.casesTable.currentRow()
        chosen = self._cases[row] if 0 <= row < len(self._cases) else None
        ui.casesButtons.visible = bool(self._cases)
        allow(
            ui.openCaseButton,
            _("Load the case with its maps and segmentation."),
            (chosen is None, _("Choose a case in the table.")),
            (chosen is not None and not chosen.explained, _("This case has no maps.")),
        )
        allow(
            ui.openReportButton,
            _("Show the report in the browser."),
            (not self._report_path().is_file(), _("No report yet.")),
        )

    def _is_near(self) -> bool:
        """Whether the engine's disk is this computer's, as far as can be seen."""
        out = self.ui.studyOutPathLineEdit.currentPath.strip()
        return self.ui.engineKindComboBox.currentIndex == 0 or (bool(out) and Path(out).is_dir())

    def _report_path(self) -> Path:
        out = Path(self.ui.studyOutPathLineEdit.currentPath.strip() or ".")
        return Path(self._report) if self._report else out / "report.html"

    def _callbacks(self) -> dict[str, Any]:
        return {
            "progress": self.show_progress,
            "done": self._done,
            "failed": self.fail,
            "cancelled": self.cancelled,
        }

    def _on_path(self, _value: Any = None) -> None:
        parameters = self.panel.parameters
        if parameters is not None:
            parameters.studyFolder = self.ui.studyFolderPathLineEdit.currentPath
            parameters.studyOut = self.ui.studyOutPathLineEdit.currentPath
            parameters.studyTarget = _TARGETS[max(0, self.ui.studyTargetComboBox.currentIndex)]
        self.panel.refresh()

    def _on_start(self, _checked: bool = False) -> None:
        ui = self.ui
        classifier = ui.studyClassifierPathLineEdit.currentPath.strip()
        same = classifier == ui.classifierPathLineEdit.currentPath.strip()
        request = StudyRequest(
            folder=ui.studyFolderPathLineEdit.currentPath.strip(),
            classifier=classifier,
            spec=ExplainSpec(
                tuple(
                    MethodChoice(name, chosen)
                    for name, chosen in self.panel.sections.explain.chosen().items()
                ),
                Target.parse(_TARGETS[max(0, ui.studyTargetComboBox.currentIndex)]),
                ui.seedSpinBox.value,
                Limits(passes=float(ui.evaluationBudgetSpinBox.value)),
            ),
            out=ui.studyOutPathLineEdit.currentPath.strip(),
            trust=same and ui.trustCheckBox.checked,
            evaluate=ui.studyEvaluateCheckBox.checked,
        )
        self.begin(
            lambda: self.panel.logic.start_study(request, **self._callbacks()), _("Starting …")
        )

    def _found(self, studies: list[JobStatus]) -> None:
        running = [status for status in studies if status.state not in ENDED]
        if running and not self.busy:
            job = running[-1].job
            self.begin(
                lambda: self.panel.logic.follow_study(job, **self._callbacks()),
                _("Found a running study …"),
            )

    def _done(self, result: StudyResult) -> None:
        self.end()
        self._report = str(result.report)
        self._sources = {
            case.case: CaseSources(
                tuple(Path(image) for image in case.images),
                Path(case.segmentation) if case.segmentation else None,
                tuple(Path(path) for path in case.further_segmentations),
            )
            for case in result.cases
        }
        words = _("{total} cases, {failed} failed.").format(
            total=result.total, failed=result.failed
        )
        self.say(" ".join([words, *result.notes]))
        if result.out.is_dir():
            self.ui.studyOutPathLineEdit.currentPath = str(result.out)
            self._load()
        self.panel.refresh()

    def _on_load(self, _checked: bool = False) -> None:
        self.clear_message()
        self._report = ""
        self._sources = {}
        notes = self._load()
        if notes:
            self.say(" ".join(notes))
        self.panel.refresh()

    def _load(self) -> list[str]:
        """Fills the table of cases, those that failed last; gives what is said of the folder."""
        notes: list[str] = []
        try:
            out = Path(self.ui.studyOutPathLineEdit.currentPath.strip())
            journal = JournalFile.read(out)
            self._cases = sorted(study_rows(journal), key=lambda case: not case.explained)
            notes = journal.notes()
        except SaliencyExplainError as error:
            self._cases = []
            self.say(str(error), Failure.of(error).details)
        rows = [
            (case.case, _("done") if case.explained else case.reason, case.predicted, case.label)
            for case in self._cases
        ]
        columns = (_("Case"), _("State"), _("Predicted"), _("Label"))
        fill_table(self.ui.casesTable, columns, rows, most_rows=8)
        return notes

    def _on_case(self, row: int, _column: int) -> None:
        self.open_case(self._cases[row].case)

    def _on_open_case(self, _checked: bool = False) -> None:
        self.open_case(self._cases[self.ui.casesTable.currentRow()].case)

    def open_case(self, name: str) -> None:
        """Loads a case into the scene and shows its first map."""
        self.clear_message()
        ui = self.ui
        try:
            sources = self._sources.get(name)
            if sources is None:
                sources = find_sources(Path(ui.studyFolderPathLineEdit.currentPath.strip()), name)
            images, maps, mask = load_case(
                self.panel.logic.scene,
                sources,
                Path(ui.studyOutPathLineEdit.currentPath.strip()),
                name,
                {method["name"]: method["title"] for method in self.panel.logic.methods},
            )
        except SaliencyExplainError as error:
            self.fail(Failure.of(error))
            return
        self.panel.case_opened(images, maps, mask)

    def _on_report(self, _checked: bool = False) -> None:
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(self._report_path())))
