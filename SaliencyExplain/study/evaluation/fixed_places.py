"""Evidence that lies in the same small place of the image in case after case: shortcuts.

A tumour lies now here, now there; a label burnt into a corner, a table's edge or a padding
lie always in one place. Clever Hans in Lapuschkin et al. 2019 (Unmasking Clever Hans
predictors) was such a label, in a fifth of one class's pictures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed

from SaliencyExplain.study.evaluation.normalised import CELLS
from SaliencyExplain.study.evaluation.paired import SIGNIFICANCE, holm


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

#: Cases of one class without which nothing is said: with fewer, two that agree by chance
#: are half of all.
LEAST_CASES = 5

#: Share of the cases in which a place must stand out to be an alarm.
MOST_CASES = 0.6

#: How many times what stands out a case may count for at most, so that one map cannot make a
#: place.
_MOST_OF_A_CASE = 5

#: Shuffles at least; more where many methods and classes are tested, so that the smallest
#: p-value that is possible still counts after the correction.
SHUFFLES, _SHUFFLES_PER_TEST = 499, 40


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
    """The place in which the maps of one method and class agree most, and what that means.

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
        p_holm: The same, corrected for all methods, classes and scales.
        stands_out: Share of the cases in which the excess is at least the scale's.
        others: Mean excess at the same place in the maps of the other classes; NaN where
            there is no other class.
        cases: Cases of the class.
        segment: Name of the segment that never moves and holds the place; empty elsewhere.
        alarm: Whether it is more than chance, and stands out in most cases.
    """

    method: str
    target: str
    place: tuple[float, ...]
    cells: int
    excess: float
    energy: float
    chance: float
    p_value: float
    p_holm: float
    stands_out: float
    others: float
    cases: int
    segment: str
    alarm: bool


def find_fixed_places(
    maps: Sequence[PlacedEnergy],
    fixed_segments: Mapping[str, NDArray[np.float64]],
    *,
    seed: int = 0,
) -> list[FixedPlace]:
    """Looks for a small place where the maps of one method and class agree.

    In each map, a place's excess is its energy outside of the segments less what the density
    of its surroundings would put there: it tells a mark from an organ that is broadly looked
    at. The slope of a hill whose top is in a segment is the segment's, too. The
    largest mean excess over the cases is held against that of maps each shifted (round the
    ends) and turned over at random: they gather nowhere but by chance.

    Args:
        maps: Of all cases, methods and classes.
        fixed_segments: Of each segment that never moves, the share of cases that have it in a
            cell, on the common grid.
        seed: Of the shuffles.

    Returns:
        One for each method and class with enough cases, as they first occur: of the two scales
        the one with an alarm, else the one that stands out in more cases.
    """
    groups: dict[str, dict[str, list[PlacedEnergy]]] = {}
    for given in maps:
        groups.setdefault(given.method, {}).setdefault(given.target, []).append(given)
    scales = _FLAT_SCALES if maps and maps[0].energy.ndim == 2 else SCALES
    tests = len(SCALES) * sum(
        len(own) >= LEAST_CASES for by_class in groups.values() for own in by_class.values()
    )
    shuffles = max(SHUFFLES, _SHUFFLES_PER_TEST * tests)
    found = []
    for by_class in groups.values():
        for scale in scales:
            excesses = {
                target: np.array([_excess(one, scale) for one in own])
                for target, own in by_class.items()
            }
            for target, own in by_class.items():
                if len(own) >= LEAST_CASES:
                    place = _test(own, target, scale, excesses, shuffles, seed)
                    found.append(replace(place, segment=_segment_at(place, fixed_segments)))
    corrected = holm([one.p_value for one in found])
    best: dict[tuple[str, str], FixedPlace] = {}
    for one, p_holm in zip(found, corrected, strict=True):
        alarm = p_holm < SIGNIFICANCE and one.stands_out >= MOST_CASES
        judged = replace(one, p_holm=p_holm, alarm=alarm)
        known = best.setdefault((one.method, one.target), judged)
        if (judged.alarm, judged.stands_out) > (known.alarm, known.stands_out):
            best[one.method, one.target] = judged
    return list(best.values())


def fixed_segments(
    covered: Mapping[str, Sequence[NDArray[np.float64]]],
) -> dict[str, NDArray[np.float64]]:
    """The segments that lie in one place in nearly all of their cases.

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


