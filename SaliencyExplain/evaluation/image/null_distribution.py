"""Faithfulness of a map compared with null maps and control maps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.attribution.network.frozen_network import plain
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.evaluation.image.evaluation_passes import Work
from SaliencyExplain.evaluation.image.image_controls import CENTRE, MOST_CONTROLS, control_maps
from SaliencyExplain.evaluation.image.infidelity import InfidelityMaker
from SaliencyExplain.evaluation.image.null_maps import NullMaps
from SaliencyExplain.evaluation.image.partial_images import KINDS, PartialImages, RandomRanking
from SaliencyExplain.evaluation.image.removal_baselines import (
    CHOICE_PASSES,
    Baseline,
    choose_baseline,
)
from SaliencyExplain.evaluation.image.removal_curves import (
    CurveMaker,
    passes_of_a_null_map,
)
from SaliencyExplain.results.evaluation_results import Metric
from SaliencyExplain.results.map_faithfulness import (
    Faithfulness,
    Infidelity,
    InformationCurve,
    MapCurves,
)


@dataclass(frozen=True)
class _Measured:
    """The measurements of a map, a null map or a control map."""

    curves: MapCurves
    infidelity: Infidelity


#: How a metric is read off what was measured, given the share up to which the map ranks.
_Reader = Callable[[_Measured, float], float]


def _information(kind: str, measure: str) -> _Reader:
    def read(measured: _Measured, _ranked: float) -> float:
        curves: dict[str, InformationCurve] = getattr(measured.curves, kind)
        return curves[measure].area if measure in curves else math.nan

    return read


#: Name, title, whether high is good, and how it is read off what was measured.
_METRICS: tuple[tuple[str, str, bool, _Reader], ...] = (
    ("deletion_area", "deletion area", False, lambda m, _: m.curves.deletion_area),
    ("insertion_area", "insertion area", True, lambda m, _: m.curves.insertion_area),
    (
        "deletion_ranked",
        "deletion over the ranked voxels",
        False,
        lambda m, share: m.curves.mean_up_to("deletion", share),
    ),
    (
        "insertion_ranked",
        "insertion over the ranked voxels",
        True,
        lambda m, share: m.curves.mean_up_to("insertion", share),
    ),
    ("mean_drop", "mean drop", True, lambda m, _: m.curves.mean_drop),
    ("infidelity", "infidelity", False, lambda m, _: m.infidelity.share),
    *(
        (f"{letters}_{measure}", f"{letters.upper()}, {words}", True, _information(kind, measure))
        for letters, kind in (("sic", "softmax_information"), ("aic", "accuracy_information"))
        for measure, words in (("compressed", "compressed size"), ("histogram", "histogram"))
    ),
)

#: A deletion or insertion curve is uninformative if neither the map nor a null map nor a control
#: map changes the probability by this much.
_LEAST_MOVED = 0.05

#: A value that this share of the voxels have is a plateau, whose voxels the map does not rank.
_PLATEAU = 0.02


class FaithfulnessEvaluator:
    """Holds maps of one image against null maps of their own, and against control maps.

    The control maps (:func:`control_maps`) are computed once for the image; the null maps
    (:class:`NullMaps`) are made of each map, so that they have its smoothness and its values.

    Args:
        task: Network, image and target.
        body: ``(*S)`` on the network's grid; None where it cannot be told.
        random_maps: Null maps of each map, at least one.
        seed: Of the null maps.
        work: Counts the forward passes.
        information: Whether the information curves are computed, which no answer needs and
            which in 2D take most of the time.

    Attributes:
        random_maps: Null maps of each map that is evaluated from now on. More of them begin with
            the same ones.
    """

    def __init__(
        self,
        task: Task,
        body: NDArray[np.bool_] | None,
        work: Work,
        *,
        random_maps: int,
        seed: int = 0,
        information: bool = True,
    ) -> None:
        self._work = work
        self._information = information
        image = plain(task.input)[0].cpu().numpy()
        self._image = image
        self.random_maps = random_maps
        self._nulls = NullMaps(image[0], body, seed=seed)
        with work.part(CHOICE_PASSES) as progress:
            self.baseline: Baseline = choose_baseline(task, progress)
        self._maker = CurveMaker(task, self.baseline, seed=seed)
        with work.part(self._maker.once) as progress:
            self._maker.prepare(progress)
        self._boxes = InfidelityMaker(task, self.baseline)
        with work.part(len(self._boxes.boxes)) as progress:
            self._boxes.prepare(progress)
        controls = control_maps(image, self._nulls.body, task.spacing)
        self._controls: dict[str, _Measured] = {}
        with work.part(MOST_CONTROLS * self._maker.passes) as progress:
            for number, (name, values) in enumerate(controls.items()):
                curves = self._maker.curves(values, information=information, fast=True)
                self._controls[name] = _Measured(curves, self._boxes.of(values))
                progress(number + 1, MOST_CONTROLS)

    def of(self, values: NDArray[np.floating]) -> Faithfulness:
        """The faithfulness of a map ``(*S)`` on the network's grid; see :meth:`with_images`."""
        return self.with_images(values)[0]

    def with_images(
        self, values: NDArray[np.floating], channel: int = 0
    ) -> tuple[Faithfulness, PartialImages]:
        """The faithfulness of a map, and what the classifier was shown on the way.

        Args:
            values: ``(*S)``.
            channel: The channel that the pictures show. Voxels are taken away in all.

        Raises:
            InputError: The map is constant or not finite.
        """
        with self._work.part(self._maker.passes) as progress:
            curves = self._maker.curves(values, progress, information=self._information)
        measured = _Measured(curves, self._boxes.of(values))
        copies = self._nulls.of(values, self.random_maps)
        nulls = []
        with self._work.part(self.random_maps * passes_of_a_null_map()) as progress:
            for number, copy in enumerate(copies):
                its = self._maker.curves(copy, information=False)
                nulls.append(_Measured(its, self._boxes.of(copy)))
                progress(number + 1, self.random_maps)
        ranked = curves.shares[int(np.searchsorted(curves.shares, ranked_share(values)))]
        random = {}
        for kind in KINDS:
            middle = _middle([getattr(one.curves, f"{kind}_area") for one in nulls])
            places = self._maker.places(copies[middle])
            random[kind] = RandomRanking(places, getattr(nulls[middle].curves, kind))
        images = PartialImages(
            image=self._image[channel],
            baseline=self.baseline.values[channel].cpu().numpy(),
            places=self._maker.places(values),
            curves=curves,
            random=random,
        )
        faithfulness = Faithfulness(
            curves=curves,
            metrics=tuple(self._metric(measured, nulls, ranked, *one) for one in _METRICS),
            null_deletion=_band([one.curves.deletion for one in nulls]),
            null_insertion=_band([one.curves.insertion for one in nulls]),
            ranked=ranked,
            baseline=self.baseline.words,
            infidelity=measured.infidelity,
            boxes=self._boxes.words,
            partial_images=images.probabilities(),
        )
        return faithfulness, images

    def _metric(
        self,
        measured: _Measured,
        nulls: Sequence[_Measured],
        ranked: float,
        name: str,
        title: str,
        higher: bool,
        read: _Reader,
    ) -> Metric:
        value = read(measured, ranked)
        null_values = tuple(read(one, ranked) for one in nulls)
        if all(math.isnan(one) for one in null_values):
            null_values = ()
        controls = {key: read(one, ranked) for key, one in self._controls.items()}
        known = {key: one for key, one in controls.items() if not math.isnan(one)}
        best = (max if higher else min)(known, key=lambda key: known[key]) if known else ""
        remark = self._remark(measured, name, (value, *null_values, *known.values()))
        beaten, p_value = (math.nan, math.nan)
        if not remark:
            beaten, p_value = compared_with_null(value, null_values, higher)
        return Metric(
            name=name,
            title=title,
            value=value,
            higher_is_better=higher,
            null_values=null_values,
            centre=controls[CENTRE],
            control=best,
            control_value=known.get(best, math.nan),
            beaten=beaten,
            p_value=p_value,
            remark=remark,
        )

    def _remark(self, measured: _Measured, name: str, found: Sequence[float]) -> str:
        """Why a metric is undefined or tells nothing."""
        curves = measured.curves
        if name == "infidelity":
            return measured.infidelity.remark
        if name in ("deletion_ranked", "insertion_ranked"):
            start = getattr(curves, name.partition("_")[0])[0]
            if max(abs(one - start) for one in found) < _LEAST_MOVED:
                return "no map of this size moves the classifier's answer"
            return ""
        letters, _, measure = name.partition("_")
        kinds = {"sic": curves.softmax_information, "aic": curves.accuracy_information}
        if measure not in kinds.get(letters, {}):
            return ""
        return kinds[letters][measure].remark


