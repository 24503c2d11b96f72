"""Evidence at the same small position of the image in many cases, which may be a shortcut.

Tumours lie at different positions; a label burnt into a corner, the edge of a table or padding
always lie at the same one. The Clever Hans predictor of Lapuschkin et al. 2019 used such a label,
in a fifth of one class's images.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed

from SaliencyExplain.evaluation.study.corrections import SIGNIFICANCE
from SaliencyExplain.evaluation.study.energy_places import CORNER_SHARE
from SaliencyExplain.evaluation.study.normalised_maps import CELLS
from SaliencyExplain.evaluation.study.shuffles import Shuffles, corrected_p_values, p_value
from SaliencyExplain.progress import Progress, silent


@dataclass(frozen=True)
class Scale:
    """A size of places that is looked for.

    Attributes:
        cells: Cells along each side of a place.
        around: Cells along each side of its surroundings.
        stands_out: Excess in a case from which the place is said to stand out in it. On
            phantoms, what fixed anatomy gathers in a place stays below it in most cases, a
            shortcut is above it in nearly all.
    """

    cells: int
    around: int
    stands_out: float


#: 15 and 25 % of the image's sides: a mark as gradients show it, and as class activation maps
#: do, which blur it.
SCALES = (Scale(3, 9, 0.02), Scale(5, 15, 0.08))

#: In pictures a place is so much more of the whole that anatomy gathers up to 6 % in it.
_FLAT_SCALES = (Scale(3, 9, 0.06), Scale(5, 15, 0.16))

#: Evidence this near to a segment is the segment's: what class activation maps spill, mm.
SEGMENT_MARGIN_MM = 10.0

#: A segment that covers one cell in so many of its cases never moves: evidence in it is
#: evidence in a fixed place like any other.
FIXED_SEGMENT = 0.8

#: Least number of cases of a class: with fewer, two that agree by chance are half of all.
LEAST_CASES = 5

#: Share of the cases in which a place must stand out to be an alarm.
MOST_CASES = 0.6

#: Share of a place that may be body, on average over its cells and the cases, if it is in the air.
_LITTLE_BODY = 0.1

#: How many times what stands out a case may count for at most, so that one map cannot make a
#: place.
_MOST_OF_A_CASE = 5


@dataclass(frozen=True)
class PlacedEnergy:
    """Where one map's energy lies on the common grid.

    Attributes:
        case: Name of the case.
        method: Label of the map.
        target: Name of the explained class.
        energy: Share of the positive attribution in each cell; sums to 1. Float32, as the
            others: a study of thousands of cases keeps all of them.
        outside: The same of what lies outside of the segments and their margin.
        room: Share of each cell that is outside of them, [0, 1].
    """

    case: str
    method: str
    target: str
    energy: NDArray[np.float32]
    outside: NDArray[np.float32]
    room: NDArray[np.float32]


@dataclass(frozen=True)
class FixedPlace:
    """The place in which the maps of one method and class agree most, with its tests.

    Attributes:
        method: Label of the maps.
        target: Name of the explained class.
        place: Its centre as a share of the image's sides, each in (0, 1): of a volume from
            the patient's left to right, back to front, foot to head; of a picture as stored.
        cells: Its size, in cells of the common grid along each side.
        excess: Mean share of a map's energy there beyond what its surroundings would put there.
        energy: Mean share of a map's energy there.
        chance: 95th percentile of the largest excess among maps that were shifted and turned
            over at random.
        p_value: Share of such shuffles that gather as much anywhere, this one included.
        p_corrected: The same, corrected for all methods, classes and scales
            (:func:`~SaliencyExplain.evaluation.study.shuffles.corrected_p_values`).
        stands_out: Share of the cases in which the excess is at least the scale's.
        others: Mean excess at the same place in the maps of the other classes; NaN where
            there is no other class.
        cases: Cases of the class.
        segment: Name of the segment that never moves and holds the place; empty elsewhere.
        alarm: Whether it is more than chance, stands out in most cases, and no finding or organ
            is known to explain it.
        undecided: Whether it would be an alarm if it were known that neither a finding nor an
            organ lies there (:func:`told_from_anatomy`).
    """

    method: str
    target: str
    place: tuple[float, ...]
    cells: int
    excess: float
    energy: float
    chance: float
    p_value: float
    p_corrected: float
    stands_out: float
    others: float
    cases: int
    segment: str
    alarm: bool
    undecided: bool = False


def find_fixed_places(
    maps: Sequence[PlacedEnergy],
    fixed_segments: Mapping[str, NDArray[np.float64]],
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> list[FixedPlace]:
    """Searches for a small place where the maps of one method and class agree.

    In each map, a place's excess is its energy outside of the segments less what the density
    of its surroundings would put there: this distinguishes a mark from an organ with widespread
    evidence. The slope of a hill whose top is in a segment is the segment's, too. The largest mean
    excess over the cases is compared with that of maps that are shifted cyclically and mirrored at
    random, which gather only by chance.

    Args:
        maps: Of all cases, methods and classes.
        fixed_segments: Of each segment that never moves, the share of cases that have it in a
            cell, on the common grid.
        seed: Of the shuffles.
        progress: Called with steps done and in total, several for each map; may raise Cancelled.

    Returns:
        One for each method and class with enough cases, as they first occur: of the two scales
        the one with an alarm, else the one that stands out in more cases.

    Raises:
        Cancelled: Out of ``progress``.
    """
    if not maps:
        return []
    groups: dict[str, dict[str, list[PlacedEnergy]]] = {}
    for given in maps:
        groups.setdefault(given.method, {}).setdefault(given.target, []).append(given)
    axes = maps[0].energy.ndim
    scales = _FLAT_SCALES if axes == 2 else SCALES
    cases = list(dict.fromkeys(one.case for one in maps))
    shuffles = Shuffles(cases, axes=axes, cells=CELLS, seed=seed)
    tests: list[_Test] = []
    # A step for each map's excess, and one for its shuffles at each scale.
    parts = {
        method: [target for target, own in by_class.items() if len(own) >= LEAST_CASES]
        for method, by_class in groups.items()
    }
    total = sum(
        sum(map(len, groups[method].values()))
        + len(scales) * sum(len(groups[method][target]) for target in tested)
        for method, tested in parts.items()
        if tested
    )
    steps = itertools.count(1)

    def step() -> None:
        progress(next(steps), total)

    for method, tested in parts.items():
        if not tested:
            continue
        by_class = groups[method]
        excesses = {target: _excesses(own, scales, step) for target, own in by_class.items()}
        for target in tested:
            for number, scale in enumerate(scales):
                here = {name: values[number] for name, values in excesses.items()}
                tests.append(_tested(by_class[target], target, scale, here, shuffles, step))
    corrected = corrected_p_values([one.found for one in tests], [one.by_chance for one in tests])
    best: dict[tuple[str, str], FixedPlace] = {}
    for test, p_corrected in zip(tests, corrected, strict=True):
        one = test.place
        judged = replace(
            one,
            p_corrected=p_corrected,
            segment=_segment_at(one, fixed_segments),
            alarm=p_corrected < SIGNIFICANCE and one.stands_out >= MOST_CASES,
        )
        known = best.setdefault((one.method, one.target), judged)
        if (judged.alarm, judged.stands_out) > (known.alarm, known.stands_out):
            best[one.method, one.target] = judged
    return list(best.values())


def told_from_anatomy(
    places: Sequence[FixedPlace],
    segmented: Collection[str],
    body: Mapping[str, NDArray[np.float64]],
) -> list[FixedPlace]:
    """Withdraws alarms that may be explained by anatomy.

    A valid classifier also uses a fixed position if its finding has one region (a pituitary
    tumour), or if it checks that the finding is absent. Evidence at a fixed position is an alarm
    only outside the segments of a class that has them, or outside the body; if the body is
    unknown, in a corner of the image.

    Args:
        places: From :func:`find_fixed_places`.
        segmented: The classes of which at least one case has a segment.
        body: Of each class the mean share of each cell that is body, as far as it is known.

    Returns:
        The places in the same order; withdrawn alarms are undecided.
    """
    return [
        replace(one, alarm=False, undecided=True)
        if one.alarm and one.target not in segmented and not _in_the_air(one, body.get(one.target))
        else one
        for one in places
    ]


def fixed_segments(
    covered: Mapping[str, Sequence[NDArray[np.float64]]],
) -> dict[str, NDArray[np.float64]]:
    """The segments that lie at one position in nearly all of their cases.

    Args:
        covered: Of each segment and case that has it, the share of each cell that it fills.

    Returns:
        Of each that never moves, the share of its cases in which it fills a cell by a tenth.
    """
    found = {}
    for name, cases in covered.items():
        share = np.mean([cells >= 0.1 for cells in cases], axis=0)
        if len(cases) >= LEAST_CASES and share.max() >= FIXED_SEGMENT:
            found[name] = share
    return found


@dataclass(frozen=True)
class _Test:
    """A place before any correction, what gathers there, and what gathers by chance anywhere."""

    place: FixedPlace
    found: float
    by_chance: NDArray[np.float64]


def _tested(
    own: Sequence[PlacedEnergy],
    target: str,
    scale: Scale,
    excesses: Mapping[str, NDArray[np.float32]],
    shuffles: Shuffles,
    step: Callable[[], None],
) -> _Test:
    """The place in which the maps of one class agree most."""
    counted = np.clip(excesses[target], 0.0, _MOST_OF_A_CASE * scale.stands_out)
    mean = counted.mean(axis=0, dtype=np.float64)
    at = tuple(int(index) for index in np.unravel_index(int(mean.argmax()), mean.shape))
    by_chance = shuffles.largest([one.case for one in own], counted, step)
    here = _at(excesses[target], at)
    others = [_at(values, at) for name, values in excesses.items() if name != target]
    energy = [_box_mean(one.outside.astype(np.float64), scale.cells)[at] for one in own]
    place = FixedPlace(
        method=own[0].method,
        target=target,
        place=tuple((index + 0.5) / CELLS for index in at),
        cells=scale.cells,
        excess=float(here.mean()),
        energy=float(np.mean(energy)) * scale.cells ** len(at),
        chance=float(np.percentile(by_chance, 95)),
        p_value=p_value(float(mean[at]), by_chance),
        p_corrected=math.nan,
        stands_out=float((here >= scale.stands_out).mean()),
        others=float(np.concatenate(others).mean()) if others else math.nan,
        cases=len(own),
        segment="",
        alarm=False,
    )
    return _Test(place, float(mean[at]), by_chance)


def _excesses(
    maps: Sequence[PlacedEnergy], scales: Sequence[Scale], step: Callable[[], None]
) -> list[NDArray[np.float32]]:
    """Of each scale the excess of each map, ``(N, CELLS, ...)``."""
    found = []
    for one in maps:
        spilled = _spilled(one)
        found.append([_excess(one, scale, spilled) for scale in scales])
        step()
    return [np.array(values) for values in zip(*found, strict=True)]


def _excess(one: PlacedEnergy, scale: Scale, spilled: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Energy of the place around each cell beyond what its surroundings would put there."""
    energy, outside, room = (
        values.astype(np.float64) for values in (one.energy, one.outside, one.room)
    )
    size, around = scale.cells**energy.ndim, scale.around**energy.ndim
    everywhere = np.ones_like(energy)
    ring = _box_mean(energy, scale.around) * around - _box_mean(energy, scale.cells) * size
    cells = _box_mean(everywhere, scale.around) * around - _box_mean(everywhere, scale.cells) * size
    expected = ring / cells * _box_mean(room, scale.cells) * size
    excess = _box_mean(outside, scale.cells) * size - expected
    return np.where(spilled, np.minimum(excess, 0), excess).astype(np.float32)


