"""Faithfulness of a map beside what chance and habit would give."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.attribution.method import Task
from SaliencyExplain.attribution.yardsticks import centre_map, random_map
from SaliencyExplain.faithfulness.baselines import CHOICE_PASSES, Baseline, choose_baseline
from SaliencyExplain.faithfulness.curves import CurveMaker, MapCurves
from SaliencyExplain.faithfulness.information import InformationCurve
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
    """

    curves: MapCurves
    figures: tuple[Figure, ...]
    chance_deletion: tuple[tuple[float, ...], ...]
    chance_insertion: tuple[tuple[float, ...], ...]
    baseline: str

    def figure(self, name: str) -> Figure:
        """The figure of that name."""
        return next(figure for figure in self.figures if figure.name == name)


def _area(curve: Callable[[MapCurves], InformationCurve]) -> Callable[[MapCurves], float]:
    return lambda curves: curve(curves).area


#: Name, title, whether high is good, and how it is read off the curves.
_FIGURES: tuple[tuple[str, str, bool, Callable[[MapCurves], float]], ...] = (
    ("deletion_area", "deletion area", False, lambda c: c.deletion_area),
    ("insertion_area", "insertion area", True, lambda c: c.insertion_area),
    ("aopc", "AOPC", True, lambda c: c.aopc),
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
        random_maps: How many.
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
        with work.part(CHOICE_PASSES) as progress:
            self.baseline: Baseline = choose_baseline(task, progress)
        self._maker = CurveMaker(task, self.baseline, seed=seed)
        with work.part(self._maker.once) as progress:
            self._maker.prepare(progress)
        shape = tuple(task.input.shape[2:])
        seeds = np.random.SeedSequence(seed).generate_state(random_maps)
        self._chance = [
            self._curves(
                _inside_first(
                    random_map(shape, task.spacing, seed=int(one)), body if number % 2 else None
                ),
                chance=True,
            )
            for number, one in enumerate(seeds)
        ]
        habit = _inside_first(centre_map(shape, task.spacing), body)
        self._centre = self._curves(habit, chance=True)

    def of(self, values: NDArray[np.floating]) -> Faithfulness:
        """The faithfulness of a map ``(*S)`` on the network's grid.

        Raises:
            InputError: The map is constant or not finite.
        """
        curves = self._curves(values)
        return Faithfulness(
            curves=curves,
            figures=tuple(self._figure(curves, *one) for one in _FIGURES),
            chance_deletion=_band([one.deletion for one in self._chance]),
            chance_insertion=_band([one.insertion for one in self._chance]),
            baseline=self.baseline.words,
        )

    def _curves(self, values: NDArray[np.floating], *, chance: bool = False) -> MapCurves:
        with self._work.part(self._maker.passes) as progress:
            return self._maker.curves(values, progress, chance=chance)

    def _figure(
        self,
        curves: MapCurves,
        name: str,
        title: str,
        higher: bool,
        read: Callable[[MapCurves], float],
    ) -> Figure:
        value = read(curves)
        chance = tuple(read(one) for one in self._chance)
        remark = ""
        if math.isnan(value):
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


def _band(curves: Sequence[Sequence[float]]) -> tuple[tuple[float, ...], ...]:
    low, middle, high = np.percentile(np.array(curves), (5, 50, 95), axis=0)
    return tuple(low.tolist()), tuple(middle.tolist()), tuple(high.tolist())
