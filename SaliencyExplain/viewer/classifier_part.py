"""The panel's section "Classifier"."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trame.widgets import html

from SaliencyExplain.demo.study import shipped_classifiers
from SaliencyExplain.engine.interface import ClassifierInfo
from SaliencyExplain.viewer.part import Part
from SaliencyExplain.viewer.widgets import section, select


class ClassifierPart(Part):
    """Opens classifiers: those that were named, and those that come with the project."""

    prefix = "classifier"

    def __init__(self, viewer: Any) -> None:
        super().__init__(viewer, items=[], chosen=None, about="")
        self._paths: list[Path] = list(shipped_classifiers().values())
        self._list()
        self.on_change("chosen", self._choose)

    def build(self) -> None:
        """The section's controls."""
        with section("Classifier", self):
            select(
                self.name("chosen"),
                (self.name("items"),),
                "Classifier",
                "The classifier that is explained: recent ones, and those that come with the "
                "program.",
            )
            html.Div(
                "{{ " + self.name("about") + " }}", v_if=(self.name("about"),), classes="se-about"
            )

    def open(self, path: Path) -> None:
        """Opens a classifier's file or folder and offers it from now on."""
        path = path.absolute()
        if path not in self._paths:
            self._paths.insert(0, path)
            self._list()
        self.put(chosen=str(path))

    def _choose(self, chosen: str | None) -> None:
        # What the page says is not trusted: only what was offered is opened.
        if chosen is not None and chosen in map(str, self._paths):
            self.put(about="")
            self.work(self._open(chosen), "Opening …")

    async def _open(self, path: str) -> None:
        viewer = self.viewer
        viewer.set_classifier(None, [])
        info: ClassifierInfo = await viewer.runner.call(
            lambda: viewer.runner.engine.open_classifier(path, trust=viewer.settings.trust)
        )
        methods = await viewer.runner.call(viewer.runner.engine.methods)
        size = " × ".join(map(str, info.input_size)) if info.input_size else "any size"
        self.put(
            about=f"{info.spatial_dims}D · classes: {', '.join(info.classes)} · channels: "
            f"{', '.join(info.channels)} · input: {size} · {info.format}",
            notes=list(info.notes),
        )
        viewer.set_classifier(info, methods)

    def _list(self) -> None:
        self.put(items=[{"title": path.name, "value": str(path)} for path in self._paths])