def _spilled(one: PlacedEnergy) -> NDArray[np.bool_]:
    """The cells from which the way uphill ends in a segment: their energy is its halo."""
    if (one.room >= 0.5).all():
        return np.zeros(one.room.shape, dtype=bool)
    smooth = _box_mean(one.energy.astype(np.float64), SCALES[0].cells)
    hills = watershed(-smooth, connectivity=smooth.ndim)
    tops = ndimage.maximum_position(smooth, hills, np.arange(1, hills.max() + 1))
    of_segment = np.array([False, *[one.room[top] < 0.5 for top in tops]])
    return of_segment[hills]


def _box_mean(values: NDArray[np.float64], cells: int) -> NDArray[np.float64]:
    # Beyond the image is nothing; places at its border have fewer cells.
    return ndimage.uniform_filter(values, cells, mode="constant")


def _at(cases: NDArray[np.float32], place: tuple[int, ...]) -> NDArray[np.float32]:
    """What each case has at a place."""
    return np.array([one[place] for one in cases])


def _in_the_air(found: FixedPlace, body: NDArray[np.float64] | None) -> bool:
    if body is None:
        return all(min(share, 1 - share) <= CORNER_SHARE for share in found.place)
    reach = found.cells // 2
    at = [int(share * CELLS) for share in found.place]
    box = tuple(slice(max(0, index - reach), index + reach + 1) for index in at)
    return bool(body[box].mean() <= _LITTLE_BODY)


def _segment_at(found: FixedPlace, segments: Mapping[str, NDArray[np.float64]]) -> str:
    at = [int(share * CELLS) for share in found.place]
    box = tuple(slice(max(0, index - 1), index + 2) for index in at)
    return next((name for name, share in segments.items() if share[box].max() >= 0.5), "")
