"""The panel's section "Explain"."""

from __future__ import annotations

import json
import time
from typing import Any

import qt
from slicer.i18n import tr as _

from SaliencyExplain.cost_estimate import Estimate
from SaliencyExplain.errors import SaliencyExplainError
from SaliencyExplain.figures import figure_lines
from SaliencyExplain.quantities import time_text
from SaliencyExplain.results.image_explanation import Explanation
from SaliencyExplain.specification.spec import Limits

from .Images import Beside
from .Jobs import Job
from .MethodsForm import MethodsForm
from .Section import Section, allow, replace_content

PREDICTED = "predicted"
#: An estimate is asked for when nothing has been changed for so long.
_QUIET_SECONDS = 0.4


class ExplainSection(Section):
    """Chooses methods, says what they will cost, computes maps and shows them as they grow."""

    prefix = "explain"

    def __init__(self, panel: Any) -> None:
        super().__init__(panel)
        self.methods: MethodsForm | None = None
        self._writing = False
        self._estimate: Job | None = None
        self._estimate_due: float | None = None
        self.ui.explainButton.connect("clicked(bool)", self._on_apply)
        self.ui.targetComboBox.connect("currentIndexChanged(int)", self._on_change)
        self.ui.backgroundsList.connect("itemChanged(QListWidgetItem*)", self._on_change)
        self._backgrounds: list[Any] = []
        self._fill_targets(())

    def chosen(self) -> dict[str, dict[str, Any]]:
        """The chosen methods with their parameters."""
        return self.methods.values() if self.methods is not None else {}

    def target(self) -> str:
        """Name of the class, or ``predicted``."""
        return self._targets[max(0, self.ui.targetComboBox.currentIndex)]

    def beside(self) -> Beside:
        """What is given beside the volume, for those of the chosen methods that ask for it."""
        asked = self.methods.asked() if self.methods is not None else set()
        segmentation = self.ui.segmentationSelector.currentNode()
        return Beside(
            segmentation if "segmentation" in asked else None,
            tuple(self._ticked_backgrounds()) if "backgrounds" in asked else (),
        )

    def segmentation_changed(self) -> None:
        """Another segmentation was chosen under Compare."""
        self._show_beside()
        self.ask_estimate()

    def methods_changed(self) -> None:
        """The engine has said which methods it has, or there are other layers to look at."""
        classifier = self.panel.logic.classifier
        layers = classifier.layers if classifier is not None else ()
        self._writing = True
        self.methods = MethodsForm(self.panel.logic.methods, layers, self._on_change)
        replace_content(self.ui.methodsWidget, self.methods.widget)
        self._writing = False
        self.parameters_changed()
        self.panel.refresh()

    def classifier_changed(self) -> None:
        """Another classifier has other classes and layers."""
        self._writing = True
        self._fill_targets(self.panel.logic.classifier.classes)
        self._writing = False
        self.methods_changed()
        self.ask_estimate()

    def parameters_changed(self) -> None:
        """Shows what the parameter node says."""
        parameters = self.panel.parameters
        if parameters is None or self._writing:
            return
        self._writing = True
        try:
            if parameters.target in self._targets:
                self.ui.targetComboBox.currentIndex = self._targets.index(parameters.target)
            if self.methods is not None:
                self.methods.set_values(json.loads(parameters.methods or "{}"))
        finally:
            self._writing = False

    def scene_closed(self) -> None:
        """Forgets what was about the scene of before."""
        super().scene_closed()
        self._drop_estimate()
        self.ui.explainNotesLabel.visible = False

    def refresh(self) -> None:
        """Brings its widgets in line with the state of the panel."""
        blocked = self.panel.sections.volumes.why_not_ready()
        allow(
            self.ui.explainButton,
            _("Compute the maps and lay them over the volume."),
            (self.busy, _("Maps are being computed.")),
            (bool(blocked), blocked),
            (not self.chosen(), _("Choose at least one method.")),
        )
        self._show_beside()

    def ask_estimate(self) -> None:
        """Asks anew what the chosen methods would cost, once the user pauses."""
        self._drop_estimate()
        self.ui.estimateLabel.text = ""
        self._estimate_due = time.monotonic() + _QUIET_SECONDS

    def tick(self) -> None:
        """Requests the estimate when it is due."""
        if self._estimate_due is None or time.monotonic() < self._estimate_due or self.busy:
            return
        self._estimate_due = None
        if not self.chosen() or self.panel.sections.volumes.why_not_ready():
            return
        try:
            self._estimate = self.panel.logic.estimate(
                self.panel.sections.volumes.nodes(),
                self.chosen(),
                self.target(),
                beside=self.beside(),
                done=self._show_estimate,
                failed=lambda failure: self._say_estimate(failure.line),
            )
        except SaliencyExplainError as error:
            self._say_estimate(str(error))

    def _show_beside(self) -> None:
        """Shows what the chosen methods ask for, and nothing where they ask for nothing."""
        asked = self.methods.asked() if self.methods is not None else set()
        node = self.ui.segmentationSelector.currentNode()
        self.ui.besideSegmentsLabel.text = (
            _("Its segments come from {name}, chosen under Compare.").format(name=node.GetName())
            if node is not None
            else _("For its segments choose a segmentation under Compare.")
        )
        self.ui.besideSegmentsLabel.visible = "segmentation" in asked
        self.ui.backgroundsBox.visible = "backgrounds" in asked
        if "backgrounds" in asked:
            self._list_backgrounds()

    def _list_backgrounds(self) -> None:
        """Lists the volumes that could be backgrounds, those that were ticked still ticked."""
        inputs = self.panel.sections.volumes.nodes()
        nodes = [node for node in self.panel.sections.volumes.candidates() if node not in inputs]
        names = [node.GetName() for node in nodes]
        listed = self.ui.backgroundsList
        if nodes == self._backgrounds and names == [
            listed.item(row).text() for row in range(listed.count)
        ]:
            return
        ticked = self._ticked_backgrounds()
        self._writing = True
        try:
            listed.clear()
            self._backgrounds = nodes
            for node, name in zip(nodes, names, strict=True):
                item = qt.QListWidgetItem(name)
                item.setCheckState(qt.Qt.Checked if node in ticked else qt.Qt.Unchecked)
                listed.addItem(item)
        finally:
            self._writing = False

    def _ticked_backgrounds(self) -> list[Any]:
        listed = self.ui.backgroundsList
        return [
            node
            for row, node in enumerate(self._backgrounds)
            if listed.item(row).checkState() == qt.Qt.Checked
        ]

    def _show_estimate(self, estimate: Estimate) -> None:
        text = _("About {passes} forward passes, at most {time}.").format(
            passes=f"{estimate.forward_passes:,.0f}", time=time_text(estimate.seconds)
        )
        self._say_estimate(" ".join([text, *estimate.notes]))

    def _say_estimate(self, text: str) -> None:
        self.ui.estimateLabel.text = text

    def _drop_estimate(self) -> None:
        if self._estimate is not None and self._estimate.active:
            self._estimate.drop()
        self._estimate = None
        self._estimate_due = None

    def _fill_targets(self, classes: tuple[str, ...]) -> None:
        self._targets = [PREDICTED, *classes]
        combo = self.ui.targetComboBox
        combo.clear()
        combo.addItem(_("the predicted one"))
        for name in classes:
            combo.addItem(name)

    def _on_change(self, _value: Any = None) -> None:
        if self._writing:
            return
        parameters = self.panel.parameters
        if parameters is not None:
            self._writing = True
            try:
                parameters.target = self.target()
                if self.methods is not None:
                    parameters.methods = json.dumps(self.chosen(), sort_keys=True)
            finally:
                self._writing = False
        self.ask_estimate()
        self.panel.refresh()

    def _on_apply(self, _checked: bool = False) -> None:
        self._drop_estimate()
        self.ui.explainNotesLabel.visible = False
        nodes = self.panel.sections.volumes.nodes()
        budget = self.ui.budgetSpinBox.value
        self._first = True
        self.begin(
            lambda: self.panel.logic.explain(
                nodes,
                self.chosen(),
                target=self.target(),
                seed=self.ui.seedSpinBox.value,
                limits=Limits(seconds=float(budget) if budget > 0 else None),
                beside=self.beside(),
                progress=self.show_progress,
                shown=self._show,
                done=self._done,
                failed=self.fail,
                cancelled=self.cancelled,
            ),
            _("Preparing …"),
        )

    def _show(self, maps: list[Any]) -> None:
        """Brings a map into the views when it comes; after that the user says what is shown."""
        if self._first and maps:
            self._first = False
            self.panel.sections.display.show_map(maps[0])
        else:
            self.panel.sections.display.maps_changed(maps)
        self.panel.maps_changed()

    def _done(self, result: Explanation) -> None:
        self.end()
        self.panel.sections.volumes.show_prediction(result.classes, result.probabilities, ())
        notes = [failure.line for failure in result.failures]
        notes += [
            f"{map_.title}: {line}"
            for map_ in result.attributions
            for line in figure_lines(map_.provenance.get("figures", {}))
        ]
        notes += result.notes
        share = min((map_.share_done for map_ in result.attributions), default=1.0)
        if share < 1:
            notes.insert(
                0, _("Stopped after {share} of the computation.").format(share=f"{share:.0%}")
            )
        self.ui.explainNotesLabel.text = "\n".join(notes)
        self.ui.explainNotesLabel.visible = bool(notes)
        self.panel.refresh()
