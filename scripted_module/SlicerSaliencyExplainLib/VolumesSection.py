"""The panel's section "Volumes": a selector for each channel, and the prediction."""

from __future__ import annotations

from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from SaliencyExplain.engine.client.channel_names import guess_channels
from SaliencyExplain.results.class_prediction import Prediction

from .Section import Section, allow, replace_content
from .Tables import Bar, fill_table, number_text

_TYPES = ["vtkMRMLScalarVolumeNode", "vtkMRMLVectorVolumeNode"]


class VolumesSection(Section):
    """Assigns volumes to channels, and requests the class probabilities."""

    prefix = "volumes"

    def __init__(self, panel: Any) -> None:
        super().__init__(panel)
        self._channels: tuple[str, ...] = ()
        self._selectors: list[Any] = []
        self._writing = False
        self.ui.predictButton.connect("clicked(bool)", self._on_predict)
        self._build((_("Volume"),))

    def nodes(self) -> list[Any]:
        """The volume node of each channel; None where none is chosen."""
        return [selector.currentNode() for selector in self._selectors]

    def why_not_ready(self) -> str:
        """Why nothing can be asked about the volumes, in words; empty: it can."""
        if self.panel.logic.engine is None:
            return _("Start or connect an engine.")
        if self.panel.logic.classifier is None:
            return _("Open a classifier.")
        for channel, node in zip(self._channels, self.nodes(), strict=True):
            if node is None:
                return _("Choose a volume for {channel}.").format(channel=channel)
        return ""

    def classifier_changed(self) -> None:
        """The classifier is another one: it may want other channels."""
        classifier = self.panel.logic.classifier
        if classifier is not None and classifier.channels != self._channels:
            self._build(classifier.channels)
            self.parameters_changed()
        self._hide_prediction()
        self.guess()

    def guess(self) -> None:
        """Fills in the channels that have no volume yet, where their names tell."""
        if self.panel.parameters is None:
            return
        chosen = self.nodes()
        free = [node for node in self.candidates() if node not in chosen]
        open_channels = [index for index, node in enumerate(chosen) if node is None]
        names = [self._channels[index] for index in open_channels]
        guessed = guess_channels(names, [node.GetName() for node in free])
        for index, number in zip(open_channels, guessed, strict=True):
            if number is not None:
                self._selectors[index].setCurrentNode(free[number])

    def parameters_changed(self) -> None:
        """Shows what the parameter node says."""
        parameters = self.panel.parameters
        if parameters is None or self._writing:
            return
        chosen = list(parameters.images)
        self._writing = True
        try:
            for index, selector in enumerate(self._selectors):
                selector.setCurrentNode(chosen[index] if index < len(chosen) else None)
        finally:
            self._writing = False

    def scene_closed(self) -> None:
        """Forgets what was about the scene of before."""
        super().scene_closed()
        self._hide_prediction()

    def refresh(self) -> None:
        """Brings its widgets in line with the state of the panel."""
        blocked = self.why_not_ready()
        allow(
            self.ui.predictButton,
            _("Ask the classifier for the probability of each class."),
            (self.busy, _("The prediction is on its way.")),
            (bool(blocked), blocked),
        )

    def show_prediction(
        self, classes: tuple[str, ...], probabilities: tuple[float, ...], notes: tuple[str, ...]
    ) -> None:
        """Shows the probabilities as bars, the most likely class first."""
        order = sorted(range(len(classes)), key=lambda index: -probabilities[index])
        rows = [
            (classes[index], Bar(probabilities[index]), number_text(probabilities[index]))
            for index in order
        ]
        fill_table(self.ui.probabilitiesTable, (_("Class"), _("Probability"), ""), rows)
        self.ui.volumesNotesLabel.text = "\n".join(notes)
        self.ui.volumesNotesLabel.visible = bool(notes)

    def _build(self, channels: tuple[str, ...]) -> None:
        self._channels = tuple(channels)
        content = qt.QWidget()
        form = qt.QFormLayout(content)
        form.setContentsMargins(0, 0, 0, 0)
        self._selectors = []
        for channel in self._channels:
            selector = slicer.qMRMLNodeComboBox()
            selector.nodeTypes = _TYPES
            selector.showChildNodeTypes = False
            selector.noneEnabled = True
            selector.addEnabled = False
            selector.removeEnabled = False
            selector.toolTip = _("The volume that is the channel {channel}.").format(
                channel=channel
            )
            selector.setMRMLScene(self.panel.logic.scene)
            selector.connect("currentNodeChanged(vtkMRMLNode*)", self._on_node)
            form.addRow(f"{channel}:", selector)
            self._selectors.append(selector)
        replace_content(self.ui.channelsWidget, content)

    def candidates(self) -> list[Any]:
        """The volumes that may be inputs: no label maps, no maps of our own."""
        scene = self.panel.logic.scene
        found = []
        for kind in _TYPES:
            nodes = scene.GetNodesByClass(kind)
            nodes.UnRegister(None)
            found += [nodes.GetItemAsObject(i) for i in range(nodes.GetNumberOfItems())]
        return [
            node
            for node in found
            if node.GetClassName() in _TYPES
            and not node.GetAttribute("SaliencyExplain.Kind")
            and not node.GetHideFromEditors()
        ]

    def _on_node(self, _node: Any = None) -> None:
        if self._writing or self.panel.parameters is None:
            return
        self._writing = True
        try:
            self.panel.parameters.images = self.nodes()
        finally:
            self._writing = False
        self._hide_prediction()
        self.panel.images_changed()

    def _hide_prediction(self) -> None:
        self.ui.probabilitiesTable.visible = False
        self.ui.volumesNotesLabel.visible = False

    def _on_predict(self, _checked: bool = False) -> None:
        self.begin(
            lambda: self.panel.logic.predict(
                self.nodes(),
                progress=self.show_progress,
                done=self._predicted,
                failed=self.fail,
                cancelled=self.cancelled,
            ),
            _("Predicting …"),
        )

    def _predicted(self, result: Prediction) -> None:
        self.end()
        self.show_prediction(result.classes, result.probabilities, result.notes)
        self.panel.refresh()