def ranked_share(values: NDArray[np.floating]) -> float:
    """The share of the voxels that a map ranks before its plateau, (0, 1].

    A mask is zero outside the segment, and half of a Grad-CAM is zero. Among voxels of equal
    value the order is random and not a property of the map. A map whose plateau is its largest
    value ranks all other voxels after it.
    """
    found, counts = np.unique(values, return_counts=True)
    most = int(counts.argmax())
    if counts[most] < _PLATEAU * values.size or most == found.size - 1:
        return 1.0
    return float(counts[most + 1 :].sum() / values.size)


def compared_with_null(
    value: float, null_values: Sequence[float], higher_is_better: bool
) -> tuple[float, float]:
    """Share of the null maps' values that are beaten, equal ones half, and the p-value.

    NaN where the value or all of the null maps' is undefined.
    """
    known = np.array([one for one in null_values if not math.isnan(one)])
    if math.isnan(value) or known.size == 0:
        return math.nan, math.nan
    # Sums of the same numbers in another order differ by rounding.
    known = np.where(np.isclose(known, value, rtol=1e-9, atol=1e-12), value, known)
    better = known < value if higher_is_better else known > value
    beaten = float(better.mean() + 0.5 * (known == value).mean())
    return beaten, float((1 + np.count_nonzero(~better)) / (1 + known.size))


def _middle(areas: Sequence[float]) -> int:
    """The index of the median area; of an even number, the lower of the two."""
    return int(np.argsort(areas, kind="stable")[(len(areas) - 1) // 2])


def _band(curves: Sequence[Sequence[float]]) -> tuple[tuple[float, ...], ...]:
    low, middle, high = np.percentile(np.array(curves), (5, 50, 95), axis=0)
    return tuple(low.tolist()), tuple(middle.tolist()), tuple(high.tolist())
