"""The panel: its sections, and the effects of changes in one of them on the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import qt
import slicer

from SaliencyExplain.errors import InputError
from SaliencyExplain.scene.slice_layers import show

from .BackgroundCalls import BackgroundCalls
from .ClassifierSection import ClassifierSection
from .CompareSection import CompareSection
from .DisplaySection import DisplaySection
from .EngineConnection import READY, EngineConnection
from .EnginePackages import EnginePackages, slicer_python
from .EngineSection import EngineSection
from .EvaluationSection import EvaluationSection
from .ExplainSection import ExplainSection
from .Logic import SaliencyExplainLogic
from .ProbeSection import ProbeSection
from .Section import Section
from .Settings import Settings
from .StudySection import StudySection
from .VolumesSection import VolumesSection

#: Often enough for a point that is dragged; each round costs microseconds while nothing runs.
_TICK_MS = 25


@dataclass
class Sections:
    """The sections from top to bottom."""

    engine: EngineSection
    classifier: ClassifierSection
    volumes: VolumesSection
    explain: ExplainSection
    probe: ProbeSection
    compare: CompareSection
    evaluation: EvaluationSection
    study: StudySection
    display: DisplaySection

    def __iter__(self) -> Iterator[Section]:
        return iter(vars(self).values())


class Panel:
    """Sections, logic, engine and parameters together.

    Attributes:
        ui: All widgets of the .ui file by name.
        logic: Asks the engine and changes the scene.
        connection: Starts and watches the engine.
        packages: What an engine on this computer needs; None where it cannot be installed.
        parameters: The parameter node; None while the scene is being closed.
        sections: The parts of the panel.
        nodes_due: Nodes have come or gone since the last tick.
        parameters_due: The parameter node has been changed since the last tick.
    """

    def __init__(self, ui: Any, logic: SaliencyExplainLogic, home: Path) -> None:
        """Builds all sections and starts the timer that delivers answers.

        Args:
            ui: All widgets of the .ui file by name.
            logic: With the scene.
            home: A folder of the user's for packages and for what is known of engines.
        """
        self.ui = ui
        self.logic = logic
        self.parameters: Any = None
        self.settings = Settings()
        self.packages = _packages(home)
        self.connection = EngineConnection(logic.calls, home / "engines")
        self.nodes_due = False
        self.parameters_due = False
        self._refreshing = False
        self.sections: Any = None
        self.sections = Sections(
            EngineSection(self),
            ClassifierSection(self),
            VolumesSection(self),
            ExplainSection(self),
            ProbeSection(self),
            CompareSection(self),
            EvaluationSection(self),
            StudySection(self),
            DisplaySection(self),
        )
        logic.engine_lost = self.connection.lose
        self.timer = qt.QTimer()
        self.timer.setInterval(_TICK_MS)
        self.timer.connect("timeout()", self.tick)
        self.timer.start()
        self.refresh()

    @property
    def calls(self) -> BackgroundCalls:
        """Carries questions to other threads."""
        return self.logic.calls

    def tick(self) -> None:
        """Delivers answers; called by the timer."""
        self.calls.deliver()
        if self.parameters_due and self.parameters is not None:
            self.parameters_due = False
            self.parameters_changed()
        if self.nodes_due and self.parameters is not None:
            self.nodes_due = False
            self.nodes_changed()
        for section in self.sections:
            section.show_late_progress()
        self.sections.engine.tick()
        self.sections.explain.tick()
        self.sections.probe.tick()

    def refresh(self) -> None:
        """Brings all widgets in line with the state."""
        # A widget that is changed here may call this again.
        if self._refreshing or self.sections is None:
            return
        self._refreshing = True
        try:
            for section in self.sections:
                section.refresh()
        finally:
            self._refreshing = False

    def close(self) -> None:
        """Stops running jobs before the panel is closed; a study continues in its engine."""
        self.timer.stop()
        self.logic.forget_scene()
        self.sections.probe.point.stop_placing()
        self.sections.probe.point.detach()
        self.connection.let_go()
        self.calls.close()

    # What changed

    def set_parameters(self, parameters: Any) -> None:
        """Goes over to another parameter node, or to none."""
        self.parameters = parameters
        if parameters is not None:
            self.parameters_changed()

    def parameters_changed(self) -> None:
        """The parameter node has other values."""
        for section in self.sections:
            section.parameters_changed()
        self.refresh()

    def engine_changed(self) -> None:
        """The engine has started, ended or got lost."""
        if self.sections is None:
            return
        if self.connection.engine is not self.logic.engine:
            self.logic.set_engine(self.connection.engine)
        if self.connection.engine is None:
            for section in self.sections:
                section.engine_gone()
        if self.connection.state == READY and self.logic.classifier is None:
            self.logic.ask_methods(self.sections.explain.methods_changed)
            self.sections.classifier.open_again()
            self.sections.study.engine_changed()
        self.refresh()

    def classifier_changed(self) -> None:
        """Another classifier is open."""
        for section in (
            self.sections.volumes,
            self.sections.explain,
            self.sections.probe,
            self.sections.study,
        ):
            section.classifier_changed()
        self.connection.ask_about()
        self.refresh()

    def images_changed(self) -> None:
        """Other volumes are chosen."""
        self.sections.explain.ask_estimate()
        self.sections.probe.images_changed()
        self.refresh()

    def maps_changed(self) -> None:
        """Maps have come, gone or grown."""
        self.sections.compare.maps_changed()
        self.sections.evaluation.maps_changed()
        self.sections.display.evaluation_changed()
        self.refresh()

    def segmentation_changed(self) -> None:
        """Another segmentation is chosen."""
        if self.sections is not None:
            self.sections.display.segmentation_changed()
            self.sections.explain.segmentation_changed()
        self.refresh()

    def nodes_changed(self) -> None:
        """Nodes have come into the scene or gone from it."""
        self.sections.volumes.guess()
        self.maps_changed()

    def scene_closed(self) -> None:
        """All nodes are gone; jobs about them are dropped, the engine stays."""
        self.parameters = None
        self.logic.forget_scene()
        for section in self.sections:
            section.scene_closed()
        self.refresh()

    def case_opened(self, images: list[Any], maps: list[Any], segmentation: Any) -> None:
        """A finished case of a study has come into the scene."""
        if self.parameters is not None:
            self.parameters.images = images
        if segmentation is not None:
            self.ui.segmentationSelector.setCurrentNode(segmentation)
        if maps:
            self.sections.display.show_map(maps[0])
        else:
            show(self.logic.scene, images[0])
        self.maps_changed()

    # Packages

    def packages_installed(self) -> bool:
        """Whether an engine can be started with the packages of Slicer's own Python."""
        return self.packages is not None and self.packages.installed()

    def packages_folder(self) -> str:
        """Where the packages are, or would be."""
        return str(self.packages.folder) if self.packages is not None else ""


def _packages(home: Path) -> EnginePackages | None:
    try:
        return EnginePackages(home / "packages", slicer_python())
    except InputError:
        # A Slicer without a Python program of its own: an engine command is needed.
        return None


def default_home() -> Path:
    """The module's folder beside Slicer's own settings of this user."""
    return Path(slicer.app.slicerUserSettingsFilePath).parent / "SaliencyExplain"
