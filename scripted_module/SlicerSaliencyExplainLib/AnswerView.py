"""The results of clicks, in the panel's tables and plot."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from slicer.i18n import tr as _

from SaliencyExplain.engine.client.click_history import ClickAnswer
from SaliencyExplain.length_unit import joined
from SaliencyExplain.probe_result import Probe

from .LinePlot import COLORS, Line, draw_plot
from .Tables import fill_table, number_text

_WIDGETS = ("probeTable", "readingsTable", "probePlotLabel", "segmentsLabel")


class AnswerView:
    """Shows one result, and the history of all; sends no requests."""

    def __init__(self, ui: Any) -> None:
        self._ui = ui

    def clear(self) -> None:
        """Shows no answer."""
        for name in _WIDGETS:
            getattr(self._ui, name).visible = False
        self._ui.probePlaceLabel.text = ""

    def set_stale(self, stale: bool) -> None:
        """Greys out what is of another place until the answer comes."""
        self._ui.probeTable.enabled = self._ui.probePlotLabel.enabled = not stale

    def show(self, answer: ClickAnswer) -> None:
        """Shows all of an answer that has come."""
        result = answer.probe
        before = _("Score before") if result.output == "score" else _("Before")
        columns = (_("Class"), before, *(f"− {removal.name}" for removal in answer.removals))
        rows = [
            (
                name,
                result.shown[index],
                *(removal.shown(result.output)[index] for removal in answer.removals),
            )
            for index, name in enumerate(result.classes)
        ]
        fill_table(self._ui.probeTable, columns, rows)
        self.set_stale(False)
        self._draw(result)
        self.show_readings(answer)

    def _draw(self, result: Probe) -> None:
        balls = sorted(
            (r for r in result.removals if r.radius_mm is not None), key=lambda r: r.radius_mm
        )
        # The axis of the plot is that of a probability.
        if not balls or result.output == "score":
            self._ui.probePlotLabel.visible = False
            return
        radii = [0.0, *(ball.radius_mm for ball in balls)]
        lines = [
            Line(
                name,
                radii,
                [result.before[index], *(ball.probabilities[index] for ball in balls)],
                COLORS[index % len(COLORS)],
                dots=True,
            )
            for index, name in enumerate(result.classes)
        ]
        draw_plot(
            self._ui.probePlotLabel,
            lines,
            x_title=_("radius of the removed ball, {unit}").format(unit=result.length_unit),
            y_title=_("probability"),
            x_end=radii[-1],
        )

    def show_readings(self, answer: ClickAnswer) -> None:
        """Shows what is known of a place without asking the engine."""
        place = ", ".join(f"{coordinate:.1f}" for coordinate in answer.point)
        value = number_text(answer.image_value) or _("outside")
        self._ui.probePlaceLabel.text = _("At RAS {place} {unit}; {image}: {value}").format(
            place=place, unit=answer.length_unit, image=answer.image, value=value
        )
        rows = [
            (reading.title, reading.target_name, reading.value, _percentile(reading.percentile))
            for reading in answer.readings
        ]
        columns = (_("Map"), _("Class"), _("Value"), _("Percentile"))
        fill_table(self._ui.readingsTable, columns, rows)
        segments = ", ".join(answer.segments) or _("no segment")
        self._ui.segmentsLabel.text = _("In: {segments}").format(segments=segments)
        self._ui.segmentsLabel.visible = True

    def show_history(
        self, answers: Sequence[ClickAnswer], target_index: Callable[[Probe], int]
    ) -> None:
        """Shows a row for each click, with the removal that changed the class most."""
        rows = []
        for answer in answers:
            if answer.probe is None or not answer.removals:
                continue
            index = target_index(answer.probe)
            output, before = answer.probe.output, answer.probe.shown[index]
            most = max(answer.removals, key=lambda r: abs(r.shown(output)[index] - before))
            place = ", ".join(f"{coordinate:.0f}" for coordinate in answer.point)
            after = f"{number_text(most.shown(output)[index])} ({most.name})"
            rows.append((answer.number, place, answer.probe.classes[index], before, after))
        unit = joined(answer.length_unit for answer in answers)
        place_title = _("Place (RAS {unit})").format(unit=unit)
        columns = (_("Click"), place_title, _("Class"), _("Before"), _("After"))
        fill_table(self._ui.historyTable, columns, rows, most_rows=6)


def _percentile(value: float | None) -> str:
    # Rounded down: 100 % is the strongest voxel alone.
    return "" if value is None else f"{math.floor(value * 10) / 10:.1f} %"
