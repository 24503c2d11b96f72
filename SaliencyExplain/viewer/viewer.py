"""The viewer: one scene, one engine, one page, and the sections that stand between them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from trame_server import Server

from SaliencyExplain.engine.interface import ClassifierInfo, Engine
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.scene.attributions import attributions_of, remove_attribution
from SaliencyExplain.viewer.classifier_part import ClassifierPart
from SaliencyExplain.viewer.compare_part import ComparePart
from SaliencyExplain.viewer.display_part import DisplayPart
from SaliencyExplain.viewer.evaluation_part import EvaluationPart
from SaliencyExplain.viewer.explain_part import ExplainPart
from SaliencyExplain.viewer.open_part import OpenPart
from SaliencyExplain.viewer.opened_images import OpenImage
from SaliencyExplain.viewer.page_settings import Settings
from SaliencyExplain.viewer.page_words import words_of
from SaliencyExplain.viewer.part import Part
from SaliencyExplain.viewer.probe_part import ProbePart
from SaliencyExplain.viewer.runner import Runner
from SaliencyExplain.viewer.study_part import StudyPart
from SaliencyExplain.viewer.views import Views
from SaliencyExplain.viewer.volumes_part import VolumesPart


class Viewer:
    """Holds the sections together: each tells it what has changed, and it tells the others.

    Attributes:
        server: trame's server.
        state: The page's state.
        settings: What it was started with.
        runner: Asks the engine.
        views: The views over the scene.
        scene: The MRML scene, touched on the page's loop alone.
        classifier: The open classifier; None before.
        methods: Descriptions of the engine's methods.
        segmentation: The ground truth's node; None before.
        segmented: The image that was in the views when it was opened.
    """

    def __init__(self, server: Server, engine: Engine, settings: Settings) -> None:
        self.server = server
        self.state: Any = server.state
        self.settings = settings
        self.runner = Runner(engine)
        self.views = Views(server)
        self.scene = self.views.scene
        self.classifier: ClassifierInfo | None = None
        self.methods: Sequence[Mapping[str, Any]] = ()
        self.segmentation: Any = None
        self.segmented: OpenImage | None = None
        self.state.update({"page_error": "", "page_details": "", "pages": 0})
        self._tasks: set[asyncio.Task[Any]] = set()
        self.open = OpenPart(self)
        self.classifiers = ClassifierPart(self)
        self.volumes = VolumesPart(self)
        self.explain = ExplainPart(self)
        self.display = DisplayPart(self)
        self.probe = ProbePart(self)
        self.compare = ComparePart(self)
        self.evaluation = EvaluationPart(self)
        self.study = StudyPart(self)
        self.parts: tuple[Part, ...] = (
            *([self.study] if settings.study is not None else []),
            self.open,
            self.classifiers,
            self.volumes,
            self.explain,
            self.probe,
            self.display,
            self.compare,
            self.evaluation,
        )

    @property
    def shown(self) -> OpenImage | None:
        """The image in the views, which maps and segments belong to; None before."""
        return self.volumes.image()

    def open_all(self) -> None:
        """Opens what the settings name, once the page's loop runs."""
        asyncio.get_running_loop().set_exception_handler(
            lambda _, said: self.fail(said.get("exception") or RuntimeError(said["message"]))
        )
        self.volumes.classifier_changed()
        if self.settings.classifier is not None:
            self.classifiers.open(self.settings.classifier)
        if self.settings.images:
            self.open.open_images(self.settings.images, self.settings.segmentation)

    def fail(self, error: BaseException) -> None:
        """Says at the top of the panel what went wrong outside of its sections."""
        line, details = words_of(error)
        with self.state as state:
            state.update({"page_error": line, "page_details": details})

    def pages_changed(self, more: int) -> None:
        """A page has come or gone."""
        with self.state as state:
            state.pages = max(0, state.pages + more)

    def later(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Runs something whose result nobody waits for."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done_later)

    def opened_classifier(self) -> ClassifierInfo:
        """The open classifier.

        Raises:
            InputError: None is open.
        """
        if self.classifier is None:
            raise InputError(ErrorCode.SELECTION, "Open a classifier.")
        return self.classifier

    def set_classifier(
        self, classifier: ClassifierInfo | None, methods: Sequence[Mapping[str, Any]]
    ) -> None:
        """Another classifier is open, or none for the moment."""
        self.classifier, self.methods = classifier, methods
        self.explain.classifier_changed()
        self.probe.classifier_changed()
        self.volumes.classifier_changed()

    def image_shown(self) -> None:
        """Another image is in the views."""
        self.display.image_shown()
        self.compare.forget()

    def segmentation_opened(self, node: Any) -> None:
        """A ground truth has come; it takes the place of the one before."""
        if self.segmentation is not None:
            self.scene.RemoveNode(self.segmentation)
        self.segmentation, self.segmented = node, self.shown
        self.display.segments_changed()
        self.explain.beside_changed()
        self.compare.forget()

    def close_images(self) -> None:
        """Takes all images out of the scene, with their maps and segments."""
        for part in (self.explain, self.probe, self.compare, self.evaluation, self.volumes):
            part.drop()
        for node in attributions_of(self.scene):
            remove_attribution(node)
        for node in (self.segmentation, *(image.node for image in self.volumes.open)):
            if node is not None:
                self.scene.RemoveNode(node)
        self.segmentation = self.segmented = None
        self.volumes.forget()
        self.display.image_shown()
        self.display.segments_changed()

    def unfold(self, section: str) -> None:
        """Opens a section of the panel, so that what it says is seen."""
        if section not in self.state.open_sections:
            with self.state as state:
                state.open_sections = [*state.open_sections, section]

    def input_changed(self) -> None:
        """Other images are the classifier's channels, or another classifier looks at them."""
        self.explain.input_changed()
        self.probe.input_changed()
        self.evaluation.input_changed()

    def maps_changed(self, maps: Sequence[Any]) -> None:
        """Maps have come, or grown finer."""
        self.display.maps_changed(maps)
        self.compare.changed()
        self.evaluation.changed()
        self.probe.maps_changed()

    def _done_later(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.fail(error)

    def close(self) -> None:
        """Ends all that runs."""
        self.runner.close()
        self.runner.engine.close()
