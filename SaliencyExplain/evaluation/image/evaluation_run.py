"""The work of an evaluation: maps, what is done to them, and what is made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TypeVar

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from SaliencyExplain.attribution.method import Method, check_finite_map
from SaliencyExplain.errors import DeviceMemoryError, InputError
from SaliencyExplain.evaluation.image.answers import (
    beats_chance,
    depends_on_weights,
    is_on_segment,
    is_stable,
)
from SaliencyExplain.evaluation.image.changed_maps import MapMaker, Maps, map_on_network_grid
from SaliencyExplain.evaluation.image.channel_importance import (
    MOST_CHANNELS,
    channel_importance,
    check_modalities,
    feature_importance,
)
from SaliencyExplain.evaluation.image.cost import Cost
from SaliencyExplain.evaluation.image.evaluated_maps import MapPictures
from SaliencyExplain.evaluation.image.evaluation_passes import Work
from SaliencyExplain.evaluation.image.null_distribution import FaithfulnessEvaluator
from SaliencyExplain.evaluation.image.randomisation import sanity
from SaliencyExplain.evaluation.image.removal_order import check_ranks
from SaliencyExplain.evaluation.image.robustness import stability
from SaliencyExplain.evaluation.image.segment_agreement import SegmentAgreement
from SaliencyExplain.evaluation.image.similarity import similarity
from SaliencyExplain.explanation.loaded_references import reference_hashes
from SaliencyExplain.explanation.prepared_case import PreparedCase
from SaliencyExplain.figures import EACH_SEGMENT
from SaliencyExplain.images.body import body_mask
from SaliencyExplain.images.grid_masks import label_map_on
from SaliencyExplain.images.segmentation import Segmentation
from SaliencyExplain.method_failures import MethodFailures
from SaliencyExplain.peak import RESOLUTION_MM
from SaliencyExplain.pictures.reading_aids import grey_window
from SaliencyExplain.progress import Progress
from SaliencyExplain.records.agreement_row import Row
from SaliencyExplain.results.channel_results import ChannelImportance, FeatureImportance
from SaliencyExplain.results.evaluation_results import Answer
from SaliencyExplain.results.image_evaluation import MapEvaluation, MapPair
from SaliencyExplain.results.map_changes import Sanity, Stability

Found = TypeVar("Found")

#: Anatomy that fills less than this share of an image, or all but this share, tells nothing
#: of where the air is; the borders of :func:`body_mask`.
_LEAST_ANATOMY = 0.02

_NOT_ASKED = "This part of the evaluation was not requested."
_FROM_FILE = "The map came from a file: how it is computed is not known here."


class EvaluationRun:
    """One run of an evaluation.

    Args:
        case: The image and the classifier.
        cost: How many maps are computed, and what that was estimated to cost.
        parts: Which of the parts.
        seed: Random seed.
        name: Name of the case; with the seed it draws the random control map.
        progress: Told of forward passes done and to do; may raise Cancelled.

    Attributes:
        maps: The evaluation of each map.
        pictures: By label what the pictures of a map show.
        pairs: Agreement among methods and layers.
        channels: Importance of the channels.
        notes: What a user should be told.
        failures: Of the methods that gave no map.
        work: The forward passes so far.
    """

    def __init__(
        self,
        case: PreparedCase,
        cost: Cost,
        parts: Sequence[str],
        seed: int,
        name: str,
        progress: Progress,
    ) -> None:
        self.maps: list[MapEvaluation] = []
        self.pictures: dict[str, MapPictures] = {}
        self.pairs: list[MapPair] = []
        self.channels: ChannelImportance | None = None
        self.notes: list[str] = []
        self.failures = MethodFailures()
        self.work = Work(cost.forward_passes, progress)
        self._case = case
        self._cost_tier = cost.cost_tier
        self._compared = cost.compared
        self._parts = parts
        self._task = case.task(seed)
        self._image = case.image_in_network_axes
        self._image_body = body_mask(self._image)
        anatomy = self._image_body if self._image_body is not None else _anatomy(self._image)
        self._body = None if anatomy is None else self._on_network_grid(anatomy)
        self._faithful: FaithfulnessEvaluator | None = None
        self._agreement = SegmentAgreement(case, self._image_body, name, seed)
        self.notes += self._agreement.notes()
        self._given_segments: dict[str, tuple[str, ...]] = {}

    def run(
        self,
        methods: Sequence[Method],
        given_maps: Mapping[str, MetaTensor],
        modalities: Mapping[str, Segmentation],
    ) -> None:
        """Evaluates the maps of these methods, and the given ones."""
        classifier = self._case.classifier
        check_modalities(modalities, classifier.channels)
        self._resolutions: dict[tuple[str, str], float] = {}
        makers: list[MapMaker] = []
        originals: list[Maps] = []
        # A GPU whose memory is short is left for the CPU, with all methods.
        on_cpu = self._task.input.device.type == "cpu"
        for method in methods:
            with self.failures.of(method.name, () if on_cpu else DeviceMemoryError):
                maker = MapMaker(method, method.forward_passes(self._task), self.work)
                maps = self._original(maker)
                for values in maps.values():
                    check_finite_map(method.name, values)
                makers.append(maker)
                originals.append(maps)
        if not makers and not given_maps:
            return
        others = {
            name: map_on_network_grid(values, classifier, self._case.input, self._case.image)
            for name, values in given_maps.items()
        }
        if "channels" in self._parts and 2 <= len(classifier.channels) <= MOST_CHANNELS:
            with self.work.part(2.0 ** len(classifier.channels)) as progress:
                self.channels = channel_importance(
                    self._task, classifier.channels, progress=progress
                )
        if "faithfulness" in self._parts:
            self._faithful = FaithfulnessEvaluator(
                self._task,
                self._body,
                self.work,
                random_maps=self._cost_tier.random_maps,
                seed=self._task.seed,
            )
        masks = {name: _union(found) for name, found in modalities.items()}
        for maker, maps in zip(makers, originals, strict=True):
            self._evaluate_method(maker, maps, masks)
        if masks and self.channels is None:
            self.notes.append(
                "The modality-specific feature importance was not computed: it wants the part "
                f"channels, and a classifier of 2 to {MOST_CHANNELS} channels."
            )
        for name, values in others.items():
            said = given_maps[name].meta
            self._resolutions[name, ""] = float(said.get(RESOLUTION_MM, 0.0))
            self._given_segments[name] = tuple(said.get(EACH_SEGMENT, ()))
            self._add(name, None, "", values, None, None, (_FROM_FILE, _FROM_FILE), None, masks)
        if "agreement" in self._parts:
            self._compare_all(makers, originals, others)

    def _original(self, maker: MapMaker) -> Maps:
        """The maps of a method; what they resolve is kept."""

        def keep(layer: str, resolution_mm: float) -> None:
            self._resolutions[maker.method.name, layer] = resolution_mm

        return maker.maps(replace(self._task, resolution=keep))

    def _evaluate_method(
        self, maker: MapMaker, maps: Maps, masks: Mapping[str, NDArray[np.bool_]]
    ) -> None:
        cost_tier = self._cost_tier
        sane: dict[str, Sanity] = {}
        stable: dict[str, Stability] = {}
        reasons = [_NOT_ASKED, _NOT_ASKED]
        if "sanity" in self._parts:
            sane, reasons[0] = _or_reason(
                lambda: sanity(
                    maker,
                    self._task,
                    maps,
                    self._body,
                    stages=cost_tier.stages,
                    draws=cost_tier.draws,
                    independent=cost_tier.independent,
                )
            )
        if "stability" in self._parts:
            stable, reasons[1] = _or_reason(
                lambda: stability(maker, self._task, maps, self._body, cost_tier)
            )
        apart = maker.channel_maps(self._task, maps) if masks and self.channels else None
        for layer, values in maps.items():
            self._add(
                maker.method.name,
                maker.method,
                layer,
                values,
                sane.get(layer),
                stable.get(layer),
                (reasons[0], reasons[1]),
                apart,
                masks,
            )

    def _add(
        self,
        name: str,
        method: Method | None,
        layer: str,
        values: NDArray[np.float32],
        sane: Sanity | None,
        stable: Stability | None,
        reasons: tuple[str, str],
        apart: Maps | None,
        masks: Mapping[str, NDArray[np.bool_]],
    ) -> None:
        """Puts together what is known of a map, and what it says."""
        case = self._case
        label = f"{name}@{layer}" if layer else name
        channel = (method.channel_of(layer, self._task) if method else None) or 0
        notes: list[str] = []
        faithful, images, reason = None, None, _NOT_ASKED
        try:
            check_ranks(values)
        except InputError as error:
            notes.append(str(error))
            sane = stable = None
            reason, reasons = str(error), (str(error), str(error))
        else:
            if self._faithful is not None:
                faithful, images = self._faithful.with_images(values, channel)
        restored = case.restore(torch.from_numpy(values))
        resolution_mm = self._resolutions.get((name, layer), 0.0)
        own: Sequence[str] = self._given_segments.get(name, ())
        if method is not None:
            own = reference_hashes(case.references, method).get(EACH_SEGMENT, ())
        found = self._agreement.rows(label, restored, resolution_mm, own)
        self.pictures[label] = MapPictures(restored, images)
        self.maps.append(
            MapEvaluation(
                label=label,
                method="" if method is None else method.name,
                layer=layer,
                parameters={} if method is None else asdict(method.resolved(self._task)),
                signed=bool(values.min() < 0) if method is None else method.signed,
                faithfulness=faithful,
                sanity=sane,
                stability=stable,
                rows=tuple(found),
                msfi=self._msfi(restored, apart, masks, notes),
                answers=(
                    beats_chance(faithful, reason, case.target_name),
                    depends_on_weights(sane, reasons[0], body_known=self._image_body is not None),
                    is_stable(stable, reasons[1], case.target_probability),
                    *self._on_segments(found, label),
                ),
                notes=tuple(notes),
                resolution_mm=resolution_mm,
                channel=channel,
            )
        )

    def _on_segments(self, found: Sequence[Row], label: str) -> list[Answer]:
        names = dict.fromkeys(row.segment for row in found)
        return [is_on_segment(found, label, name) for name in names]

    def _msfi(
        self,
        values: NDArray[np.float32],
        apart: Maps | None,
        masks: Mapping[str, NDArray[np.bool_]],
        notes: list[str],
    ) -> FeatureImportance | None:
        """The MSFI of the maps of the channels; of the one map where they have none apart."""
        if not masks or self.channels is None:
            return None
        case = self._case
        maps = dict.fromkeys(masks, values)
        if apart is not None:
            missing = [name for name in masks if name not in apart]
            if missing:
                notes.append(f"No MSFI: the method has no map of the channel {missing[0]}.")
                return None
            maps = {name: case.restore(apart[name]) for name in masks}
        body = self._image_body
        return feature_importance(
            maps,
            masks,
            self.channels,
            None if body is None else body.reshape(values.shape),
            per_channel=apart is not None,
        )

    def _compare_all(
        self,
        makers: Sequence[MapMaker],
        originals: Sequence[Maps],
        others: Mapping[str, NDArray[np.float32]],
    ) -> None:
        named = {
            f"{maker.method.name}@{layer}" if layer else maker.method.name: values
            for maker, maps in zip(makers, originals, strict=True)
            for layer, values in maps.items()
        }
        self._compare("methods", {**named, **others})
        for method in self._compared:
            self._compare("layers", self._layer_maps(method))

    def _layer_maps(self, method: Method) -> Maps:
        try:
            passes = method.forward_passes(self._task)
            found = MapMaker(method, passes, self.work).maps(self._task)
        except InputError as error:
            self.notes.append(f"Layers were not compared: {error}")
            return {}
        return {f"{method.name}@{layer}": values for layer, values in found.items()}

    def _compare(self, kind: str, maps: Mapping[str, NDArray[np.float32]]) -> None:
        labels = list(maps)
        for number, first in enumerate(labels):
            for second in labels[number + 1 :]:
                alike = similarity(maps[first], maps[second], self._body)
                self.pairs.append(MapPair(kind, first, second, alike))

    def _on_network_grid(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        prepared = self._case.input
        found = label_map_on(
            [mask],
            self._image.affine.numpy().astype(np.float64),
            prepared.affine.numpy().astype(np.float64),
            tuple(prepared.shape[1:]),
        )
        return found > 0


def _anatomy(image: MetaTensor) -> NDArray[np.bool_] | None:
    """What is brighter than the background, where the body's outline cannot be told."""
    values = image[0].as_tensor().numpy()
    mask = values > grey_window(values).background
    return mask if _LEAST_ANATOMY <= mask.mean() <= 1 - _LEAST_ANATOMY else None


def _or_reason(compute: Callable[[], dict[str, Found]]) -> tuple[dict[str, Found], str]:
    """What is computed, or the reason why it cannot be."""
    try:
        return compute(), ""
    except InputError as error:
        return {}, str(error)


def _union(segmentation: Segmentation) -> NDArray[np.bool_]:
    """All segments of a segmentation together."""
    return np.any([segment.mask for segment in segmentation.segments], axis=0)
