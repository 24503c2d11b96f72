"""What the module does, without Qt: questions to an engine, answers into a MRML scene."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from SaliencyExplain.engine.client.local_references import LocalReferences
from SaliencyExplain.engine.interface import Engine
from SaliencyExplain.engine.wire.requests import (
    CompareRequest,
    EstimateRequest,
    ExplainRequest,
    PredictRequest,
    ProbeRequest,
)
from SaliencyExplain.errors import ErrorCode, InputError, SaliencyExplainError
from SaliencyExplain.results.attribution_map import Attribution
from SaliencyExplain.results.image_explanation import Explanation
from SaliencyExplain.scene.arrays import on_axes
from SaliencyExplain.scene.attributions import (
    add_attribution,
    read_attribution,
    update_attribution,
)
from SaliencyExplain.specification.spec import (
    DEFAULT_LIMITS,
    ExplainSpec,
    Limits,
    MethodChoice,
)
from SaliencyExplain.specification.target import Target
from SaliencyExplain.voxel_volume import Volume

from .BackgroundCalls import BackgroundCalls
from .Failures import Failure
from .Images import Beside, SentImage, comparable_image, read_image, segment_masks
from .Jobs import Job, nothing
from .Questions import Questions

#: Probes of one stream replace each other in the engine.
POINT_STREAM, SEGMENT_STREAM = "point", "segment"

NOTHING = Beside()


class SaliencyExplainLogic(Questions):
    """Sends requests to an engine and adds the results to a scene; no call waits.

    Where the engine is lost, ``engine_lost`` is called once, and the scene stays as it is.

    Attributes:
        scene: The MRML scene.
    """

    def __init__(
        self, engine: Engine | None = None, scene: Any = None, calls: BackgroundCalls | None = None
    ) -> None:
        super().__init__(engine, calls)
        self.scene = scene
        self._image: SentImage | None = None
        self._scene_jobs: weakref.WeakSet[Job] = weakref.WeakSet()
        self._newest: weakref.WeakValueDictionary[str, Job] = weakref.WeakValueDictionary()

    def set_engine(self, engine: Engine | None) -> None:
        """Goes over to another engine; a classifier has to be opened there anew."""
        self.forget_scene()
        self.engine = engine
        self.classifier = None

    def forget_scene(self) -> None:
        """Drops all jobs whose answers belong into the scene as it was until now."""
        for job in list(self._scene_jobs):
            job.drop()
        self._scene_jobs.clear()
        self._image = None

    def predict(self, nodes: Sequence[Any], **callbacks: Any) -> Job:
        """Requests the class probabilities; ``done`` gets a ``Prediction``.

        Args:
            nodes: A volume node for each channel.
            **callbacks: ``progress``, ``done``, ``failed``, ``cancelled`` of :class:`Job`.

        Raises:
            InputError: No engine, no classifier, or the volumes cannot be used.
        """
        image, key = self.read(nodes), self.opened_classifier().key
        return self.start(
            lambda engine: PredictRequest(key, engine.put(image.volume)), image, callbacks
        )

    def estimate(
        self,
        nodes: Sequence[Any],
        methods: Mapping[str, Mapping[str, Any]],
        target: str,
        *,
        beside: Beside = NOTHING,
        **callbacks: Any,
    ) -> Job:
        """Requests the cost of an explanation; ``done`` gets an ``Estimate``."""
        image = self.read(nodes)
        make = self._explain_request(image, methods, target, beside)
        return self.start(lambda engine: EstimateRequest(make(engine)), image, callbacks)

    def explain(
        self,
        nodes: Sequence[Any],
        methods: Mapping[str, Mapping[str, Any]],
        *,
        target: str = "predicted",
        seed: int = 0,
        limits: Limits = DEFAULT_LIMITS,
        beside: Beside = NOTHING,
        shown: Callable[[list[Any]], None] = nothing,
        done: Callable[[Explanation], None] = nothing,
        failed: Callable[[Failure], None] = nothing,
        **callbacks: Any,
    ) -> Job:
        """Requests attributions and adds them to the scene, coarse ones as soon as they come.

        Args:
            nodes: A volume node for each channel.
            methods: ``{method: {parameter: value}}``, parameters that are not the default.
            target: A class, or ``predicted``.
            seed: Random seed.
            limits: What the computation may take.
            beside: Segmentation and backgrounds, for the methods that ask for them.
            shown: Given the attribution nodes each time when they were added or grew finer.
            done: Given the result when all maps are in the scene.
            failed: Told why there is none.
            **callbacks: ``progress`` and ``cancelled`` of :class:`Job`.

        Raises:
            InputError: No engine, classifier or method, or the volumes cannot be used.
        """
        if not methods:
            raise InputError(ErrorCode.SELECTION, "Choose at least one method.")
        image = self.read(nodes)
        grown: dict[str, Any] = {}

        def show(result: Explanation) -> None:
            image.check_unchanged(self.scene)
            for map_ in result.attributions:
                grown[map_.label] = self._put_map(grown.get(map_.label), image, map_)
            shown(list(grown.values()))

        def finish(result: Explanation) -> None:
            try:
                show(result)
            except SaliencyExplainError as error:
                failed(Failure.of(error))
            else:
                done(result)

        def show_partial(result: Explanation) -> None:
            if self._is_there(image):
                show(result)

        return self.start(
            self._explain_request(image, methods, target, beside, seed, limits),
            image,
            {**callbacks, "done": finish, "failed": failed},
            partial=show_partial,
        )

    def probe(
        self,
        nodes: Sequence[Any],
        point: tuple[float, float, float],
        radii_mm: Sequence[float],
        *,
        fill: str = "mean",
        **callbacks: Any,
    ) -> Job:
        """Requests the contribution of the balls around a place; ``done`` gets a ``Probe``.

        A newer probe of a point replaces those before, also in the engine.
        """
        image, key = self.read(nodes), self.opened_classifier().key
        return self._start_newer(
            POINT_STREAM,
            lambda engine: ProbeRequest(
                key,
                engine.put(image.volume),
                point_ras=point,
                radii_mm=tuple(radii_mm),
                fill=fill,
                stream=POINT_STREAM,
            ),
            image,
            callbacks,
        )

    def probe_segment(
        self,
        nodes: Sequence[Any],
        segmentation: Any,
        segment_id: str,
        *,
        fill: str = "mean",
        **callbacks: Any,
    ) -> Job:
        """Requests the contribution of a whole segment; ``done`` gets a ``Probe``.

        Args:
            nodes: A volume node for each channel.
            segmentation: A segmentation or label map node, on any grid.
            segment_id: The segment's ID.
            fill: What stands in its place.
            **callbacks: Of :class:`Job`.
        """
        image, key = self.read(nodes), self.opened_classifier().key
        masks, names, notes = segment_masks(image, segmentation, [segment_id])
        mask = Volume(masks.values[0], masks.affine)
        return self._start_newer(
            SEGMENT_STREAM,
            lambda engine: ProbeRequest(
                key,
                engine.put(image.volume),
                segment=engine.put(mask),
                segment_name=names[0],
                segment_notes=notes,
                fill=fill,
                stream=SEGMENT_STREAM,
            ),
            image,
            callbacks,
        )

    def compare(
        self,
        image_node: Any,
        maps: Sequence[Any],
        segmentation: Any,
        segment_ids: Sequence[str] | None = None,
        **callbacks: Any,
    ) -> Job:
        """Requests the agreement of maps with segments; ``done`` gets a ``CompareResult``.

        Args:
            image_node: The volume that the maps explain.
            maps: Attribution nodes for one class.
            segmentation: A segmentation or label map node, on any grid.
            segment_ids: Which of its segments; None: all.
            **callbacks: Of :class:`Job`.

        Raises:
            InputError: No engine or map, maps for several classes, or an empty segmentation.
        """
        read = {node.GetName(): read_attribution(node) for node in maps}
        targets = sorted({map_.target_name for map_ in read.values()})
        if not read:
            raise InputError(ErrorCode.SELECTION, "This volume has no map yet. Explain it first.")
        if len(targets) > 1:
            raise InputError(
                ErrorCode.OPTION_CONFLICT,
                f"The maps explain different classes: {', '.join(targets)}.",
            )
        image = comparable_image(image_node)
        segments, names, notes = segment_masks(image, segmentation, segment_ids)
        axes = image.volume.values.ndim - 1
        values = {
            name: Volume(on_axes(map_.values, axes).astype(np.float32), map_.affine)
            for name, map_ in read.items()
        }
        return self.start(
            lambda engine: CompareRequest(
                engine.put(image.volume),
                {name: engine.put(volume) for name, volume in values.items()},
                targets[0],
                engine.put(segments),
                names,
                notes,
                resolutions_mm={name: map_.resolution_mm for name, map_ in read.items()},
                fields_of_view={
                    name: map_.field_of_view
                    for name, map_ in read.items()
                    if map_.field_of_view is not None
                },
                own_segments={name: map_.own_segments for name, map_ in read.items()},
            ),
            image,
            callbacks,
        )

    def read(self, nodes: Sequence[Any]) -> SentImage:
        """The image of these nodes for the classifier; unchanged ones are read once.

        Raises:
            InputError: No classifier is open, or the volumes cannot be used.
        """
        classifier = self.opened_classifier()
        known = self._image
        if known is not None and known.nodes == tuple(nodes) and self._is_there(known):
            return known
        self._image = read_image(nodes, classifier)
        return self._image

    def _is_there(self, image: SentImage) -> bool:
        try:
            image.check_unchanged(self.scene)
        except InputError:
            return False
        return True

    def references(self, image: SentImage, beside: Beside) -> LocalReferences:
        """What is given beside an image; a background with several channels cannot be given."""
        # A node has one channel's voxels.
        backgrounds = tuple(
            read_image([node], self.opened_classifier()).volume for node in beside.backgrounds
        )
        if beside.segmentation is None:
            return LocalReferences(backgrounds=backgrounds)
        return LocalReferences(*segment_masks(image, beside.segmentation, None), backgrounds)

    def _explain_request(
        self,
        image: SentImage,
        methods: Mapping[str, Mapping[str, Any]],
        target: str,
        beside: Beside,
        seed: int = 0,
        limits: Limits = DEFAULT_LIMITS,
    ) -> Callable[[Engine], ExplainRequest]:
        classifier = self.opened_classifier()
        choices = tuple(MethodChoice(name, dict(chosen)) for name, chosen in methods.items())
        references, wanted = self.references(image, beside), Target.parse(target)

        def make(engine: Engine) -> ExplainRequest:
            spec = ExplainSpec(choices, wanted, seed, limits, references.send(engine))
            return ExplainRequest(classifier.key, engine.put(image.volume), spec)

        return make

    def _put_map(self, node: Any, image: SentImage, attribution: Attribution) -> Any:
        if node is not None and self.scene.IsNodePresent(node):
            update_attribution(node, attribution)
            return node
        return add_attribution(self.scene, attribution, image.node, image.nodes)

    def _start_newer(
        self,
        stream: str,
        begin: Callable[[Engine], Any],
        image: SentImage,
        callbacks: Mapping[str, Any],
    ) -> Job:
        """Starts a job in the place of the one before of that stream, which is given up first."""
        before = self._newest.get(stream)
        if before is not None:
            before.cancel()
        job = self._newest[stream] = self.start(begin, image, callbacks)
        return job

    def start(
        self,
        begin: Callable[[Engine], Any],
        image: SentImage,
        callbacks: Mapping[str, Any],
        **more: Any,
    ) -> Job:
        """Starts a job whose answer belongs into the scene as it is now."""
        job = self._follow(begin, callbacks, **more)
        self._scene_jobs.add(job)
        return job
