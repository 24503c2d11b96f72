"""The panel's section "Evaluation"."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from SaliencyExplain.engine.wire.results import EvaluationResult
from SaliencyExplain.private_folder import PrivateFolder
from SaliencyExplain.quantities import time_text
from SaliencyExplain.results.image_evaluation import MapEvaluation
from SaliencyExplain.scene.kept_evaluations import answers_of
from SaliencyExplain.scene.names import ATTRIBUTION, KIND

from .Evaluations import evaluate_map
from .Images import Beside
from .LinePlot import COLORS, Line, draw_plot
from .Section import Section, allow
from .Tables import fill_table

_CARD_WIDTH = 460


class EvaluationSection(Section):
    """Evaluates a map: does it beat chance, depend on the weights, stay, lie on the segments?"""

    prefix = "evaluation"

    def __init__(self, panel: Any) -> None:
        super().__init__(panel)
        #: By ID of a map's node: its evaluation by this panel, and its trust card.
        self._found: dict[str, tuple[MapEvaluation, str]] = {}
        self._folder = PrivateFolder("evaluation")
        ui = self.ui
        ui.evaluationMapSelector.addAttribute("vtkMRMLScalarVolumeNode", KIND, ATTRIBUTION)
        ui.evaluationMapSelector.connect("currentNodeChanged(vtkMRMLNode*)", self._on_map)
        ui.evaluationButton.connect("clicked(bool)", self._on_evaluate)
        ui.evaluationCardButton.connect("clicked(bool)", self._on_card)
        self._show()

    def show_map(self, node: Any) -> None:
        """Another map is in the views: it is the one that is evaluated next."""
        if not self.busy:
            self.ui.evaluationMapSelector.setCurrentNode(node)

    def maps_changed(self) -> None:
        """Maps have come, gone or grown: other values have another evaluation."""
        self._show()

    def scene_closed(self) -> None:
        """Forgets what was about the scene of before."""
        super().scene_closed()
        self._found.clear()
        self._show()

    def refresh(self) -> None:
        """Brings its widgets in line with the state of the panel."""
        blocked = self.panel.sections.volumes.why_not_ready()
        node = self.ui.evaluationMapSelector.currentNode()
        allow(
            self.ui.evaluationButton,
            _(
                "Recompute the map with changed images, seeds and weights, and measure how it "
                "changes."
            ),
            (self.busy, _("A map is being evaluated.")),
            (self.panel.logic.engine is None, _("Start or connect an engine.")),
            (node is None, _("No map yet. Explain a volume first.")),
            (bool(blocked), blocked),
        )

    def _on_map(self, _node: Any = None) -> None:
        self.clear_message()
        self._show()
        self.panel.refresh()

    def _on_evaluate(self, _checked: bool = False) -> None:
        node = self.ui.evaluationMapSelector.currentNode()
        beside = self.panel.sections.explain.beside()
        # Every map is compared with the segmentation, also if its method does not use it.
        segmentation = self.ui.segmentationSelector.currentNode()
        self.begin(
            lambda: evaluate_map(
                self.panel.logic,
                node,
                self.panel.sections.volumes.nodes(),
                beside=Beside(segmentation, beside.backgrounds),
                budget=float(self.ui.evaluationBudgetSpinBox.value),
                progress=self.show_progress,
                done=lambda result, one: self._done(node, result, one),
                failed=self.fail,
                cancelled=self.cancelled,
            ),
            _("Preparing …"),
        )

    def _done(self, node: Any, result: EvaluationResult, one: MapEvaluation) -> None:
        self.end()
        evaluation = result.evaluation
        self._found[node.GetID()] = (one, result.cards[one.label])
        self._show()
        said = _("{passes} forward passes in {time}, cost tier {cost_tier}.").format(
            passes=f"{evaluation.forward_passes:,.0f}",
            time=time_text(evaluation.seconds),
            cost_tier=evaluation.cost_tier,
        )
        self.ui.evaluationNotesLabel.text = "\n".join([said, *evaluation.notes, *one.notes])
        self.ui.evaluationNotesLabel.visible = True
        self.panel.sections.display.evaluation_changed()
        self.panel.refresh()

    def _show(self) -> None:
        """Shows what is known of the chosen map."""
        ui, node = self.ui, self.ui.evaluationMapSelector.currentNode()
        answers = answers_of(node) if node is not None else []
        fill_table(
            ui.evaluationTable,
            [_("Question"), _("Answer")],
            [[answer.topic, answer.line.partition(" ")[0] + " " + answer.answer]
             for answer in answers],
        )  # fmt: skip
        ui.evaluationWordsLabel.text = "\n".join(
            f"{answer.topic}: {answer.words}" for answer in answers
        )
        ui.evaluationWordsLabel.visible = bool(answers)
        ui.evaluationNotesLabel.visible = False
        found = self._found.get(node.GetID()) if node is not None and answers else None
        ui.evaluationPlotLabel.visible = False
        for name in ("evaluationCardLabel", "evaluationCardButton"):
            getattr(ui, name).visible = found is not None
        if found is not None:
            one, card = found
            self._draw(one)
            self._show_card(card)

    def _draw(self, one: MapEvaluation) -> None:
        lines = []
        for curve, color in zip(
            (curve for curve in one.curves if curve.null_median), COLORS, strict=False
        ):
            lines.append(Line(curve.name, curve.xs, curve.ys, color))
            name = _("{curve}, null maps").format(curve=curve.name)
            lines.append(Line(name, curve.xs, curve.null_median, color, dashed=True))
        if lines:
            draw_plot(
                self.ui.evaluationPlotLabel,
                lines,
                x_title=_("strongest share removed or inserted"),
                y_title=_("probability"),
                x_end=1.0,
            )

    def _show_card(self, png: str) -> None:
        path = self._card_path()
        path.write_bytes(base64.b64decode(png))
        card = qt.QPixmap(str(path))
        self.ui.evaluationCardLabel.pixmap = card.scaledToWidth(
            _CARD_WIDTH, qt.Qt.SmoothTransformation
        )

    def _card_path(self) -> Path:
        return self._folder.path / "trust-card.png"

    def _on_card(self, _checked: bool = False) -> None:
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(self._card_path())))
