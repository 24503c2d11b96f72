"""The panel's section "Explain": methods, their cost, and maps that grow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from trame.widgets import html

from SaliencyExplain.cost_estimate import Estimate
from SaliencyExplain.engine.interface import Engine
from SaliencyExplain.engine.wire.requests import EstimateRequest, ExplainRequest
from SaliencyExplain.errors import Cancelled, ErrorCode, InputError, SaliencyExplainError
from SaliencyExplain.json_text import json_text
from SaliencyExplain.quantities import time_text
from SaliencyExplain.results.attribution_map import Attribution
from SaliencyExplain.results.image_explanation import Explanation
from SaliencyExplain.scene import names
from SaliencyExplain.scene.attributions import (
    add_attribution,
    attributions_of,
    update_attribution,
)
from SaliencyExplain.specification.spec import ExplainSpec, Limits
from SaliencyExplain.specification.target import PREDICTED, Target
from SaliencyExplain.viewer import methods_form, opened_images
from SaliencyExplain.viewer.methods_view import build_methods
from SaliencyExplain.viewer.opened_images import Input
from SaliencyExplain.viewer.part import Part
from SaliencyExplain.viewer.widgets import button, section, select, text_field
from SaliencyExplain.voxel_volume import Volume

_FIRST_TICKED = ("occlusion",)

#: An estimate is asked for when nothing has been changed for so long.
_QUIET_SECONDS = 0.4


class ExplainPart(Part):
    """Chooses methods, says what they will cost, computes maps and shows them as they grow."""

    prefix = "explain"

    def __init__(self, viewer: Any) -> None:
        super().__init__(
            viewer,
            methods=[],
            families=[],
            targets=[],
            target=PREDICTED,
            seed=0,
            budget="",
            estimate="",
            why="",
            requires=[],
            segments="",
            offered=[],
            backgrounds=[],
        )
        self._estimate: asyncio.Task[None] | None = None
        self._shown = False
        self.on_change("methods", lambda _: self.beside_changed())
        for key in ("target", "budget", "backgrounds"):
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
            build_methods(self.name("methods"), self.name("families"))
            self._build_beside()
            with html.Div(classes="se-two"):
                text_field(
                    self.name("budget"),
                    "Stop after, s",
                    "Methods that refine their map stop after this time with the best map so "
                    "far; the others run to the end. Empty: no limit.",
                    placeholder="never",
                )
                text_field(
                    self.name("seed"),
                    "Seed",
                    "Random seed: the same seed gives the same map.",
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
            self.put(methods=[], families=[], targets=[], target=PREDICTED)
            return
        ticked = [row["name"] for row in self.get("methods") if row["ticked"]] or _FIRST_TICKED
        targets = [{"title": "the predicted one", "value": PREDICTED}]
        targets += [{"title": name, "value": name} for name in classifier.classes]
        rows = methods_form.rows(self.viewer.methods, classifier.layers, ticked)
        self.put(
            methods=rows,
            families=methods_form.families(rows),
            targets=targets,
            target=PREDICTED,
        )

    def input_changed(self) -> None:
        """What runs is about images that are not chosen any more."""
        self.drop()
        self.put(why=self.viewer.volumes.why_not_ready(), notes=[], error="", backgrounds=[])
        self.beside_changed()

    def beside_changed(self) -> None:
        """Other methods, images or segments: what can be given beside the image is another."""
        node, requires = self.viewer.segmentation, methods_form.asked(self.get("methods"))
        offered = [] if self.viewer.classifier is None else self.viewer.volumes.backgrounds()
        self.put(
            requires=sorted(requires),
            segments=node.GetName() if node is not None else "",
            offered=[{"title": self.viewer.volumes.open[n].name, "value": n} for n in offered],
            backgrounds=[n for n in self.get("backgrounds") if n in offered],
        )
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
            request = await self._request(await self.viewer.volumes.input())
            cost: Estimate = await self.viewer.runner.job(
                lambda engine: EstimateRequest(request(engine))
            )
            self.put(
                estimate=" ".join(
                    [
                        f"About {cost.forward_passes:,.0f} forward passes, "
                        f"at most {time_text(cost.seconds)}",
                        *(f"· {note}" for note in cost.notes),
                    ]
                )
            )
        except (SaliencyExplainError, Cancelled) as error:
            self.put(estimate=str(error))

    def _drop_estimate(self) -> None:
        if self._estimate is not None:
            self._estimate.cancel()
            self._estimate = None

    async def _request(self, read: Input) -> Callable[[Engine], ExplainRequest]:
        viewer, classifier = self.viewer, self.viewer.opened_classifier()
        choices = methods_form.choices(self.get("methods"))
        requires = methods_form.asked(self.get("methods"))
        target = Target.parse(self.get("target"))
        seed = _number("Seed", self.get("seed") or 0)
        seconds = _number("Stop after", self.get("budget")) if self.get("budget") else None
        limits = Limits(seconds=seconds)
        references = opened_images.references(
            read.image,
            viewer.segmentation if "segmentation" in requires else None,
            await self.background_volumes() if "backgrounds" in requires else (),
        )

        def make(engine: Engine) -> ExplainRequest:
            spec = ExplainSpec(choices, target, int(seed), limits, references.send(engine))
            return ExplainRequest(
                classifier.key, engine.put(read.volume), spec, read.image.public_name
            )

        return make

    async def background_volumes(self) -> list[Volume]:
        """The voxels of the chosen backgrounds, for the open classifier."""
        viewer, classifier = self.viewer, self.viewer.opened_classifier()
        read = [
            await viewer.runner.call(opened_images.read_input, [viewer.volumes.open[n]], classifier)
            for n in self.get("backgrounds")
        ]
        return [one.volume for one in read]

    async def _explain(self) -> None:
        viewer = self.viewer
        read = await viewer.volumes.input()
        request = await self._request(read)

        async def show(partial: Explanation) -> None:
            await self._show(read, partial)

        result: Explanation = await viewer.runner.job(
            request, started=self.started, progress=self.show_progress, partial=show
        )
        await self._show(read, result)
        viewer.volumes.show_prediction(result.classes, result.probabilities)
        failed = [failure.line for failure in result.failures]
        notes = [*failed, *read.notes, *result.notes]
        share = min((map_.share_done for map_ in result.attributions), default=1.0)
        if share < 1:
            notes.insert(0, f"Stopped after {share:.0%} of the computation.")
        self.put(notes=notes)

    async def _show(self, read: Input, result: Explanation) -> None:
        grown = []
        for map_ in result.attributions:
            grown.append(self._put_map(read, map_))
        if grown and not self._shown:
            # A new map comes into the views once; after that the user says what is shown.
            self._shown = True
            self.viewer.display.show_map(grown[0])
        self.viewer.maps_changed(grown)

    def _put_map(self, read: Input, map: Attribution) -> Any:
        for node in attributions_of(self.viewer.scene, read.image.node):
            if _is_same(node, map):
                update_attribution(node, map)
                return node
        return add_attribution(self.viewer.scene, map, read.image.node, read.nodes)

    def _build_beside(self) -> None:
        """What the chosen methods can use beside the image, where one of them can."""
        requires = self.name("requires")
        html.Div(
            "{{ "
            + self.name("segments")
            + " ? 'Asks of the segments of ' + "
            + self.name("segments")
            + " : 'Can ask of segments: open a segmentation.' }}",
            v_if=(f"{requires}.includes('segmentation')",),
            classes="se-hint se-beside-segments",
        )
        with html.Div(v_if=(f"{requires}.includes('backgrounds')",), classes="se-backgrounds"):
            select(
                self.name("backgrounds"),
                (self.name("offered"),),
                "Backgrounds",
                "Reference images, such as those of healthy people.",
                multiple=True,
                no_data_text="Open further images: drop them on the page.",
            )


def _is_same(node: Any, map: Attribution) -> bool:
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
        raise InputError(
            ErrorCode.VALUE_RANGE, f"{what} is '{text}'; it must be a number."
        ) from error
