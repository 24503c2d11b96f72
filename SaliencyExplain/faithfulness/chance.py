"""Faithfulness of a map beside what chance and habit would give."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.attribution.guard import plain
from SaliencyExplain.attribution.method import Task
from SaliencyExplain.attribution.yardsticks import centre_map, random_map
from SaliencyExplain.faithfulness.baselines import CHOICE_PASSES, Baseline, choose_baseline
from SaliencyExplain.faithfulness.curves import CurveMaker, MapCurves
from SaliencyExplain.faithfulness.infidelity import Infidelity, InfidelityMaker
from SaliencyExplain.faithfulness.information import InformationCurve
from SaliencyExplain.faithfulness.partial_images import KINDS, PartialImages, RandomRanking
from SaliencyExplain.faithfulness.work import Work


@dataclass(frozen=True)
class Figure:
    """A figure of a map, beside the same figure of random maps.

    Attributes:
        name: Such as ``deletion_area``.
        title: For people.
        value: Of the map; NaN where it is undefined.
        higher_is_better: Whether a faithful map has a high value.
        chance: Of the random maps, one each.
        centre: Of the centre-weighted map, a habit that knows nothing of the classifier.
        beaten: Share of the random maps that the map beats, equal ones half, [0, 1].
        p_value: Chance that a random map is as good, ``(1 + as good) / (1 + maps)``
            (Phipson and Smyth 2010).
        remark: Why it is undefined; empty otherwise.
    """

    name: str
    title: str
    value: float
    higher_is_better: bool
    chance: tuple[float, ...]
    centre: float
    beaten: float
    p_value: float
    remark: str = ""


@dataclass(frozen=True)
class Faithfulness:
    """How faithful a map is to the classifier.

    Attributes:
        curves: The map's own.
        figures: Its figures, each beside chance.
        chance_deletion: 5th percentile, median and 95th percentile of the random maps'
            deletion curves, three tuples as long as ``curves.shares``.
        chance_insertion: The same of the insertion curves.
        baseline: What stood where voxels were taken away, in words.
        infidelity: The map's own, with its scale.
        boxes: What was taken away for the infidelity, in words.
        images: What the classifier was shown on the way, for pictures.
    """

    curves: MapCurves
    figures: tuple[Figure, ...]
    chance_deletion: tuple[tuple[float, ...], ...]
    chance_insertion: tuple[tuple[float, ...], ...]
    baseline: str
    infidelity: Infidelity
    boxes: str
    images: PartialImages

    def figure(self, name: str) -> Figure:
        """The figure of that name."""
        return next(figure for figure in self.figures if figure.name == name)

    def as_json(self) -> dict[str, Any]:
        """Everything but the voxels."""
        return {
            **{name: getattr(self, name) for name in ("chance_deletion", "chance_insertion")},
            "curves": {**dataclasses.asdict(self.curves), "aopc": self.curves.aopc},
            "figures": [dataclasses.asdict(figure) for figure in self.figures],
            "baseline": self.baseline,
            "infidelity": dataclasses.asdict(self.infidelity),
            "boxes": self.boxes,
            "partial_images": self.images.as_json(),
        }


@dataclass(frozen=True)
class _Measured:
    """What is measured of a map, a random one or not."""

    curves: MapCurves
    infidelity: Infidelity


def _area(curve: Callable[[MapCurves], InformationCurve]) -> Callable[[_Measured], float]:
    return lambda measured: curve(measured.curves).area


#: Name, title, whether high is good, and how it is read off what was measured.
_FIGURES: tuple[tuple[str, str, bool, Callable[[_Measured], float]], ...] = (
    ("deletion_area", "deletion area", False, lambda m: m.curves.deletion_area),
    ("insertion_area", "insertion area", True, lambda m: m.curves.insertion_area),
    ("aopc", "AOPC", True, lambda m: m.curves.aopc),
    ("infidelity", "infidelity", False, lambda m: m.infidelity.share),
    (
        "sic_compressed",
        "SIC, compressed size",
        True,
        _area(lambda c: c.softmax_information["compressed"]),
    ),
    (
        "sic_histogram",
        "SIC, histogram",
        True,
        _area(lambda c: c.softmax_information["histogram"]),
    ),
    (
        "aic_compressed",
        "AIC, compressed size",
        True,
        _area(lambda c: c.accuracy_information["compressed"]),
    ),
    (
        "aic_histogram",
        "AIC, histogram",
        True,
        _area(lambda c: c.accuracy_information["histogram"]),
    ),
)


class FaithfulnessTrial:
    """Holds maps of one image against random ones, whose curves are computed once.

    The random maps are blobs (:func:`random_map`), each of a seed of its own. Every other one
    ranks the body before the rest: a map that does no more than leave out the air beats blobs
    in the air, and knows nothing of the classifier. The others lie anywhere, since what the
    classifier looks at may lie beside the body.

    Args:
        task: Network, image and target.
        body: ``(*S)`` on the network's grid; None where it cannot be told.
        random_maps: How many, at least one.
        seed: Of the random maps.
        work: Counts the forward passes.
    """

    def __init__(
        self,
        task: Task,
        body: NDArray[np.bool_] | None,
        work: Work,
        *,
        random_maps: int,
        seed: int = 0,
    ) -> None:
        self._work = work
        self._image = plain(task.input)[0, 0].cpu().numpy()
        with work.part(CHOICE_PASSES) as progress:
            self.baseline: Baseline = choose_baseline(task, progress)
        self._maker = CurveMaker(task, self.baseline, seed=seed)
        with work.part(self._maker.once) as progress:
            self._maker.prepare(progress)
        self._boxes = InfidelityMaker(task, self.baseline)
        with work.part(len(self._boxes.boxes)) as progress:
            self._boxes.prepare(progress)
        shape = tuple(task.input.shape[2:])
        seeds = np.random.SeedSequence(seed).generate_state(random_maps)

        def chance(number: int) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
            values = random_map(shape, task.spacing, seed=int(seeds[number]))
            return values, body if number % 2 else None

        self._chance = [self._of_chance(*chance(number)) for number in range(random_maps)]
        self._centre = self._of_chance(centre_map(shape, task.spacing), body)
        self._random: dict[str, RandomRanking] = {}
        for kind in KINDS:
            number = _middle([getattr(one.curves, f"{kind}_area") for one in self._chance])
            curve = getattr(self._chance[number].curves, kind)
            places = self._maker.places(_inside_first(*chance(number)))
            self._random[kind] = RandomRanking(places, curve)

    def of(self, values: NDArray[np.floating]) -> Faithfulness:
        """The faithfulness of a map ``(*S)`` on the network's grid.

        Raises:
            InputError: The map is constant or not finite.
        """
        curves = self._curves(values)
        measured = _Measured(curves, self._boxes.of(values))
        return Faithfulness(
            curves=curves,
            figures=tuple(self._figure(measured, *one) for one in _FIGURES),
            chance_deletion=_band([one.curves.deletion for one in self._chance]),
            chance_insertion=_band([one.curves.insertion for one in self._chance]),
            baseline=self.baseline.words,
            infidelity=measured.infidelity,
            boxes=self._boxes.words,
            images=PartialImages(
                image=self._image,
                baseline=self.baseline.values[0].cpu().numpy(),
                places=self._maker.places(values),
                curves=curves,
                random=self._random,
            ),
        )

    def _curves(self, values: NDArray[np.floating], *, chance: bool = False) -> MapCurves:
        with self._work.part(self._maker.passes) as progress:
            return self._maker.curves(values, progress, chance=chance)

    def _of_chance(self, values: NDArray[np.float32], body: NDArray[np.bool_] | None) -> _Measured:
        # Sums over boxes want no more than zeros outside of the body, ranks want it last.
        inside = values if body is None else np.where(body, values, np.float32(0))
        curves = self._curves(_inside_first(values, body), chance=True)
        return _Measured(curves, self._boxes.of(inside))

    def _figure(
        self,
        measured: _Measured,
        name: str,
        title: str,
        higher: bool,
        read: Callable[[_Measured], float],
    ) -> Figure:
        value = read(measured)
        chance = tuple(read(one) for one in self._chance)
        remark = ""
        if math.isnan(value) and name == "infidelity":
            remark = measured.infidelity.remark
        elif math.isnan(value):
            curves = measured.curves
            kind = curves.softmax_information if "sic" in name else curves.accuracy_information
            remark = kind[name.split("_")[1]].remark
        beaten, p_value = compared_with_chance(value, chance, higher)
        return Figure(
            name=name,
            title=title,
            value=value,
            higher_is_better=higher,
            chance=chance,
            centre=read(self._centre),
            beaten=beaten,
            p_value=p_value,
            remark=remark,
        )


def compared_with_chance(
    value: float, chance: Sequence[float], higher_is_better: bool
) -> tuple[float, float]:
    """Share of the chance values that are beaten, equal ones half, and the p-value.

    NaN where the value or all of chance is undefined.
    """
    known = np.array([one for one in chance if not math.isnan(one)])
    if math.isnan(value) or known.size == 0:
        return math.nan, math.nan
    # Sums of the same numbers in another order differ in the last digits.
    known = np.where(np.isclose(known, value, rtol=1e-9, atol=1e-12), value, known)
    better = known < value if higher_is_better else known > value
    beaten = float(better.mean() + 0.5 * (known == value).mean())
    return beaten, float((1 + np.count_nonzero(~better)) / (1 + known.size))


def _inside_first(
    values: NDArray[np.float32], body: NDArray[np.bool_] | None
) -> NDArray[np.float32]:
    """The map with the body's voxels before all others; values lie in [0, 1]."""
    return values if body is None else values + 2 * body.astype(np.float32)


def _middle(areas: Sequence[float]) -> int:
    """Which of the areas is the middle one, of an even number the lower of the two."""
    return int(np.argsort(areas, kind="stable")[(len(areas) - 1) // 2])


def _band(curves: Sequence[Sequence[float]]) -> tuple[tuple[float, ...], ...]:
    low, middle, high = np.percentile(np.array(curves), (5, 50, 95), axis=0)
    return tuple(low.tolist()), tuple(middle.tolist()), tuple(high.tolist())
