"""The panel's section "Click to explain"."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from SaliencyExplain.engine.client.click_history import COLUMNS, ClickAnswer, History
from SaliencyExplain.errors import ErrorCode, InputError, SaliencyExplainError
from SaliencyExplain.probe_result import Probe
from SaliencyExplain.scene.arrays import length_unit_of
from SaliencyExplain.scene.points import readings_at

from .AnswerView import AnswerView
from .ClickPoint import ClickPoint, Point
from .ExplainSection import PREDICTED
from .Failures import Failure
from .Jobs import Job
from .SceneTables import add_table
from .Section import Section, allow
from .Segments import find_segment

#: A point can lie in many overlapping segments; each costs a probe.
_MOST_SEGMENTS = 4


class ProbeSection(Section):
    """Answers what the place of the point contributes, while it is dragged too."""

    prefix = "probe"

    def __init__(self, panel: Any) -> None:
        super().__init__(panel)
        self.point = ClickPoint(panel.logic.scene, self._on_moved)
        self.history = History()
        self._view = AnswerView(panel.ui)
        self.answer: ClickAnswer | None = None
        self._number: int | None = None
        self._asked = 0
        self._shown = 0
        self._final = 0
        self._waiting: Point | None = None
        self._segments: list[str] = []
        self._segment_job: Job | None = None
        ui = self.ui
        ui.probeButton.connect("toggled(bool)", self._on_toggled)
        ui.radiiLineEdit.connect("editingFinished()", self._ask_again)
        ui.fillComboBox.connect("currentIndexChanged(int)", self._on_fill)
        ui.probeSegmentsCheckBox.connect("toggled(bool)", self._ask_again)
        ui.historyTableButton.connect("clicked(bool)", self._on_table)
        ui.historyCsvButton.connect("clicked(bool)", self._on_csv)
        ui.clearHistoryButton.connect("clicked(bool)", self._on_clear)

    def radii(self) -> tuple[float, ...]:
        """The radii in millimetres.

        Raises:
            InputError: They are not positive numbers.
        """
        texts = self.ui.radiiLineEdit.text.replace(";", ",").split(",")
        try:
            radii = tuple(float(text) for text in texts if text.strip())
        except ValueError:
            radii = ()
        if not radii or min(radii) <= 0:
            raise InputError(
                ErrorCode.VALUE_RANGE, _("Radii are numbers above 0 in mm, such as 4, 8, 16.")
            )
        return radii

    def classifier_changed(self) -> None:
        """Fills in what a removed place can be replaced by, as occlusion describes it."""
        combo = self.ui.fillComboBox
        fills = [
            parameter["choices"]
            for method in self.panel.logic.methods
            if method["name"] == "occlusion"
            for parameter in method["parameters"]
            if parameter["name"] == "fill"
        ]
        # A constant needs a value, which makes sense in the network's own units only.
        self._fills = [name for name in (fills[0] if fills else ()) if name != "value"]
        chosen = self.panel.parameters.fill if self.panel.parameters is not None else ""
        combo.blockSignals(True)
        combo.clear()
        for name in self._fills:
            combo.addItem(name)
        if chosen in self._fills:
            combo.currentIndex = self._fills.index(chosen)
        combo.blockSignals(False)
        self._ask_again()

    def parameters_changed(self) -> None:
        """Shows what the parameter node says."""
        parameters = self.panel.parameters
        if parameters is not None and parameters.point is not None:
            self.point.attach(parameters.point)

    def scene_closed(self) -> None:
        """Forgets what was about the scene of before."""
        super().scene_closed()
        self.ui.probeButton.checked = False
        self.point.detach()
        self.history.clear()
        self._forget()

    def images_changed(self) -> None:
        """What was answered was about another volume."""
        self._forget()
        self._ask_again()

    def refresh(self) -> None:
        """Brings its widgets in line with the state of the panel."""
        ui = self.ui
        blocked = self.panel.sections.volumes.why_not_ready()
        on = ui.probeButton.checked
        allow(
            ui.probeButton,
            _("Click again to end.") if on else _("Then click at a spot in any slice or 3D view."),
            (bool(blocked) and not on, blocked),
        )
        empty = (not self.history.answers, _("Nothing has been clicked yet."))
        allow(ui.historyTableButton, _("Keep the history in the scene."), empty)
        allow(ui.historyCsvButton, _("Save the history as a file."), empty)
        allow(ui.clearHistoryButton, _("Forget the clicks."), empty)

    def tick(self) -> None:
        """Tidies points, and asks for the place to which the point has been dragged."""
        self.point.tidy()
        if self._waiting is not None and not self.busy:
            place, self._waiting = self._waiting, None
            self._ask(place)

    def ask_at(self, place: Point) -> None:
        """Puts the point somewhere and answers, as a click there does."""
        self._ensure_point()
        self.point.move_to(place)

    # The point

    def _ensure_point(self) -> None:
        parameters = self.panel.parameters
        known = parameters.point if parameters is not None else None
        node = self.point.attach(known)
        if parameters is not None and known is None:
            parameters.point = node

    def _on_toggled(self, on: bool) -> None:
        if on:
            self._ensure_point()
            self.point.start_placing()
        else:
            self.point.stop_placing()
        self.panel.refresh()

    def _on_moved(self, place: Point, final: bool) -> None:
        blocked = self.panel.sections.volumes.why_not_ready()
        if blocked:
            self.say(blocked)
            return
        if self._number is None:
            self._number = self.history.number()
        if not self._read(place):
            return
        # What stands there is of another place until the answer comes.
        self._view.set_stale(True)
        self.point.label("")
        self._segments = []
        if self._segment_job is not None:
            self._segment_job.drop()
        if final:
            # The engine gives up the probes before; their answers would be stale.
            self._waiting = None
            self._ask(place)
            self._final = self._asked
        else:
            self._waiting = place

    def _ask_again(self, _value: Any = None) -> None:
        place = self.point.place()
        if place is not None and self.ui.probeButton.checked:
            self._told_again(place)
        self.panel.refresh()

    def _told_again(self, place: Point) -> None:
        self._number = None
        self._on_moved(place, True)

    def _on_fill(self, index: int) -> None:
        if self.panel.parameters is not None and index >= 0:
            self.panel.parameters.fill = self._fills[index]
        self._ask_again()

    # Questions and answers

    def _ask(self, place: Point) -> None:
        self._asked += 1
        serial, asked = self._asked, self.answer
        if self.busy:
            self.job.drop()
        self.begin(
            lambda: self.panel.logic.probe(
                self.panel.sections.volumes.nodes(),
                place,
                self.radii(),
                fill=self.ui.fillComboBox.currentText or "mean",
                progress=self.show_progress,
                done=lambda result: self._answered(serial, asked, result),
                failed=self.fail,
                cancelled=lambda: self._given_up(serial),
            ),
            _("Asking …"),
        )

    def _given_up(self, serial: int) -> None:
        # A newer probe in its place is no news.
        if serial == self._asked:
            self.cancelled()

    def _answered(self, serial: int, asked: ClickAnswer, result: Probe) -> None:
        if serial < self._shown:
            return
        self._shown = serial
        self.end()
        # With the readings of the place that was asked for; the point may have moved on.
        self.answer = replace(asked, probe=result)
        self._show()
        if serial == self._final:
            self.history.keep(self.answer)
            self._number = None
            self._segments = list(self.answer.segments[:_MOST_SEGMENTS])
            self._show_history()
            if self.ui.probeSegmentsCheckBox.checked:
                self._ask_segment(self.answer.number)
        self.panel.refresh()

    def _ask_segment(self, number: int) -> None:
        """Asks for the next segment that holds the point; one after the other."""
        if not self._segments:
            return
        found = find_segment(self.panel.logic.scene, self._segments.pop(0))
        if found is None:
            self._ask_segment(number)
            return

        def done(result: Probe) -> None:
            answer = self.history.add_removal(number, result.removals)
            if answer is not None and self.answer is not None and self.answer.number == number:
                self.answer = answer
                self._show()
            self._show_history()
            self._ask_segment(number)

        try:
            self._segment_job = self.panel.logic.probe_segment(
                self.panel.sections.volumes.nodes(),
                *found,
                fill=self.ui.fillComboBox.currentText or "mean",
                done=done,
                failed=self.fail,
            )
        except SaliencyExplainError as error:
            self.fail(Failure.of(error))

    def _blank(self, place: Point) -> ClickAnswer:
        node = self.panel.sections.volumes.nodes()[0]
        number = self._number if self._number is not None else self.history.number()
        return ClickAnswer(number, place, node.GetName(), length_unit=length_unit_of(node))

    def _read(self, place: Point) -> bool:
        """What needs no engine: values and segments at the place; says why it has none."""
        node = self.panel.sections.volumes.nodes()[0]
        try:
            readings = readings_at(self.panel.logic.scene, node, place)
        except SaliencyExplainError as error:
            self.fail(Failure.of(error))
            return False
        self.answer = replace(
            self._blank(place),
            image_value=readings.image_value,
            readings=readings.maps,
            segments=readings.segments,
        )
        self._view.show_readings(self.answer)
        return True

    def target_index(self, result: Probe) -> int:
        """The class that is written at the point: the chosen one, else the predicted one."""
        target = self.panel.sections.explain.target()
        if target != PREDICTED and target in result.classes:
            return result.classes.index(target)
        return max(range(len(result.classes)), key=lambda index: result.before[index])

    # Showing

    def _forget(self) -> None:
        if self.busy:
            self.job.drop()
            self.end()
        self._shown = self._asked
        self.answer = None
        self._waiting = None
        self._number = None
        self._segments = []
        if self._segment_job is not None:
            self._segment_job.drop()
            self._segment_job = None
        self._view.clear()
        self._show_history()

    def _show(self) -> None:
        answer = self.answer
        self._view.show(answer)
        if answer.probe.notes:
            self.say(" ".join(answer.probe.notes))
        # The font of the views has no arrow.
        self.point.label(answer.short(self.target_index(answer.probe)).replace("→", _("to")))

    def _show_history(self) -> None:
        self._view.show_history(self.history.answers, self.target_index)

    # History

    def _on_table(self, _checked: bool = False) -> None:
        node = add_table(self.panel.logic.scene, "Click history", COLUMNS, self.history.rows())
        self.say(_("The history is in the table {name}.").format(name=node.GetName()))

    def _on_csv(self, _checked: bool = False) -> None:
        path = qt.QFileDialog.getSaveFileName(
            slicer.util.mainWindow(), _("Save the history"), "clicks.csv", "CSV (*.csv)"
        )
        if path:
            self.save_csv(path)

    def save_csv(self, path: str) -> None:
        """Saves the history as a file."""
        try:
            self.history.write_csv(Path(path))
        except SaliencyExplainError as error:
            self.fail(Failure.of(error))
        else:
            self.say(_("Saved as {path}.").format(path=path))

    def _on_clear(self, _checked: bool = False) -> None:
        self.history.clear()
        self._show_history()
        self.panel.refresh()
