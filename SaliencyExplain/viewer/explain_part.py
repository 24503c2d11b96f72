"""The panel's section "Explain": methods, their cost, and maps that grow."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from trame.widgets import html
from trame_vuetify.widgets import vuetify3 as v

from SaliencyExplain.engine.interface import (
    Engine,
    EstimateRequest,
    EstimateResult,
    ExplainRequest,
    ExplainResult,
    MapResult,
)
from SaliencyExplain.engine.volumes import Volume
from SaliencyExplain.errors import Cancelled, InputError, SaliencyExplainError
from SaliencyExplain.json_text import json_text
from SaliencyExplain.scene import names
from SaliencyExplain.scene.attributions import (
    AttributionMap,
    add_attribution,
    attributions_of,
    update_attribution,
)
from SaliencyExplain.viewer import methods_form
from SaliencyExplain.viewer.images import Input
from SaliencyExplain.viewer.part import Part
from SaliencyExplain.viewer.widgets import button, section, select, text_field
from SaliencyExplain.viewer.words import time_text

PREDICTED = "predicted"
_FIRST_TICKED = ("occlusion",)

#: An estimate is asked for when nothing has been changed for so long.
_QUIET_SECONDS = 0.4


class ExplainPart(Part):
    """Chooses methods, says what they will cost, computes maps and shows them as they grow."""

    prefix = "explain"

    def __init__(self, viewer: Any) -> None:
        super().__init__(
            viewer, methods=[], targets=[], target=PREDICTED, seed=0, budget="", estimate="", why=""
        )
        self._estimate: asyncio.Task[None] | None = None
        self._shown = False
        for key in ("methods", "target", "budget"):
            self.on_change(key, lambda _: self.ask_estimate())

    def build(self) -> None:
        """The section's controls."""
        with section("Explain", self):
            select(
                self.name("target"),
                (self.name("targets"),),
                "Class",
                "The class that the maps explain; it is fixed before a method starts.",
            )
            self._build_methods()
            with html.Div(classes="se-two"):
                text_field(
                    self.name("budget"),
                    "Stop after, s",
                    "Stop with the best maps so far after this time. Empty: compute all.",
                    placeholder="never",
                )
                text_field(
                    self.name("seed"),
                    "Seed",
                    "Of everything random: the same seed gives the same map.",
                )
            with html.Div(classes="se-row"):
                button(
                    "Apply",
                    self.apply,
                    "Compute the maps and lay them over the volume.",
                    color="primary",
                    disabled=(f"!!{self.name('why')} || {self.name('busy')}",),
                    classes="se-apply",
                )
                html.Span("{{ " + self.name("estimate") + " }}", classes="se-estimate")
            html.Div("{{ " + self.name("why") + " }}", v_if=(self.name("why"),), classes="se-hint")

    def classifier_changed(self) -> None:
        """Another classifier has other classes and layers."""
        self.drop()
        classifier = self.viewer.classifier
        if classifier is None:
            self.put(methods=[], targets=[], target=PREDICTED)
            return
        ticked = [row["name"] for row in self.get("methods") if row["ticked"]] or _FIRST_TICKED
        targets = [{"title": "the predicted one", "value": PREDICTED}]
        targets += [{"title": name, "value": name} for name in classifier.classes]
        self.put(
            methods=methods_form.rows(self.viewer.methods, classifier.layers, ticked),
            targets=targets,
            target=PREDICTED,
        )

    def input_changed(self) -> None:
        """What runs is about images that are not chosen any more."""
        self.drop()
        self.put(why=self.viewer.volumes.why_not_ready(), notes=[], error="")
        self.ask_estimate()

    def apply(self) -> None:
        """Computes the chosen methods' maps."""
        self._drop_estimate()
        self._shown = False
        self.work(self._explain(), "Preparing …")

    def ask_estimate(self) -> None:
        """Asks what the chosen methods would cost, once the user pauses."""
        self._drop_estimate()
        self.put(estimate="")
        if not self.viewer.volumes.why_not_ready() and not self.busy:
            loop = asyncio.get_running_loop()
            self._estimate = loop.create_task(self._ask_estimate())

    async def _ask_estimate(self) -> None:
        await asyncio.sleep(_QUIET_SECONDS)
        try:
            choices = methods_form.choices(self.get("methods"))
            if not choices:
                self.put(why="Choose at least one method.")
                return
            self.put(why="")
            request = self._request(await self.viewer.volumes.input())
            cost: EstimateResult = await self.viewer.runner.job(
                lambda engine: EstimateRequest(request(engine))
            )
            self.put(
                estimate=f"About {cost.forward_passes:,.0f} forward passes, "
                f"at most {time_text(cost.seconds)}"
            )
        except (SaliencyExplainError, Cancelled) as error:
            self.put(estimate=str(error))

    def _drop_estimate(self) -> None:
        if self._estimate is not None:
            self._estimate.cancel()
            self._estimate = None

    def _request(self, read: Input) -> Any:
        classifier = self.viewer.opened_classifier()
        choices = methods_form.choices(self.get("methods"))
        target, seed = self.get("target"), _number("Seed", self.get("seed") or 0)
        budget = _number("Stop after", self.get("budget")) if self.get("budget") else None

        def make(engine: Engine) -> ExplainRequest:
            return ExplainRequest(
                classifier.key,
                engine.put(read.volume),
                choices,
                target=target,
                seed=int(seed),
                budget_seconds=budget,
                image_name=read.image.name,
            )

        return make

    async def _explain(self) -> None:
        viewer = self.viewer
        read = await viewer.volumes.input()
        request = self._request(read)

        async def show(partial: ExplainResult) -> None:
            await self._show(read, partial)

        result: ExplainResult = await viewer.runner.job(
            request, started=self.started, progress=self.show_progress, partial=show
        )
        await self._show(read, result)
        viewer.volumes.show_prediction(result.classes, result.probabilities)
        notes = [*read.notes, *result.notes]
        share = min((map_.share_done for map_ in result.maps), default=1.0)
        if share < 1:
            notes.insert(0, f"Stopped after {share:.0%} of the computation.")
        self.put(notes=notes)

    async def _show(self, read: Input, result: ExplainResult) -> None:
        grown = []
        for map_ in result.maps:
            engine = self.viewer.runner.engine
            volume = await self.viewer.runner.call(engine.get, map_.volume)
            grown.append(self._put_map(read, map_, volume))
        if grown and not self._shown:
            # A new map comes into the views once; after that the user says what is shown.
            self._shown = True
            self.viewer.display.show_map(grown[0])
        self.viewer.maps_changed(grown)

    def _put_map(self, read: Input, map_: MapResult, volume: Volume) -> Any:
        map = AttributionMap(
            np.asarray(volume.values),
            volume.affine,
            label=map_.label,
            title=map_.title,
            signed=map_.signed,
            target_name=map_.target_name,
            classifier_name=self.viewer.opened_classifier().name,
            parameters=map_.parameters,
            provenance=map_.provenance,
            share_done=map_.share_done,
        )
        for node in attributions_of(self.viewer.scene, read.image.node):
            if _is_same(node, map):
                update_attribution(node, map)
                return node
        return add_attribution(self.viewer.scene, map, read.image.node)

    def _build_methods(self) -> None:
        flush = f"flushState('{self.name('methods')}')"
        with html.Div(v_for=f"(method, m) in {self.name('methods')}", key="method.name"):
            v.VCheckbox(
                v_model=("method.ticked",),
                label=("method.title",),
                title=("method.source",),
                density="compact",
                hide_details=True,
                classes="se-method",
                update_modelValue=flush,
            )
            with (
                html.Div(v_if="method.ticked && method.parameters.length", classes="se-fields"),
                html.Div(
                    v_for="field in method.parameters", key="field.name", title=("field.tip",)
                ),
            ):
                common = {"density": "compact", "hide_details": True, "update_modelValue": flush}
                outlined = {**common, "variant": "outlined", "classes": "se-field"}
                v.VSelect(
                    v_if="field.kind === 'choice'",
                    v_model=("field.value",),
                    items=("field.items",),
                    label=("field.label",),
                    **outlined,
                )
                v.VSelect(
                    v_else_if="field.kind === 'names'",
                    v_model=("field.value",),
                    items=("field.items",),
                    label=("field.label",),
                    multiple=True,
                    placeholder="automatic",
                    persistent_placeholder=True,
                    **outlined,
                )
                v.VCheckbox(
                    v_else_if="field.kind === 'yes or no'",
                    v_model=("field.value",),
                    label=("field.label",),
                    **common,
                )
                v.VTextField(
                    v_else=True,
                    v_model=("field.value",),
                    label=("field.hint ? field.label + ' (' + field.hint + ')' : field.label",),
                    **outlined,
                )


def _is_same(node: Any, map: AttributionMap) -> bool:
    """Whether a node holds a map of the same method, parameters, class and classifier."""
    return all(
        node.GetAttribute(name) == value
        for name, value in (
            (names.LABEL, map.label),
            (names.TARGET, map.target_name),
            (names.CLASSIFIER, map.classifier_name),
            (names.PARAMETERS, json_text(map.parameters)),
        )
    )


def _number(what: str, text: Any) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InputError(f"{what} is '{text}'; it must be a number.") from error
