"""The panel's section "Study": the cases of a finished study, and one of them in the views."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from aiohttp import web
from trame.widgets import html
from trame_vuetify.widgets import vuetify3 as v

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.reading import to_image
from SaliencyExplain.images.segmentation import Segment, Segmentation
from SaliencyExplain.pictures.thumbnail import to_jpeg
from SaliencyExplain.records.study_rows import study_rows
from SaliencyExplain.scene.attributions import add_attribution
from SaliencyExplain.scene.kept_evaluations import keep_written
from SaliencyExplain.viewer import opened_images
from SaliencyExplain.viewer.part import Part
from SaliencyExplain.viewer.study_cases import METRICS, CaseData, StudyCases
from SaliencyExplain.viewer.widgets import button, section, select

_THUMBNAIL_WIDTH = 260


class StudyPart(Part):
    """Shows a study's cases as a table over the views, and opens one with a click."""

    prefix = "study"

    def __init__(self, viewer: Any) -> None:
        self.cases: StudyCases | None = None
        if viewer.settings.study is not None:
            self.cases = StudyCases(viewer.settings.study, viewer.settings.data)
        self._rows = study_rows(self.cases.journal) if self.cases else []
        self._unit = self.cases.journal.length_unit() if self.cases else "mm"
        figures = list(dict.fromkeys(key for row in self._rows for key in row.agreement))
        super().__init__(
            viewer,
            open=self.cases is not None,
            figures=figures,
            figure=figures[0] if figures else None,
            headers=[],
            rows=[],
            case="",
            notes=self.cases.journal.notes() if self.cases else [],
        )
        self._list(figures[0] if figures else None)
        self.on_change("figure", self._list)
        viewer.server.trigger("open_case")(self.open_case)

    def build(self) -> None:
        """The section's controls."""
        with section("Study", self):
            html.Div("{{ " + self.name("case") + " }}", classes="se-about")
            button("Cases", self.toggle, "The table of all cases. Key: T.", classes="se-cases")

    def build_table(self) -> None:
        """The table of the cases, over the views."""
        with html.Div(v_if=(self.name("open"),), classes="se-study-table"):
            with html.Div(classes="se-row"):
                html.Span(f"{len(self._rows)} cases", classes="se-subtitle se-study-title")
                select(
                    self.name("figure"),
                    (self.name("figures"),),
                    "Figures of",
                    "The map and segment whose metrics the table shows.",
                    v_if=(f"{self.name('figures')}.length",),
                    style="max-width: 420px",
                )
                button("Close", self.toggle, "Back to the views. Key: T.")
            html.Div("{{ note }}", v_for=f"note in {self.name('notes')}", classes="se-note")
            with (
                v.VDataTable(
                    headers=(self.name("headers"),),
                    items=(self.name("rows"),),
                    items_per_page=50,
                    density="compact",
                    hover=True,
                    fixed_header=True,
                    classes="se-study-rows",
                    raw_attrs=[
                        "@click:row=\"(event, row) => trigger('open_case', [row.item.number])\""
                    ],
                ),
                v.Template(raw_attrs=['v-slot:item.picture="{ item }"']),
            ):
                html.Img(
                    v_if="item.picture",
                    src=("item.picture",),
                    loading="lazy",
                    classes="se-thumbnail",
                )
                html.Span("{{ item.failed }}", v_else=True, classes="se-note")

    def toggle(self) -> None:
        """Shows the table, or the views."""
        if self.cases is not None:
            self.put(open=not self.get("open"))

    def open_case(self, number: int) -> None:
        """Opens a case with its maps as they were computed."""
        self.work(self._open(int(number)), "Opening …")

    async def thumbnail(self, request: web.Request) -> web.StreamResponse:
        """Answers with a small picture of a case's first map."""
        try:
            number = int(request.match_info["number"])
            path = self.cases.picture(number) if self.cases else None
        except (ValueError, InputError):
            path = None
        if path is None:
            return web.Response(status=404, text="There is no such picture.\n")
        jpeg = await self.viewer.runner.call(to_jpeg, path.read_bytes(), _THUMBNAIL_WIDTH)
        return web.Response(body=jpeg, content_type="image/jpeg")

    async def _open(self, number: int) -> None:
        if self.cases is None:
            raise InputError(
                ErrorCode.SELECTION, "No study is open: start the viewer with --study."
            )
        data: CaseData = await self.viewer.runner.call(self.cases.read, number)
        row = self._rows[number]
        self.viewer.close_images()
        opened = []
        for channel, values in data.channels.items():
            name = row.case if len(data.channels) == 1 else f"{row.case} {channel}"
            image = to_image(_flat(values)[None], data.affine, name=name)
            opened.append(
                opened_images.show(
                    self.viewer.scene, data.path, image, row.case, _channel(channel, self)
                )
            )
        self.viewer.volumes.add(opened)
        # All channels share a grid; maps lie over the one that the views show.
        image = self.viewer.shown or opened[0]
        nodes = [add_attribution(self.viewer.scene, map, image.node) for map in data.maps]
        for node in nodes:
            keep_written(node, self.cases.folder_of(number))
        if data.segments:
            segments = tuple(
                Segment(name, color, _flat(np.asarray(mask) != 0))
                for name, (color, mask) in data.segments.items()
            )
            found = Segmentation(segments, data.affine, ())
            node = opened_images.show_segments(self.viewer.scene, "ground truth", found)
            self.viewer.segmentation_opened(node)
        if nodes:
            self.viewer.display.show_map(nodes[0])
        self.viewer.maps_changed(nodes)
        words = f"{row.case}: predicted {row.predicted} ({row.probability:.2f})"
        if row.label:
            words += f", labelled {row.label}"
        self.put(open=False, case=words, notes=list(data.notes))

    def _list(self, figure: str | None) -> None:
        titles = {"picture": "", "case": "Case", "label": "Label", "predicted": "Predicted",
                  "right": "Right", "probability": "Probability"}  # fmt: skip
        if figure:
            titles |= {key: title.format(unit=self._unit) for key, title in METRICS.items()}
        rows = []
        for row in self._rows:
            shown: dict[str, Any] = dict.fromkeys(titles, "")
            shown |= {
                "number": row.number,
                "case": row.case,
                "failed": row.reason,
                "label": row.label,
                "predicted": row.predicted,
                "right": row.right,
                "probability": "" if row.probability is None else round(row.probability, 4),
                "picture": f"thumbnail/{row.number}.jpg" if row.explained else "",
            }
            if figure is not None and figure in row.agreement:
                for name in METRICS:
                    value = getattr(row.agreement[figure], name)
                    digits = 4 if abs(value) < 1 else 2
                    shown[name] = None if math.isnan(value) else round(value, digits)
            rows.append(shown)
        headers = [
            {"title": title, "key": key, "sortable": key != "picture"}
            for key, title in titles.items()
        ]
        self.put(headers=headers, rows=rows)


def _channel(name: str, part: StudyPart) -> str | None:
    known = part.cases.channels if part.cases else []
    return next((one for one in known if name == one or name.endswith(f" {one}")), None)


def _flat(values: Any) -> Any:
    """An image of two axes has one slice in the scene and none in the engine."""
    array = np.asarray(values)
    return array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array
