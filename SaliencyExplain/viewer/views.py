"""The slice views and the 3D view of the page, their letters and their layouts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from trame.widgets import html
from trame_server import Server
from trame_slicer.app.logic.slice_view_logic import connect_slice_view_slider_to_state
from trame_slicer.core import LayoutManager, SlicerApp
from trame_slicer.rca_view import register_rca_factories
from trame_slicer.views import Layout, LayoutDirection, SliceView, ViewLayoutDefinition
from trame_vuetify.widgets.vuetify3 import VSlider
from vtkmodules.vtkCommonCore import vtkCommand, vtkLogger, vtkOutputWindow

from SaliencyExplain.scene.arrays import length_unit_of
from SaliencyExplain.scene.cameras import look_at
from SaliencyExplain.scene.nodes import nodes_of, register_classes
from SaliencyExplain.scene.segmentations import register_conversions
from SaliencyExplain.scene.slice_layers import fit
from SaliencyExplain.viewer.linking import link

#: Layouts by their name in the page's state.
FOUR_UP, SIDE_BY_SIDE = "four-up", "side-by-side"

#: Names of the slice views in Slicer's own order, and of those of a second map beside them.
FIRST = ("Red", "Green", "Yellow")
SECOND = ("SecondRed", "SecondGreen", "SecondYellow")
THREE_D = "ThreeD"

_ARRANGED = {
    FOUR_UP: (("Red", THREE_D), ("Green", "Yellow")),
    SIDE_BY_SIDE: (FIRST, SECOND),
}

_ORIENTATIONS = {"Red": "axial", "Green": "coronal", "Yellow": "sagittal"}
_COLORS = {"Red": "#f34a33", "Green": "#6dad4a", "Yellow": "#efd64d"}
_BACKGROUND_3D = ("#1c1f26", "#2b303a")

#: Seen along an axis two of the three slices are lines.
_AZIMUTH_DEGREES, _ELEVATION_DEGREES = 30.0, 20.0

_POSITIVE, _NEGATIVE = "RAS", "LPI"


class Views:
    """The views over one MRML scene.

    Attributes:
        application: trame-slicer's container of scene and logics.
        scene: The MRML scene.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self.application = SlicerApp()
        self.scene = self.application.scene
        # The framework's own views observe what VTK 9.6 warns of, at every resize.
        vtkOutputWindow.GetInstance().SetDisplayModeToNever()
        vtkLogger.SetStderrVerbosity(vtkLogger.VERBOSITY_ERROR)
        register_classes(self.scene)
        register_conversions()
        register_rca_factories(
            self.application.view_manager,
            server,
            slice_view_ui_f=_slice_frame,
            three_d_view_ui_f=_three_d_frame,
            blur_fps=20.0,
            interactive_quality=75,
        )
        for node in nodes_of(self.scene, "vtkMRMLSegmentEditorNode"):
            # The framework's own; Slicer makes one where it is wanted.
            node.SaveWithSceneOff()
        self._layouts = LayoutManager(self.scene, self.application.view_manager, server)
        self._layouts.register_layout_dict(_layouts(), lazy_initialization=True)
        self._prepared: set[str] = set()
        self._image: Any = None
        self._watchers: list[Callable[[str, Any], None]] = []
        # Views that are made while the page is built would become a part of it by themselves.
        self.set_layout(FOUR_UP)

    def build(self, page: Any) -> None:
        """Puts the views into the page, where this is called."""
        self._layouts.initialize_layout_grid(page)

    def set_layout(self, name: str) -> None:
        """Changes to a layout; views that it needs are made."""
        self._layouts.create_layout_views_if_needed(name)
        for tag in (*FIRST, *SECOND, THREE_D):
            view = self.application.view_manager.get_view(tag)
            if view is not None and tag not in self._prepared:
                self._prepared.add(tag)
                self._prepare(tag, view)
        self._layouts.set_layout(name)

    def watch(self, watcher: Callable[[str, Any], None]) -> None:
        """Calls a function with the name of each view and the view, now and when one is made."""
        self._watchers.append(watcher)
        for tag in sorted(self._prepared):
            watcher(tag, self.application.view_manager.get_view(tag))

    def slice_views(self) -> dict[str, SliceView]:
        """The slice views that exist, by name."""
        found = {tag: self.application.view_manager.get_view(tag) for tag in (*FIRST, *SECOND)}
        return {tag: view for tag, view in found.items() if view is not None}

    def three_d(self) -> Any:
        """The 3D view."""
        return self.application.view_manager.get_view(THREE_D)

    def show_whole(self, image: Any) -> None:
        """Fits all slice views to an image, and again whenever their size changes."""
        self._image = image
        for view in self.slice_views().values():
            fit(view.get_view_node(), image)
        # For 3D Slicer, which opens the saved scene; the page's own view has its own camera.
        look_at(self.scene, image)
        self._look_at_all()

    def _look_at_all(self) -> None:
        """Looks at what is in 3D from the front, a little from the patient's left and above."""
        view = self.three_d()
        view.reset_view()
        camera = view.renderer().GetActiveCamera()
        camera.Azimuth(_AZIMUTH_DEGREES)
        camera.Elevation(_ELEVATION_DEGREES)
        camera.OrthogonalizeViewUp()
        view.renderer().ResetCamera()
        view.schedule_render()

    def arranged(self) -> list[list[Any]]:
        """The views of the layout, in rows from left to right."""
        find = self.application.view_manager.get_view
        return [[find(tag) for tag in row] for row in _ARRANGED[self._layouts.layout_id]]

    def render(self) -> None:
        """Draws all views anew."""
        for view in self.application.view_manager.get_views():
            view.schedule_render()

    def _prepare(self, tag: str, view: Any) -> None:
        # With several samples for a pixel translucent surfaces vanish in Mesa.
        view.render_window().SetMultiSamples(0)
        if isinstance(view, SliceView):
            # After the view's own observer, which tells its node the size.
            view.interactor().AddObserver(
                vtkCommand.WindowResizeEvent, lambda *_: self._resized(view), -1.0
            )
            view.modified.connect(self._show_letters)
            self._show_letters(view)
            if tag in SECOND:
                first = self.application.view_manager.get_view(tag.removeprefix("Second"))
                link(first.get_view_node(), view.get_view_node())
        for watcher in self._watchers:
            watcher(tag, view)

    def _resized(self, view: SliceView) -> None:
        if self._image is not None and self.scene.IsNodePresent(self._image):
            node = view.get_view_node()
            offset = node.GetSliceOffset()
            fit(node, self._image)
            node.SetSliceOffset(offset)

    def _show_letters(self, view: SliceView) -> None:
        matrix = view.get_view_node().GetSliceToRAS()
        axes = np.array([[matrix.GetElement(r, c) for c in range(3)] for r in range(3)])
        offset = view.get_slice_value()
        shown = self._image is not None and self.scene.IsNodePresent(self._image)
        unit = length_unit_of(self._image) if shown else "mm"
        with self._server.state as state:
            state[_letters(view.get_singleton_tag())] = {
                "right": direction(axes[:, 0]),
                "left": direction(-axes[:, 0]),
                "top": direction(axes[:, 1]),
                "bottom": direction(-axes[:, 1]),
                "where": f"{direction(axes[:, 2] * (offset or 1.0))} {abs(offset):.1f} {unit}",
            }