def _test(
    own: Sequence[PlacedEnergy],
    target: str,
    scale: Scale,
    excesses: Mapping[str, NDArray[np.float32]],
    shuffles: int,
    seed: int,
) -> FixedPlace:
    """The place in which the maps of one class agree most, before any correction."""
    at, p_value, chance = _gathered(
        excesses[target], _MOST_OF_A_CASE * scale.stands_out, shuffles, seed
    )
    here = _at(excesses[target], at)
    others = [_at(values, at) for name, values in excesses.items() if name != target]
    energy = [_box_mean(one.outside.astype(np.float64), scale.cells)[at] for one in own]
    return FixedPlace(
        method=own[0].method,
        target=target,
        place=tuple((index + 0.5) / CELLS for index in at),
        cells=scale.cells,
        excess=float(here.mean()),
        energy=float(np.mean(energy)) * scale.cells ** len(at),
        chance=chance,
        p_value=p_value,
        p_holm=math.nan,
        stands_out=float((here >= scale.stands_out).mean()),
        others=float(np.concatenate(others).mean()) if others else math.nan,
        cases=len(own),
        segment="",
        alarm=False,
    )


def _excess(one: PlacedEnergy, scale: Scale) -> NDArray[np.float32]:
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
    return np.where(_spilled(one), np.minimum(excess, 0), excess).astype(np.float32)


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


def _gathered(
    excess: NDArray[np.float32], most: float, shuffles: int, seed: int
) -> tuple[tuple[int, ...], float, float]:
    """The place with the largest mean excess, its p-value, and what chance gathers."""
    counted = np.clip(excess.astype(np.float64), 0.0, most)
    mean = counted.mean(axis=0)
    at = tuple(int(index) for index in np.unravel_index(int(mean.argmax()), mean.shape))
    random = np.random.default_rng(seed)
    totals = np.zeros((shuffles, *mean.shape))
    for one in counted:
        # Any window of the map repeated once along each axis is the map shifted round its ends,
        # a window read backwards the same turned over.
        twice = np.tile(one, 2)
        for axis in range(one.ndim - 1):
            twice = np.concatenate([twice, twice], axis=axis)
        starts = random.integers(0, CELLS, (shuffles, one.ndim))
        turned = random.random((shuffles, one.ndim)) < 0.5
        for total, start, turn in zip(totals, starts, turned, strict=True):
            total += twice[tuple(map(_window, start.tolist(), turn.tolist()))]
    largest = totals.reshape(shuffles, -1).max(axis=1) / len(counted)
    # A constant map has the same maximum in another order of summation.
    as_large = np.count_nonzero(largest >= mean[at] * (1 - 1e-9))
    return at, float(1 + as_large) / (1 + shuffles), float(np.percentile(largest, 95))


def _window(start: int, turned: bool) -> slice:
    return slice(start + CELLS, start, -1) if turned else slice(start, start + CELLS)


def _at(cases: NDArray[np.float32], place: tuple[int, ...]) -> NDArray[np.float32]:
    """What each case has at a place."""
    return np.array([one[place] for one in cases])


def _segment_at(found: FixedPlace, segments: Mapping[str, NDArray[np.float64]]) -> str:
    at = [int(share * CELLS) for share in found.place]
    box = tuple(slice(max(0, index - 1), index + 2) for index in at)
    return next((name for name, share in segments.items() if share[box].max() >= 0.5), "")
