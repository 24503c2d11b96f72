"""The page: the panel beside the views."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trame.widgets import html
from trame_vuetify.ui.vuetify3 import VAppLayout
from trame_vuetify.widgets import vuetify3 as v

from SaliencyExplain.viewer.shortcuts import build_help
from SaliencyExplain.viewer.widgets import error_line, icon_button

if TYPE_CHECKING:
    from SaliencyExplain.viewer.viewer import Viewer

_FILES = Path(__file__).with_name("page")

_THEME = {
    "theme": {
        "defaultTheme": "calm",
        "themes": {
            "calm": {
                "dark": True,
                "colors": {
                    "background": "#14161a",
                    "surface": "#1c1f25",
                    "primary": "#8fb4e8",
                    "secondary": "#9aa5b5",
                    "error": "#f0a0a0",
                    "warning": "#e8c37a",
                },
            }
        },
    }
}


def build(viewer: Viewer) -> None:
    """Builds the page of a viewer."""
    server = viewer.server
    server.enable_module(
        {
            "serve": {"__saliency": str(_FILES)},
            "scripts": ["__saliency/viewer.js"],
            "styles": ["__saliency/viewer.css"],
        }
    )
    server.state.trame__title = "Saliency Explain"
    server.state.trame__template_error_reconnect = (_FILES / "lost.html").read_text("utf-8")
    opened = ["classifier", "volumes", "explain", "probe", "display"]
    if not viewer.settings.images:
        opened.append("study" if viewer.settings.study else "open")
    with VAppLayout(server, vuetify_config=_THEME) as layout, html.Div(classes="se-page"):
        with html.Div(classes="se-panel"):
            _build_head()
            error_line("page_error", "page_details")
            html.Div(
                "This viewer is open in {{ pages }} pages. They share one scene: a change in one "
                "appears in the others, and the views have the size of the page that changed "
                "last.",
                v_if=("pages > 1",),
                classes="se-note se-shared",
            )
            with v.VExpansionPanels(
                v_model=("open_sections", opened), multiple=True, variant="accordion", static=True
            ):
                for part in viewer.parts:
                    part.build()
        with html.Div(classes="se-views"):
            viewer.views.build(layout)
            viewer.study.build_table()
        build_help()
        html.Div("Drop images, a segmentation or a classifier", classes="se-drop")


def _build_head() -> None:
    with html.Div(classes="se-head"):
        html.Span("Saliency Explain", classes="se-title")
        for icon, tip, name in (
            ("mdi-camera-outline", "Save the views as a picture", "screenshot.png"),
            ("mdi-cube-scan", "Save the scene for 3D Slicer (MRB)", "scene.mrb"),
        ):
            icon_button(icon, tip, f'href="/{name}" download="{name}"')
        icon_button(
            "mdi-keyboard-outline", "Keyboard shortcuts. Key: ?", click="help_open = !help_open"
        )
