"""Null distribution of fixed places: maps shifted and mirrored at random, and p-values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

#: Shuffles: beating all of them has a p-value of 0.002, whatever the number of tests.
SHUFFLES = 499

#: Sums of the same float32 numbers in another order differ by less, relatively.
_ROUNDING = 1e-5


class Shuffles:
    """Shifts and turns of the common grid, drawn once for each case.

    All maps of a case are moved alike in one shuffle, whichever method and scale is tested:
    what the methods share stays shared, which :func:`corrected_p_values` rests on.

    Args:
        cases: Names of all cases; their order and the seed decide the draws.
        axes: Of the common grid.
        cells: Along each of them.
        seed: Of the draws.
        count: How many shuffles.
    """

    def __init__(
        self, cases: Sequence[str], *, axes: int, cells: int, seed: int, count: int = SHUFFLES
    ) -> None:
        random = np.random.default_rng(seed)
        shape = (len(cases), count, axes)
        self._starts = random.integers(0, cells, shape, dtype=np.int16)
        self._turned = random.random(shape) < 0.5
        self._row = {case: row for row, case in enumerate(cases)}
        self._count, self._cells = count, cells

    def largest(
        self,
        cases: Sequence[str],
        maps: NDArray[np.float32],
        step: Callable[[], None] = lambda: None,
    ) -> NDArray[np.float64]:
        """The largest value of the mean map in each shuffle, ``(count,)``.

        Args:
            cases: Names of the cases.
            maps: Of each of them, ``(N, CELLS, ...)``.
            step: Called after each map; may raise Cancelled.
        """
        totals = np.zeros((self._count, *maps.shape[1:]), dtype=np.float32)
        for case, one in zip(cases, maps, strict=True):
            row = self._row[case]
            starts, turned = self._starts[row].tolist(), self._turned[row].tolist()
            # Any window of the map repeated once along each axis is the map shifted round its
            # ends, a window read backwards the same turned over.
            twice = np.tile(one, (2,) * one.ndim)
            for total, *way in zip(totals, starts, turned, strict=True):
                total += twice[tuple(map(self._window, *way))]
            step()
        return totals.reshape(self._count, -1).max(axis=1).astype(np.float64) / len(maps)

    def moved(
        self, cases: Sequence[str], maps: NDArray[np.floating]
    ) -> Iterator[NDArray[np.floating]]:
        """All maps, ``(N, CELLS, ...)``, as each shuffle moves them.

        Args:
            cases: Names of the cases.
            maps: Of each of them, ``(N, CELLS, ...)``.
        """
        twice = [np.tile(one, (2,) * one.ndim) for one in maps]
        rows = [self._row[case] for case in cases]
        for number in range(self._count):
            yield np.stack(
                [
                    one[tuple(map(self._window, self._starts[row, number].tolist(),
                                  self._turned[row, number].tolist()))]
                    for one, row in zip(twice, rows, strict=True)
                ]
            )  # fmt: skip

    def _window(self, start: int, turned: bool) -> slice:
        stop = start + self._cells
        return slice(stop, start, -1) if turned else slice(start, stop)


def p_value(found: float, by_chance: NDArray[np.float64]) -> float:
    """Share of the shuffles that gather as much, the maps as they are included."""
    count = np.count_nonzero(_snapped(found, by_chance) >= found)
    return float(1 + count) / (1 + by_chance.size)


def corrected_p_values(
    found: Sequence[float], by_chance: Sequence[NDArray[np.float64]]
) -> list[float]:
    """The p-values of several tests, corrected for their number by the shuffles themselves.

    The step-down procedure of Westfall and Young (1993, Resampling-based multiple testing,
    algorithm 4.1) with each test's values standardised by its own shuffles: a test is held
    against the largest value, in each shuffle, of all tests that are no stronger. It takes no
    more shuffles for more tests, where Holm's correction takes as many more as there are more
    tests, and it takes less from tests that agree, as methods on the same cases do.

    Args:
        found: Value of each test.
        by_chance: Of each test its values in the shuffles, those of all tests in the same
            shuffles.

    Returns:
        Of each test, at most 1, at least its own p-value.
    """
    if not found:
        return []
    chance = np.stack([_snapped(one, row) for one, row in zip(found, by_chance, strict=True)])
    middle = chance.mean(axis=1, keepdims=True)
    spread = chance.std(axis=1, keepdims=True)
    spread[spread == 0] = 1.0
    chance = (chance - middle) / spread
    values = (np.asarray(found)[:, None] - middle) / spread
    order = np.argsort(-values[:, 0], kind="stable")
    rivals = np.maximum.accumulate(chance[order][::-1], axis=0)[::-1]
    count = np.count_nonzero(rivals >= values[order], axis=1)
    corrected = np.empty(len(order))
    corrected[order] = np.maximum.accumulate((1 + count) / (1 + chance.shape[1]))
    return [float(one) for one in corrected]


def _snapped(found: float, by_chance: NDArray[np.float64]) -> NDArray[np.float64]:
    """The shuffles' values, those that differ from what was found by rounding made equal."""
    return np.where(np.abs(by_chance - found) <= _ROUNDING * abs(found), found, by_chance)
