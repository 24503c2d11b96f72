"""The panel's section "Click to explain": what a spot contributes, and the clicks so far."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from trame.widgets import html

from SaliencyExplain.engine.client.click_history import ClickAnswer, History
from SaliencyExplain.engine.wire.requests import ProbeRequest
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.probe_result import Probe
from SaliencyExplain.scene.arrays import length_unit_of
from SaliencyExplain.scene.points import readings_at
from SaliencyExplain.scene.slice_layers import jump_to
from SaliencyExplain.viewer import opened_images, probe_tables
from SaliencyExplain.viewer.opened_images import Input
from SaliencyExplain.viewer.page_clicks import ClickWatcher, Point
from SaliencyExplain.viewer.page_plots import build_plot, probability_plot
from SaliencyExplain.viewer.page_words import place_text
from SaliencyExplain.viewer.part import Part
from SaliencyExplain.viewer.point_marker import PointMarker
from SaliencyExplain.viewer.widgets import button, section, select, text_field, tick
from SaliencyExplain.voxel_volume import Volume

#: Probes of one stream replace each other in the engine: the last click wins.
_STREAM = "viewer click"

#: A point can lie in many overlapping segments; each costs a probe.
_MOST_SEGMENTS = 4


class ProbePart(Part):
    """Answers what the clicked place contributes.

    Attributes:
        history: The answered clicks.
    """

    prefix = "probe"

    def __init__(self, viewer: Any) -> None:
        super().__init__(
            viewer,
            on=True,
            radii="4, 8, 16",
            fills=["mean"],
            fill="mean",
            whole=True,
            place="",
            asked=0,
            image_value="",
            inside="",
            columns=[],
            rows=[],
            plot={},
            readings=[],
            history=[],
        )
        self.history = History()
        self._marker = PointMarker(viewer.scene)
        self._now: ClickAnswer | None = None
        self._watcher = ClickWatcher(self.clicked)
        viewer.views.watch(self._watcher.watch)
        for key in ("radii", "fill", "whole"):
            self.on_change(key, lambda _: self._ask_again())

    def build(self) -> None:
        """The section's controls."""
        with section("Click to explain", self):
            tick(self.name("on"), "Click to explain",
                 "A click in any view shows what that place contributes. Key: E.")  # fmt: skip
            with html.Div(classes="se-two"):
                text_field(
                    self.name("radii"),
                    "Radii, mm",
                    "Radii of the balls that are removed, separated by commas.",
                )
                select(
                    self.name("fill"),
                    (self.name("fills"),),
                    "Replaced by",
                    "What replaces the removed voxels: the image's mean or minimum, or the mean "
                    "of these voxels.",
                )
            tick(
                self.name("whole"),
                "Also remove the whole segment at the point",
                "For each segment that contains the point: the probabilities without the whole "
                "segment.",
            )
            with html.Div(
                v_if=(self.name("place"),),
                classes="se-answer",
                raw_attrs=[f':data-asked="{self.name("asked")}"'],
            ):
                self._build_answer()
            with html.Div(v_if=(f"{self.name('history')}.length",)):
                self._build_history()

    def classifier_changed(self) -> None:
        """Another classifier: what was answered was said by the one before."""
        fills = [
            parameter["choices"]
            for method in self.viewer.methods
            if method["name"] == "occlusion"
            for parameter in method["parameters"]
            if parameter["name"] == "fill"
        ]
        # A constant needs a value, which makes sense in the network's own units only.
        offered = [name for name in (fills[0] if fills else ["mean"]) if name != "value"]
        kept = self.get("fill") if self.get("fill") in offered else offered[0]
        self.put(fills=offered, fill=kept)

    def input_changed(self) -> None:
        """What was answered was about another input."""
        self.drop()
        self._forget()

    def maps_changed(self) -> None:
        """There are other maps to be read at the place."""
        if self._now is not None and not self.busy:
            self._keep(self._read(self._now))

    def clicked(self, place: Point) -> None:
        """A click somewhere in a view."""
        if self.get("on"):
            self.guarded(lambda: self._ask(place))

    def undo(self) -> None:
        """Forgets the last click and shows the one before it."""
        self.drop()
        before = self.history.undo()
        self.put(error="", history=probe_tables.history_rows(self.history))
        if before is None:
            self._forget(keep_history=True)
        else:
            self._go_to(before)

    def clear(self) -> None:
        """Forgets all clicks."""
        self.drop()
        self.history.clear()
        self._forget()

    def back_to(self, number: int) -> None:
        """Shows an earlier click's place and answer again."""
        found = next((one for one in self.history.answers if one.number == number), None)
        if found is not None:
            self.drop()
            self._go_to(found)

    def radii(self) -> tuple[float, ...]:
        """The radii in millimetres.

        Raises:
            InputError: They are no positive numbers.
        """
        try:
            texts = str(self.get("radii")).replace(";", ",").split(",")
            radii = tuple(float(text) for text in texts if text.strip())
        except ValueError:
            radii = ()
        if not radii or not 0 < min(radii) <= max(radii) < 1e4:
            raise InputError(
                ErrorCode.VALUE_RANGE, "Radii are numbers above 0 in mm, such as 4, 8, 16."
            )
        return radii

    def _ask(self, place: Point) -> None:
        image = self.viewer.volumes.image()
        answer = self._read(
            ClickAnswer(self.history.number(), place, image.public_name if image else "")
        )
        self.drop()
        self._now = answer
        self._marker.show(place)
        jump_to(self.viewer.scene, place)
        self._show(answer)
        why = self.viewer.volumes.why_not_ready()
        if why:
            raise InputError(ErrorCode.SELECTION, why)
        self.radii()
        self.work(self._probe(answer), "Asking …")

    def _ask_again(self) -> None:
        if self._now is not None and self.get("on"):
            place = self._now.point
            self.guarded(lambda: self._ask(place))

    async def _probe(self, answer: ClickAnswer) -> None:
        read = await self.viewer.volumes.input()
        result = await self._asked(read, point_ras=answer.point, radii_mm=self.radii())
        answer = replace(answer, probe=result)
        self._keep(answer)
        if self.get("whole"):
            for name, mask in self._masks(read, answer):
                more = await self._asked(read, segment_name=name, mask=mask)
                answer = replace(answer, segment_removals=answer.segment_removals + more.removals)
                self._keep(answer)
        self.put(notes=list(result.notes))

    async def _asked(self, read: Input, mask: Volume | None = None, **place: Any) -> Probe:
        key, fill = self.viewer.opened_classifier().key, self.get("fill")
        found: Probe = await self.viewer.runner.job(
            lambda engine: ProbeRequest(
                key,
                engine.put(read.volume),
                segment=None if mask is None else engine.put(mask),
                fill=fill,
                stream=_STREAM,
                **place,
            ),
            started=self.started,
            progress=self.show_progress,
        )
        return found

    def _masks(self, read: Input, answer: ClickAnswer) -> list[tuple[str, Volume]]:
        """The segments that hold the point, on the input's grid."""
        node = self.viewer.segmentation
        if node is None or not answer.segments:
            return []
        found, names, _ = opened_images.segment_masks(node, read.image)
        masks = [
            (name, Volume(mask, found.affine))
            for name, mask in zip(names, found.values, strict=True)
            if name in answer.segments
        ]
        return masks[:_MOST_SEGMENTS]

    def _read(self, answer: ClickAnswer) -> ClickAnswer:
        """What image, maps and segments say of the place."""
        image = self.viewer.volumes.image()
        if image is None:
            raise InputError(ErrorCode.SELECTION, "Open an image first.")
        readings = readings_at(self.viewer.scene, image.node, answer.point)
        return replace(
            answer,
            image_value=readings.image_value,
            readings=readings.maps,
            segments=readings.segments,
            length_unit=length_unit_of(image.node),
        )

    def _keep(self, answer: ClickAnswer) -> None:
        if answer.probe is not None:
            self.history.keep(answer)
        self._now = answer
        self._show(answer)
        self.put(history=probe_tables.history_rows(self.history))

    def _go_to(self, answer: ClickAnswer) -> None:
        self._now = answer
        jump_to(self.viewer.scene, answer.point)
        self._show(answer)

    def _show(self, answer: ClickAnswer) -> None:
        columns, rows = probe_tables.answer_table(answer)
        self._marker.show(answer.point, probe_tables.short(answer))
        self.put(
            place=f"{place_text(answer.point)} {answer.length_unit}",
            asked=answer.number,
            inside=", ".join(answer.segments),
            image_value=probe_tables.value_text(answer.image_value),
            columns=columns,
            rows=rows,
            plot=probability_plot(answer),
            readings=probe_tables.reading_rows(answer),
        )

    def _forget(self, *, keep_history: bool = False) -> None:
        self._now = None
        self._marker.hide()
        if not keep_history:
            self.history.clear()
        self.put(place="", asked=0, columns=[], rows=[], plot={}, readings=[], notes=[], error="",
                 history=probe_tables.history_rows(self.history))  # fmt: skip

    def _build_answer(self) -> None:
        with html.Div(classes="se-facts"):
            html.Span("{{ " + self.name("place") + " }}", classes="se-fact")
            html.Span("image {{ " + self.name("image_value") + " }}",
                      v_if=(self.name("image_value"),), classes="se-fact")  # fmt: skip
            html.Span("in {{ " + self.name("inside") + " }}", v_if=(self.name("inside"),),
                      classes="se-fact")  # fmt: skip
        with html.Table(v_if=(f"{self.name('rows')}.length",), classes="se-table se-probe-table"):
            with html.Thead(), html.Tr():
                html.Th("Class")
                html.Th("{{ column }}", v_for=f"(column, c) in {self.name('columns')}", key="c")
            with html.Tbody(), html.Tr(v_for=f"row in {self.name('rows')}", key="row.name"):
                html.Td("{{ row.name }}")
                html.Td(
                    "{{ cell.text }}",
                    v_for="(cell, c) in row.cells",
                    key="c",
                    style=("{background: cell.color}",),
                )
        build_plot(self.name("plot"))
        with html.Table(v_if=(f"{self.name('readings')}.length",), classes="se-table se-readings"):
            with html.Thead(), html.Tr():
                for title in ("Map", "Class", "Value", "Percentile"):
                    html.Th(title)
            with html.Tbody(), html.Tr(v_for=f"(row, r) in {self.name('readings')}", key="r"):
                for cell in ("map", "target", "value", "percentile"):
                    html.Td("{{ row." + cell + " }}")

    def _build_history(self) -> None:
        with html.Div(classes="se-row se-history-head"):
            html.Span("History", classes="se-subtitle")
            button("Undo", self.undo, "Delete the last click. Key: Ctrl+Z.", classes="se-small")
            button("Clear", self.clear, "Delete the history.", classes="se-small")
            html.A("CSV", href="/clicks.csv", download="clicks.csv", classes="se-link")
        with (
            html.Table(classes="se-table se-history"),
            html.Tbody(),
            html.Tr(
                v_for=f"row in {self.name('history')}",
                key="row.number",
                click=(self.back_to, "[row.number]"),
            ),
        ):
            html.Td("{{ row.number }}")
            html.Td("{{ row.place }}")
            html.Td("{{ row.short }}")
