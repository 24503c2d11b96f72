"""The panel's section "Display": which map is shown, and how."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from trame.widgets import html

from SaliencyExplain.bands import BANDS
from SaliencyExplain.colormaps import THRESHOLD, color_table
from SaliencyExplain.peak import find_peak
from SaliencyExplain.scene import names
from SaliencyExplain.scene.attributions import (
    anatomy_of,
    attributions_of,
    is_signed,
    read_attribution,
    set_threshold,
    window_of,
)
from SaliencyExplain.scene.band_segments import add_bands, bands_of
from SaliencyExplain.scene.nodes import composite_nodes
from SaliencyExplain.scene.rendering import show_surfaces, show_volume_rendering
from SaliencyExplain.scene.segmentations import outline
from SaliencyExplain.scene.slice_layers import OPACITY, jump_to, show
from SaliencyExplain.viewer.page_words import number_text
from SaliencyExplain.viewer.part import Part
from SaliencyExplain.viewer.views import FOUR_UP, SECOND, SIDE_BY_SIDE
from SaliencyExplain.viewer.widgets import section, select, slider, tick

_STOPS = 16


class DisplayPart(Part):
    """Brings the views in line with its controls."""

    prefix = "display"

    def __init__(self, viewer: Any) -> None:
        super().__init__(
            viewer,
            maps=[],
            map=None,
            second=None,
            opacity=OPACITY,
            threshold=THRESHOLD,
            bands=False,
            outline=True,
            surfaces=True,
            cloud=False,
            slices=True,
            beside=False,
            segments=False,
            legend={},
            shown_title="",
            second_title="",
        )
        for key in ("map", "second", "bands"):
            self.on_change(key, lambda _: self.apply())
        self.on_change("opacity", lambda _: self._set_opacity())
        self.on_change("threshold", lambda _: self._set_threshold())
        self.on_change("outline", lambda _: self._show_segments())
        self.on_change("surfaces", lambda _: self._show_surfaces())
        self.on_change("cloud", lambda _: self._show_cloud())
        self.on_change("slices", lambda _: self._show_slices())
        self.on_change("beside", self._set_beside)

    def build(self) -> None:
        """The section's controls."""
        maps, no_map = self.name("maps"), f"!{self.name('map')}"
        with section("Display", self):
            select(self.name("map"), (maps,), "Map", "The map in the views.",
                   no_data_text="No map yet: explain a volume first.")  # fmt: skip
            self.viewer.evaluation.build_line()
            with html.Div(v_if=(f"{self.name('legend')}.colors",), classes="se-legend"):
                html.Div(
                    classes="se-legend-bar",
                    style=("{background: " + self.name("legend") + ".colors}",),
                )
                with html.Div(classes="se-legend-words"):
                    html.Span("{{ " + self.name("legend") + ".low }}")
                    html.Span("{{ " + self.name("legend") + ".high }}")
            with html.Div(
                v_for=f"band in {self.name('legend')}.bands", key="band.name", classes="se-band"
            ):
                html.Span(classes="se-swatch", style=("{background: band.color}",))
                html.Span("{{ band.name }}")
            slider(self.name("opacity"), "Opacity", "How much the map covers the anatomy.",
                   disabled=(no_map,))  # fmt: skip
            slider(
                self.name("threshold"),
                "Threshold",
                "Share of the map's colour window below which it is not drawn.",
                disabled=(no_map,),
            )
            with html.Div(classes="se-ticks"):
                tick(self.name("bands"), "Bands", "The strongest 1, 5, 10 and 20 % of the voxels "
                     "as a label map, instead of the heat.", disabled=(no_map,))  # fmt: skip
                tick(self.name("beside"), "Side by side", "A second map beside the first, in views "
                     "that move together.", disabled=(f"{maps}.length < 2",))  # fmt: skip
                tick(self.name("outline"), "Outline", "Segments are drawn as outlines in the "
                     "slices.", disabled=(f"!{self.name('segments')}",))  # fmt: skip
                tick(self.name("surfaces"), "Surfaces in 3D", "Surfaces of the segments, and of "
                     "the bands where they are shown.")  # fmt: skip
                tick(self.name("cloud"), "Map in 3D", "Volume rendering of the map.",
                     disabled=(no_map,))  # fmt: skip
                tick(self.name("slices"), "Slices in 3D", "The three slices in the 3D view.")
            select(
                self.name("second"),
                (maps,),
                "Second map",
                "The map in the lower views.",
                v_if=(self.name("beside"),),
            )

    def shown(self) -> Any:
        """The map in the views; None: none."""
        return self._node("map")

    def image_shown(self) -> None:
        """Another image is in the views: its maps are offered."""
        self.put(map=None, second=None, beside=False)
        self.maps_changed([])
        self.viewer.evaluation.changed()
        self._show_slices()

    def segments_changed(self) -> None:
        """A segmentation has come or gone."""
        self.put(segments=self.viewer.segmentation is not None)
        self._show_segments()
        self._show_surfaces()

    def show_map(self, node: Any) -> None:
        """Lays a map over its image in all views, and goes to its strongest place."""
        self._list()
        self.put(map=node.GetID(), error="")
        jump_to(self.viewer.scene, peak_of(node))

    def maps_changed(self, changed: Sequence[Any]) -> None:
        """Maps have come, or grown finer: bands and titles follow the one that is shown."""
        self._list()
        node = self.shown()
        if node is not None and node in changed:
            if self.get("bands"):
                add_bands(self.viewer.scene, node)
            self._describe(node)
            if self.get("cloud"):
                show_volume_rendering(node, True)

    def apply(self) -> None:
        """Brings the slice views in line with all controls."""
        viewer, node = self.viewer, self.shown()
        image = viewer.shown
        if image is None:
            return
        self._hide_others(node)
        viewer.evaluation.changed()
        if node is None:
            show(viewer.scene, image.node)
            self.put(legend={}, shown_title="", second_title="")
            return
        set_threshold(node, self.get("threshold"))
        bands = self.get("bands")
        show(
            viewer.scene,
            anatomy_of(node),
            None if bands else node,
            opacity=self.get("opacity"),
            label_map=add_bands(viewer.scene, node).label_map if bands else None,
        )
        self._show_second(bands)
        self._set_opacity()
        self._show_surfaces()
        self._show_cloud()
        self._describe(node)

    def _show_second(self, bands: bool) -> None:
        second = self._node("second") if self.get("beside") else None
        if second is None:
            self.put(second_title="")
            return
        set_threshold(second, self.get("threshold"))
        label_map = add_bands(self.viewer.scene, second).label_map if bands else None
        for composite in composite_nodes(self.viewer.scene):
            if composite.GetLayoutName() in SECOND:
                composite.SetForegroundVolumeID(None if bands else second.GetID())
                composite.SetLabelVolumeID(label_map.GetID() if label_map else None)
        self.put(second_title=title_of(second))

    def _set_beside(self, on: bool) -> None:
        if self.viewer.shown is None:
            return
        if on and self._node("second") is None:
            others = [row["value"] for row in self.get("maps") if row["value"] != self.get("map")]
            self.put(second=others[0] if others else None)
        self.viewer.views.set_layout(SIDE_BY_SIDE if on else FOUR_UP)
        for composite in composite_nodes(self.viewer.scene):
            # Views that show another image than before would be moved to its middle.
            composite.SetBackgroundVolumeID(self.viewer.shown.node.GetID())
        self.apply()

    def _set_opacity(self) -> None:
        for composite in composite_nodes(self.viewer.scene):
            composite.SetForegroundOpacity(self.get("opacity"))
            composite.SetLabelOpacity(self.get("opacity"))
        # A layer that vanishes altogether is no event for the views.
        self.viewer.views.render()

    def _set_threshold(self) -> None:
        for node in (self.shown(), self._node("second") if self.get("beside") else None):
            if node is not None:
                set_threshold(node, self.get("threshold"))
        if self.get("cloud"):
            self._show_cloud()

    def _show_segments(self) -> None:
        if self.viewer.segmentation is not None:
            outline(self.viewer.segmentation, self.get("outline"))

    def _show_surfaces(self) -> None:
        on, node = self.get("surfaces"), self.shown()
        if self.viewer.segmentation is not None:
            show_surfaces(self.viewer.segmentation, on)
        bands = bands_of(self.viewer.scene, node) if node is not None else None
        if bands is not None:
            show_surfaces(bands.segmentation, on and self.get("bands"))
        self.viewer.views.render()

    def _show_cloud(self) -> None:
        if self.shown() is not None:
            show_volume_rendering(self.shown(), self.get("cloud"))

    def _show_slices(self) -> None:
        for tag, view in self.viewer.views.slice_views().items():
            view.set_visible_in_3d(bool(self.get("slices")) and tag not in SECOND)

    def _hide_others(self, node: Any) -> None:
        """Hides what other maps show in 3D."""
        for other in attributions_of(self.viewer.scene):
            if other is not node:
                show_volume_rendering(other, False)
                bands = bands_of(self.viewer.scene, other)
                if bands is not None:
                    show_surfaces(bands.segmentation, False)

    def _node(self, key: str) -> Any:
        found = self.get(key)
        return self.viewer.scene.GetNodeByID(found) if found else None

    def _list(self) -> None:
        image = self.viewer.shown
        nodes = attributions_of(self.viewer.scene, image.node) if image is not None else []
        self.put(maps=[{"title": title_of(node), "value": node.GetID()} for node in nodes])

    def _describe(self, node: Any) -> None:
        end, signed = number_text(window_of(node)), is_signed(node)
        if self.get("bands"):
            bands = [band for band in BANDS if signed or band.sign > 0]
            legend: dict[str, Any] = {
                "bands": [{"name": one.name, "color": _rgb(one.color)} for one in bands]
            }
        else:
            table = color_table(signed)
            picked = np.linspace(0, len(table) - 1, _STOPS).round().astype(int)
            legend = {
                "colors": f"linear-gradient(to right, {', '.join(_rgb(table[n]) for n in picked)})",
                "low": f"-{end}: against the class" if signed else "0",
                "high": f"{end}: for the class" if signed else end,
            }
        self.put(legend=legend, shown_title=title_of(node))


def peak_of(node: Any) -> tuple[float, float, float]:
    """The place of a map's peak, RAS mm."""
    map = read_attribution(node)
    peak = find_peak(map.values, map.signed, map.affine, map.resolution_mm)
    ras = map.affine @ [*peak.index, *(0,) * (3 - map.values.ndim), 1.0]
    return (float(ras[0]), float(ras[1]), float(ras[2]))


def title_of(node: Any) -> str:
    """How a map is called on the page, and how far it has grown."""
    share = float(node.GetAttribute(names.SHARE_DONE))
    return node.GetName() if share >= 1 else f"{node.GetName()} ({share:.0%} computed)"


def _rgb(color: Sequence[float]) -> str:
    return f"rgb({', '.join(str(round(255 * part)) for part in color)})"