def direction(vector: np.ndarray) -> str:
    """Letters of the patient's side that a vector, RAS, points to: the strongest first.

    Args:
        vector: (3,), of any length but 0.

    Returns:
        One letter of R, L, A, P, S, I; a second and third one where the vector leans to
        another side by more than a quarter.
    """
    parts = vector / np.linalg.norm(vector)
    order = np.argsort(-np.abs(parts), kind="stable")
    letters = [
        (_POSITIVE if parts[axis] > 0 else _NEGATIVE)[axis]
        for axis in order
        if abs(parts[axis]) > 0.25
    ]
    return "".join(letters)


def _letters(tag: str) -> str:
    return f"letters_{tag}"


def _layouts() -> dict[str, Layout]:
    def view(tag: str) -> ViewLayoutDefinition:
        if tag == THREE_D:
            return ViewLayoutDefinition.threed_view(background_color=_BACKGROUND_3D)
        first = tag.removeprefix("Second")
        return ViewLayoutDefinition.slice_view(
            _ORIENTATIONS[first].capitalize(), label=tag, color=_COLORS[first]
        )

    return {
        name: Layout(
            LayoutDirection.Vertical,
            [Layout(LayoutDirection.Horizontal, [view(tag) for tag in row]) for row in rows],
        )
        for name, rows in _ARRANGED.items()
    }


def _slice_frame(server: Server, view_id: str, view: SliceView) -> None:
    """What stands over a slice view: its name and place, the patient's sides, a slider."""
    tag = view.get_singleton_tag()
    letters, color = _letters(tag), _COLORS[tag.removeprefix("Second")]
    server.state.setdefault(
        letters, {"left": "", "right": "", "top": "", "bottom": "", "where": ""}
    )
    name = _ORIENTATIONS[tag.removeprefix("Second")].capitalize()
    with html.Div(classes="se-name", style=f"border-left-color: {color}"):
        html.Span(name)
        html.Span("{{ " + letters + ".where }}", classes="se-where")
    for side in ("left", "right", "top", "bottom"):
        html.Div("{{ " + f"{letters}.{side}" + " }}", classes=f"se-letter se-{side}")
    if tag in SECOND:
        html.Div("{{ display_second_title }}", classes="se-shown")
    elif tag == FIRST[0]:
        html.Div("{{ display_shown_title }}", classes="se-shown")
    slider = connect_slice_view_slider_to_state(server, view)
    with html.Div(classes="se-slider"):
        VSlider(
            v_model=(slider.name.value,),
            min=(slider.name.min_value,),
            max=(slider.name.max_value,),
            step=(slider.name.step,),
            hide_details=True,
            density="compact",
            thumb_size=12,
            track_size=2,
            color=color,
            aria_label=f"{name} slice",
        )


def _three_d_frame(server: Server, view_id: str, view: Any) -> None:
    with html.Div(classes="se-name", style="border-left-color: #7388b8"):
        html.Span("3D")
