"""The panel's section "Display"."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from SaliencyExplain.errors import SaliencyExplainError
from SaliencyExplain.scene.attributions import (
    anatomy_of,
    attributions_of,
    is_attribution,
    set_threshold,
)
from SaliencyExplain.scene.band_segments import add_bands, bands_of
from SaliencyExplain.scene.kept_evaluations import answer_line
from SaliencyExplain.scene.names import ATTRIBUTION, KIND
from SaliencyExplain.scene.nodes import composite_nodes, given_segmentations
from SaliencyExplain.scene.rendering import show_surfaces, show_volume_rendering
from SaliencyExplain.scene.segmentations import outline
from SaliencyExplain.scene.slice_layers import link_views, set_opacity, show

from .Failures import Failure
from .Section import Section, allow


class DisplaySection(Section):
    """Says which map is shown, and how; all of it is kept in the parameter node."""

    prefix = "display"

    def __init__(self, panel: Any) -> None:
        super().__init__(panel)
        ui = self.ui
        ui.mapSelector.addAttribute("vtkMRMLScalarVolumeNode", KIND, ATTRIBUTION)
        ui.mapSelector.connect("currentNodeChanged(vtkMRMLNode*)", self._on_map)
        ui.opacitySlider.connect("valueChanged(double)", self._on_opacity)
        ui.thresholdSlider.connect("valueChanged(double)", self._on_threshold)
        ui.bandsCheckBox.connect("toggled(bool)", self._on_bands)
        ui.outlineCheckBox.connect("toggled(bool)", self._on_outline)
        ui.linkViewsCheckBox.connect("toggled(bool)", self._on_link)
        ui.volumeRenderingCheckBox.connect("toggled(bool)", self._on_rendering)
        ui.surfacesCheckBox.connect("toggled(bool)", self._on_surfaces)

    def show_map(self, node: Any) -> None:
        """Lays a map over its volume in all views."""
        if self.ui.mapSelector.currentNode() is node:
            self._apply(node)
        else:
            self.ui.mapSelector.setCurrentNode(node)

    def maps_changed(self, maps: list[Any]) -> None:
        """The values of maps have changed; bands follow the one that is shown."""
        node = self.ui.mapSelector.currentNode()
        shown = node is not None and any(node is other for other in maps)
        if shown and self.ui.bandsCheckBox.checked:
            self._guarded(lambda: self._show_layers(node))

    def refresh(self) -> None:
        """Brings its widgets in line with the state of the panel."""
        ui = self.ui
        node = ui.mapSelector.currentNode()
        no_map = (node is None, _("No map yet. Explain a volume first."))
        allow(ui.opacitySlider, _("How much the map covers the anatomy."), no_map)
        allow(
            ui.thresholdSlider,
            _("Share of the map's window below which it is not drawn."),
            no_map,
        )
        allow(
            ui.bandsCheckBox,
            _("The strongest 1, 5, 10 and 20 % instead of the heat."),
            no_map,
        )
        allow(ui.volumeRenderingCheckBox, _("Volume rendering of the map."), no_map)
        segmentation = self._segmentation()
        allow(
            ui.outlineCheckBox,
            _("Segments keep their colours and are drawn as outlines in the slices."),
            (
                not given_segmentations(self.panel.logic.scene),
                _("The scene has no segmentation."),
            ),
        )
        nothing = node is None and segmentation is None
        allow(
            ui.surfacesCheckBox,
            _("Surfaces of the bands and of the segmentation."),
            (nothing, _("There is neither a map nor a segmentation.")),
        )

    def evaluation_changed(self) -> None:
        """Updates the line below the map: another map is shown, or this one was evaluated."""
        node = self.ui.mapSelector.currentNode()
        self.ui.evaluationHintLabel.text = answer_line(node) if is_attribution(node) else ""
        self.ui.evaluationHintLabel.visible = is_attribution(node)

    def segmentation_changed(self) -> None:
        """Another segmentation was chosen: it is drawn as the others were."""
        self._guarded(self._outline_segmentations)

    def _apply(self, node: Any) -> None:
        """Brings the views in line with all controls."""
        if not is_attribution(node):
            return
        ui = self.ui

        def work() -> None:
            set_threshold(node, ui.thresholdSlider.value)
            self._show_layers(node)
            # A filled segment over the heat would mix with its colours.
            self._outline_segmentations()
            if ui.volumeRenderingCheckBox.checked:
                show_volume_rendering(node, True)

        self._guarded(work)

    def _show_layers(self, node: Any) -> None:
        """Heat over the anatomy, or in its place the bands: both together cannot be read."""
        scene, on = self.panel.logic.scene, self.ui.bandsCheckBox.checked
        opacity = self.ui.opacitySlider.value
        label_map = None
        for other in attributions_of(scene):
            if bands_of(scene, other) is not None and not (on and other is node):
                bands_of(scene, other).segmentation.GetDisplayNode().SetVisibility(False)
        if on:
            bands = add_bands(scene, node)
            label_map = bands.label_map
            if self.ui.surfacesCheckBox.checked:
                show_surfaces(bands.segmentation, True)
        show(scene, anatomy_of(node), None if on else node, opacity=opacity, label_map=label_map)
        for composite in composite_nodes(scene):
            composite.SetLabelOpacity(opacity)

    def _segmentation(self) -> Any:
        node = self.ui.segmentationSelector.currentNode()
        return node if node is not None and node.IsA("vtkMRMLSegmentationNode") else None

    def _on_map(self, node: Any = None) -> None:
        if node is not None:
            self._apply(node)
            if self.panel.sections is not None:
                self.panel.sections.evaluation.show_map(node)
        self.evaluation_changed()
        self.panel.refresh()

    def _on_opacity(self, value: float) -> None:
        if self.ui.mapSelector.currentNode() is not None:
            set_opacity(self.panel.logic.scene, value)
            for composite in composite_nodes(self.panel.logic.scene):
                composite.SetLabelOpacity(value)

    def _on_threshold(self, value: float) -> None:
        node = self.ui.mapSelector.currentNode()
        if node is not None:
            self._guarded(lambda: set_threshold(node, value))

    def _on_bands(self, _on: bool) -> None:
        node = self.ui.mapSelector.currentNode()
        if node is not None:
            self._guarded(lambda: self._show_layers(node))

    def _on_outline(self, _on: bool) -> None:
        self._guarded(self._outline_segmentations)

    def _outline_segmentations(self) -> None:
        for node in given_segmentations(self.panel.logic.scene):
            outline(node, self.ui.outlineCheckBox.checked)

    def _on_link(self, on: bool) -> None:
        link_views(self.panel.logic.scene, on)

    def _on_rendering(self, on: bool) -> None:
        node = self.ui.mapSelector.currentNode()
        if node is not None:
            self._guarded(lambda: show_volume_rendering(node, on))

    def _on_surfaces(self, on: bool) -> None:
        segmentation, node = self._segmentation(), self.ui.mapSelector.currentNode()
        if segmentation is not None:
            self._guarded(lambda: show_surfaces(segmentation, on))
        if node is not None and self.ui.bandsCheckBox.checked:
            bands = bands_of(self.panel.logic.scene, node)
            if bands is not None:
                self._guarded(lambda: show_surfaces(bands.segmentation, on))

    def _guarded(self, work: Callable[[], Any]) -> None:
        self.clear_message()
        try:
            work()
        except SaliencyExplainError as error:
            self.say(str(error), Failure.of(error).details)
