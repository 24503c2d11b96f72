"""The panel's section "Trial"."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from SaliencyExplain.engine.wire.results import TrialResult, TriedMap
from SaliencyExplain.private_folder import PrivateFolder
from SaliencyExplain.scene.kept_evaluations import verdicts_of
from SaliencyExplain.scene.names import ATTRIBUTION, KIND

from .Images import Beside
from .LinePlot import COLORS, Line, draw_plot
from .Section import Section, allow, time_text
from .Tables import fill_table
from .Trials import try_map

_CARD_WIDTH = 460


class TrialSection(Section):
    """Tries a map: does it beat chance, depend on the weights, stay, lie on the segments?"""

    prefix = "trial"

    def __init__(self, panel: Any) -> None:
        super().__init__(panel)
        #: By ID of a map's node: what was found by this panel, with curves and card.
        self._found: dict[str, TriedMap] = {}
        self._folder = PrivateFolder("trial")
        ui = self.ui
        ui.trialMapSelector.addAttribute("vtkMRMLScalarVolumeNode", KIND, ATTRIBUTION)
        ui.trialMapSelector.connect("currentNodeChanged(vtkMRMLNode*)", self._on_map)
        ui.trialButton.connect("clicked(bool)", self._on_try)
        ui.trialCardButton.connect("clicked(bool)", self._on_card)
        self._show()

    def show_map(self, node: Any) -> None:
        """Another map is in the views: it is the one that is tried next."""
        if not self.busy:
            self.ui.trialMapSelector.setCurrentNode(node)

    def maps_changed(self) -> None:
        """Maps have come, gone or grown: other values have another trial."""
        self._show()

    def scene_closed(self) -> None:
        """Forgets what was about the scene of before."""
        super().scene_closed()
        self._found.clear()
        self._show()

    def refresh(self) -> None:
        """Brings its widgets in line with the state of the panel."""
        blocked = self.panel.sections.volumes.why_not_ready()
        node = self.ui.trialMapSelector.currentNode()
        allow(
            self.ui.trialButton,
            _(
                "Recompute the map with changed images, seeds and weights, and measure how it "
                "changes."
            ),
            (self.busy, _("A map is being evaluated.")),
            (self.panel.logic.engine is None, _("Start or connect an engine.")),
            (node is None, _("There is no map yet: explain a volume first.")),
            (bool(blocked), blocked),
        )

    def _on_map(self, _node: Any = None) -> None:
        self.clear_message()
        self._show()
        self.panel.refresh()

    def _on_try(self, _checked: bool = False) -> None:
        node = self.ui.trialMapSelector.currentNode()
        beside = self.panel.sections.explain.beside()
        # Any map is held against the segmentation, also one whose method asks for none.
        segmentation = self.ui.segmentationSelector.currentNode()
        self.begin(
            lambda: try_map(
                self.panel.logic,
                node,
                self.panel.sections.volumes.nodes(),
                beside=Beside(segmentation, beside.backgrounds),
                budget=float(self.ui.trialBudgetSpinBox.value),
                progress=self.show_progress,
                done=lambda result, one: self._done(node, result, one),
                failed=self.fail,
                cancelled=self.cancelled,
            ),
            _("Preparing …"),
        )

    def _done(self, node: Any, result: TrialResult, one: TriedMap) -> None:
        self.end()
        self._found[node.GetID()] = one
        self._show()
        said = _("{passes} forward passes in {time}, {effort} effort.").format(
            passes=f"{result.forward_passes:,.0f}",
            time=time_text(result.seconds),
            effort=result.effort,
        )
        self.ui.trialNotesLabel.text = "\n".join([said, *result.notes, *one.notes])
        self.ui.trialNotesLabel.visible = True
        self.panel.sections.display.trial_changed()
        self.panel.refresh()

    def _show(self) -> None:
        """Shows what is known of the chosen map."""
        ui, node = self.ui, self.ui.trialMapSelector.currentNode()
        verdicts = verdicts_of(node) if node is not None else []
        fill_table(
            ui.trialTable,
            [_("Question"), _("Answer")],
            [[verdict.topic, verdict.line.partition(" ")[0] + " " + verdict.answer]
             for verdict in verdicts],
        )  # fmt: skip
        ui.trialWordsLabel.text = "\n".join(
            f"{verdict.topic}: {verdict.words}" for verdict in verdicts
        )
        ui.trialWordsLabel.visible = bool(verdicts)
        ui.trialNotesLabel.visible = False
        one = self._found.get(node.GetID()) if node is not None and verdicts else None
        ui.trialPlotLabel.visible = False
        for name in ("trialCardLabel", "trialCardButton"):
            getattr(ui, name).visible = one is not None
        if one is not None:
            self._draw(one)
            self._show_card(one)

    def _draw(self, one: TriedMap) -> None:
        lines = []
        for curve, color in zip(
            (curve for curve in one.curves if curve.chance), COLORS, strict=False
        ):
            lines.append(Line(curve.name, curve.xs, curve.ys, color))
            name = _("{curve}, null maps").format(curve=curve.name)
            lines.append(Line(name, curve.xs, curve.chance, color, dashed=True))
        if lines:
            draw_plot(
                self.ui.trialPlotLabel,
                lines,
                x_title=_("strongest share removed or inserted"),
                y_title=_("probability"),
                x_end=1.0,
            )

    def _show_card(self, one: TriedMap) -> None:
        path = self._card_path()
        path.write_bytes(base64.b64decode(one.card))
        card = qt.QPixmap(str(path))
        self.ui.trialCardLabel.pixmap = card.scaledToWidth(_CARD_WIDTH, qt.Qt.SmoothTransformation)

    def _card_path(self) -> Path:
        return self._folder.path / "trust-card.png"

    def _on_card(self, _checked: bool = False) -> None:
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(self._card_path())))
