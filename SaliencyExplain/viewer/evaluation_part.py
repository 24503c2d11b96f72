"""The panel's section "Evaluation": may the map in the views be believed?"""

from __future__ import annotations

import base64
from typing import Any

from trame.widgets import html

from SaliencyExplain.engine.client.repeat_request import evaluation_of_map
from SaliencyExplain.engine.interface import Engine
from SaliencyExplain.engine.wire.requests import EvaluationRequest
from SaliencyExplain.engine.wire.results import EvaluationResult
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.evaluation_parts import AFFORDABLE_PASSES
from SaliencyExplain.quantities import time_text
from SaliencyExplain.results.image_evaluation import MapEvaluation
from SaliencyExplain.scene.attributions import read_attribution
from SaliencyExplain.scene.kept_evaluations import (
    answer_line,
    answers_of,
    keep_answers_on,
)
from SaliencyExplain.viewer import opened_images
from SaliencyExplain.viewer.page_plots import build_plot, evaluation_plot
from SaliencyExplain.viewer.part import Part
from SaliencyExplain.viewer.widgets import button, section, text_field

_NO_MAP = "No map in the views. Explain a volume first."


class EvaluationPart(Part):
    """Evaluates the map in the views, and keeps with each map what was said of it."""

    prefix = "evaluation"

    def __init__(self, viewer: Any) -> None:
        super().__init__(
            viewer,
            budget=f"{AFFORDABLE_PASSES:.0f}",
            why=_NO_MAP,
            line="",
            answers=[],
            plot={},
            card="",
        )
        #: By ID of a map's node: its evaluation by this viewer, and its trust card.
        self._found: dict[str, tuple[MapEvaluation, str]] = {}

    def build(self) -> None:
        """The section's controls."""
        with section("Evaluation", self):
            html.Div(
                "Evaluate the map in the views: faithfulness against random maps, sensitivity to "
                "the weights, stability, overlap with the segments. Each answer stands by "
                "itself; there is no total score.",
                classes="se-hint",
            )
            text_field(
                self.name("budget"),
                "Forward passes",
                "Largest number of forward passes. With fewer than a full evaluation needs, less "
                "is tested, but at least the minimum that answers each question.",
            )
            button(
                "Evaluate this map",
                self.evaluate_map,
                "Recompute the map with changed images, seeds and weights, and measure how it "
                "changes.",
                color="primary",
                disabled=(f"!!{self.name('why')} || {self.name('busy')}",),
                classes="se-evaluate",
            )
            html.Div("{{ " + self.name("why") + " }}", v_if=(self.name("why"),), classes="se-hint")
            with html.Div(v_for=f"one in {self.name('answers')}", key="one.topic",
                          classes="se-evaluation-answer"):  # fmt: skip
                html.Div("{{ one.line }}", classes="se-subtitle")
                html.Div("{{ one.words }}", classes="se-hint")
            build_plot(self.name("plot"))
            with html.Details(v_if=(self.name("card"),), classes="se-card"):
                html.Summary("Trust card")
                with html.A(href="/trust-card.png", target="_blank",
                            title="The card in full size."):  # fmt: skip
                    html.Img(src=(self.name("card"),), alt="The trust card of this map")

    def build_line(self) -> None:
        """The line beside the map's name that says what was found, or that nothing was."""
        html.Div("{{ " + self.name("line") + " }}", v_if=(self.name("line"),),
                 classes="se-hint se-evaluation-line")  # fmt: skip

    def changed(self) -> None:
        """Another map is in the views, or other values of it."""
        node = self.viewer.display.shown()
        answers = answers_of(node) if node is not None else []
        found = self._found.get(node.GetID()) if node is not None and answers else None
        why = "" if node is not None else _NO_MAP
        self.put(
            line=answer_line(node) if node is not None else "",
            why=why or self.viewer.volumes.why_not_ready(),
            answers=[{"topic": one.topic, "line": one.line, "words": one.words} for one in answers],
            plot=evaluation_plot(found[0].curves) if found is not None else {},
            card=f"data:image/png;base64,{found[1]}" if found is not None else "",
        )

    def card(self) -> bytes:
        """The trust card of the map in the views, as PNG; empty: it was not evaluated here."""
        node = self.viewer.display.shown()
        found = self._found.get(node.GetID()) if node is not None else None
        return base64.b64decode(found[1]) if found is not None and answers_of(node) else b""

    def input_changed(self) -> None:
        """What runs is about images that are not chosen any more."""
        self.drop()
        self.put(notes=[], error="")
        self.changed()

    def evaluate_map(self) -> None:
        """Evaluates the map in the views."""
        self.work(self._evaluate(), "Preparing …")

    async def _evaluate(self) -> None:
        viewer, classifier = self.viewer, self.viewer.opened_classifier()
        node = viewer.display.shown()
        if node is None:
            raise InputError(ErrorCode.SELECTION, _NO_MAP)
        map_ = read_attribution(node)
        if map_.share_done < 1:
            raise InputError(
                ErrorCode.MAP_UNFINISHED,
                "The map is partial; compute all of it before it is evaluated.",
            )
        try:
            passes = float(self.get("budget"))
        except ValueError as error:
            raise InputError(
                ErrorCode.VALUE_RANGE,
                f"Forward passes is '{self.get('budget')}'; it must be a number.",
            ) from error
        read = await viewer.volumes.input()
        references = opened_images.references(
            read.image, viewer.segmentation, await viewer.explain.background_volumes()
        )

        def request(engine: Engine) -> EvaluationRequest:
            return evaluation_of_map(
                engine.put(read.volume),
                classifier,
                method=map_.label.partition("@")[0],
                target_name=map_.target_name,
                parameters=map_.parameters,
                provenance=map_.provenance,
                image_name=read.image.public_name,
                passes=passes,
                references=references.send(engine),
            )

        result: EvaluationResult = await viewer.runner.job(
            request, started=self.started, progress=self.show_progress
        )
        evaluation = result.evaluation
        one = evaluation.of(map_.label)
        if one is None:
            raise InputError(ErrorCode.SELECTION, f"The evaluation has no map '{map_.label}'.")
        keep_answers_on(node, map_, one.answers)
        self._found[node.GetID()] = (one, result.cards[one.label])
        said = (
            f"{evaluation.forward_passes:,.0f} forward passes in {time_text(evaluation.seconds)}, "
            f"cost tier {evaluation.cost_tier}."
        )
        self.changed()
        self.put(notes=[said, *evaluation.notes, *one.notes])
