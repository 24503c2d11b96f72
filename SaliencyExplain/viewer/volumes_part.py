"""The panel's section "Volumes": which image is which channel, and the prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trame.widgets import html
from trame_vuetify.widgets import vuetify3 as v

from SaliencyExplain.engine.client.channel_names import guess_channels
from SaliencyExplain.engine.wire.requests import PredictRequest
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.results.class_prediction import Prediction
from SaliencyExplain.scene.slice_layers import show as show_layers
from SaliencyExplain.viewer import opened_images
from SaliencyExplain.viewer.opened_images import Input, OpenImage
from SaliencyExplain.viewer.part import Part
from SaliencyExplain.viewer.widgets import button, section


class VolumesPart(Part):
    """Opens images, knows the input, and asks for the class probabilities.

    Attributes:
        open: All images that were opened, in their order.
    """

    prefix = "volumes"

    def __init__(self, viewer: Any) -> None:
        super().__init__(viewer, items=[], channels=[], why="", bars=[])
        self.open: list[OpenImage] = []
        self._input: tuple[tuple[Any, ...], Input] | None = None
        self._in_views: OpenImage | None = None
        self._asked: tuple[Any, ...] | None = None
        self.on_change("channels", lambda _: self._chosen_changed())

    def build(self) -> None:
        """The section's controls."""
        with section("Volumes", self):
            with v.VSelect(
                v_for=f"(channel, c) in {self.name('channels')}",
                key="c",
                v_model=("channel.image",),
                items=(self.name("items"),),
                label=("channel.name",),
                density="compact",
                variant="outlined",
                hide_details=True,
                classes="se-field",
                no_data_text="No image is open: drop one on the page, or use Open.",
                update_modelValue=f"flushState('{self.name('channels')}')",
            ):
                pass
            button(
                "Predict",
                self.predict,
                "Ask the classifier for the probability of each class.",
                disabled=(f"!!{self.name('why')} || {self.name('busy')}",),
                color="primary",
                classes="se-predict",
            )
            html.Div("{{ " + self.name("why") + " }}", v_if=(self.name("why"),), classes="se-hint")
            with html.Div(
                v_for=f"bar in {self.name('bars')}", key="bar.name", classes="se-bar-row"
            ):
                html.Span("{{ bar.name }}", classes="se-bar-name", title=("bar.name",))
                with html.Div(classes="se-bar"):
                    html.Div(style=("{width: 100 * bar.share + '%'}",), classes="se-bar-fill")
                html.Span("{{ bar.text }}", classes="se-bar-text")

    def add(self, opened: Sequence[OpenImage]) -> None:
        """Offers images that were opened, and gives them the channels that they are meant for."""
        fresh = range(len(self.open), len(self.open) + len(opened))
        self.open += opened
        self.put(items=[{"title": one.name, "value": n} for n, one in enumerate(self.open)])
        self._assign(fresh)

    def forget(self) -> None:
        """No image is open any more."""
        self.open, self._input, self._in_views, self._asked = [], None, None, None
        self.put(items=[], channels=[], bars=[], notes=[])

    def classifier_changed(self) -> None:
        """Offers a choice for each channel, filled in where names tell."""
        self._assign(())

    def chosen(self) -> list[OpenImage]:
        """The image of each channel.

        Raises:
            InputError: One is missing, or no classifier is open.
        """
        classifier = self.viewer.opened_classifier()
        rows = self.get("channels")
        chosen = [self.open[row["image"]] for row in rows if row["image"] is not None]
        if chosen and opened_images.takes_colour(chosen[0], classifier):
            return chosen[:1]
        for row in rows:
            if row["image"] is None:
                raise InputError(ErrorCode.SELECTION, f"Choose a volume for {row['name']}.")
        return chosen

    def image(self) -> OpenImage | None:
        """The image in the views, which maps belong to: the first that is a channel.

        Where none is, as for a classifier whose channels no name tells, it is the first that
        was opened.
        """
        for row in self.get("channels"):
            if row["image"] is not None:
                return self.open[row["image"]]
        return self.open[0] if self.open else None

    def backgrounds(self) -> list[int]:
        """Which of the open images could be backgrounds: they are no channel and hold all.

        A file of one channel is no background for a classifier of several.
        """
        classifier = self.viewer.opened_classifier()
        used = {row["image"] for row in self.get("channels")}
        return [
            n
            for n, one in enumerate(self.open)
            if n not in used
            and (len(classifier.channels) == 1 or opened_images.takes_colour(one, classifier))
        ]

    async def input(self) -> Input:
        """What the classifier looks at; read once for each choice of images."""
        chosen, classifier = self.chosen(), self.viewer.opened_classifier()
        key = (classifier.key, *map(id, chosen))
        if self._input is None or self._input[0] != key:
            read = await self.viewer.runner.call(opened_images.read_input, chosen, classifier)
            self._input = (key, read)
        return self._input[1]

    def why_not_ready(self) -> str:
        """Why nothing can be asked about the volumes, in words; empty: it can."""
        if not self.open:
            return "Open an image: drop it on the page, or use Open."
        try:
            self.chosen()
        except InputError as error:
            return str(error)
        return ""

    def predict(self) -> None:
        """Asks for the class probabilities."""
        self.work(self._predict(), "Predicting …")

    def show_prediction(self, classes: Sequence[str], probabilities: Sequence[float]) -> None:
        """Shows the probabilities as bars, the most likely class first."""
        order = sorted(range(len(classes)), key=lambda i: -probabilities[i])
        self.put(
            bars=[
                {"name": classes[i], "share": probabilities[i], "text": f"{probabilities[i]:.3f}"}
                for i in order
            ]
        )

    async def _predict(self) -> None:
        read = await self.input()
        key = self.viewer.opened_classifier().key
        result: Prediction = await self.viewer.runner.job(
            lambda engine: PredictRequest(key, engine.put(read.volume)),
            started=self.started,
            progress=self.show_progress,
        )
        self.show_prediction(result.classes, result.probabilities)
        self.put(notes=[*read.notes, *result.notes])

    def _assign(self, fresh: Sequence[int]) -> None:
        """Fills the channels: what was chosen stays, unless a fresh image is meant for its place.

        An image that was opened is meant to be looked at: were it only offered, the views would
        show one image and the answers be about another.
        """
        classifier = self.viewer.classifier
        names = list(classifier.channels) if classifier else ["Volume"]
        known = {row["name"]: row["image"] for row in self.get("channels")}
        chosen: list[int | None] = [known.get(name) for name in names]
        for i, found in enumerate(self._meant(names, fresh)):
            chosen[i] = chosen[i] if found is None else found
        free = [n for n in range(len(self.open)) if n not in chosen]
        wanting = [i for i, image in enumerate(chosen) if image is None]
        guessed = self._meant([names[i] for i in wanting], free)
        if all(found is None for found in guessed) and len(wanting) == len(free):
            guessed = list(free)
        for i, found in zip(wanting, guessed, strict=True):
            chosen[i] = found
        self.put(
            channels=[
                {"name": name, "image": image} for name, image in zip(names, chosen, strict=True)
            ]
        )
        self._chosen_changed()

    def _meant(self, names: Sequence[str], numbers: Sequence[int]) -> list[int | None]:
        """Which of these images is meant for each channel, as the user or its name says."""
        said = {(self.open[n].channel or "").lower(): n for n in numbers if self.open[n].channel}
        found = [said.get(name.lower()) for name in names]
        left = [i for i, image in enumerate(found) if image is None]
        free = [n for n in numbers if n not in found]
        if len(names) == 1 and left and free:
            # All of them could be it: the first is shown, the others are offered.
            return [free[0]]
        guessed = guess_channels([names[i] for i in left], [self.open[n].name for n in free])
        for i, guess in zip(left, guessed, strict=True):
            found[i] = None if guess is None else free[guess]
        return found

    def _chosen_changed(self) -> None:
        classifier, image = self.viewer.classifier, self.image()
        asked = (classifier and classifier.key, *(row["image"] for row in self.get("channels")))
        if asked == self._asked and image is self._in_views:
            # What is put into the page's state comes back as a change; it is none.
            return
        self._asked = asked
        self.drop()
        if image is not None and image is not self._in_views:
            self._in_views = image
            show_layers(self.viewer.scene, image.node)
            self.viewer.views.show_whole(image.node)
            self.viewer.image_shown()
        self.put(bars=[], why=self.why_not_ready())
        self.viewer.input_changed()
