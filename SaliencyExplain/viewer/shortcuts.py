"""The keys of the page."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from trame.widgets import html

if TYPE_CHECKING:
    from SaliencyExplain.viewer.viewer import Viewer

#: What is told of each key; the numbers choose maps.
KEYS = {
    "P": "Predict",
    "X": "Explain with the chosen methods",
    "E": "Click to explain, on and off",
    "Ctrl+Z": "Undo the last click",
    "1 … 9": "The first, second … map",
    "B": "Bands or heat",
    "O": "Outline of the segments",
    "D": "Two maps side by side",
    "C": "Compare with the segments",
    "T": "The study's table",
    "Esc": "Stop what runs",
    "?": "This list",
}

_MOUSE = {
    "Wheel": "Next slice",
    "Right drag": "Zoom",
    "Middle drag": "Move the image",
    "Shift + move": "Other views follow",
}


class Shortcuts:
    """Does what a key stands for."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        explain, probe, compare = viewer.explain, viewer.probe, viewer.compare
        self._actions: dict[str, Callable[[], None]] = {
            "p": lambda: None if viewer.volumes.why_not_ready() else viewer.volumes.predict(),
            "x": lambda: None if explain.get("why") or explain.busy else explain.apply(),
            "e": lambda: probe.put(on=not probe.get("on")),
            "ctrl+z": probe.undo,
            "b": lambda: self._flip("bands"),
            "o": lambda: self._flip("outline"),
            "d": lambda: self._flip("beside"),
            "c": lambda: None if compare.get("why") or compare.busy else compare.compare(),
            "t": viewer.study.toggle,
            "escape": self._stop,
            "?": self._help,
        }
        viewer.server.trigger("key")(self.press)
        viewer.state.help_open = False

    def press(self, key: str) -> None:
        """Does what a key stands for; nothing where it stands for nothing."""
        action = self._actions.get(key)
        if action is not None:
            action()
        elif key.isdigit() and key != "0":
            maps = self._viewer.display.get("maps")
            if int(key) <= len(maps):
                self._viewer.display.put(map=maps[int(key) - 1]["value"])

    def _flip(self, name: str) -> None:
        display = self._viewer.display
        maps = len(display.get("maps"))
        if maps > (1 if name == "beside" else 0) or name == "outline":
            display.put(**{name: not display.get(name)})

    def _stop(self) -> None:
        self._viewer.state.help_open = False
        for part in self._viewer.parts:
            if part.busy:
                part.cancel()

    def _help(self) -> None:
        self._viewer.state.help_open = not self._viewer.state.help_open


def build_help() -> None:
    """The list of keys, over the page."""
    with (
        html.Div(v_if=("help_open", False), classes="se-help", click="help_open = false"),
        html.Div(classes="se-help-box"),
    ):
        for title, rows in (("Keys", KEYS), ("Mouse in the slice views", _MOUSE)):
            html.Div(title, classes="se-subtitle")
            for key, words in rows.items():
                with html.Div(classes="se-help-row"):
                    html.Span(key, classes="se-key")
                    html.Span(words)
