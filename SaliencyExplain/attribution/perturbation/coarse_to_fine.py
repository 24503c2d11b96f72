"""The order in which windows of a grid are computed, and estimates of the others."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from numpy.typing import NDArray

from SaliencyExplain.attribution.perturbation.harmonic_infill import harmonic_infill
from SaliencyExplain.attribution.separable import along_axes
from SaliencyExplain.progress import may_stop

Values = NDArray[np.float64]

#: Every fourth window along each axis first, then every second.
_LATTICES = (4, 2)

#: Share of the windows that a stage of refinement computes, and the least number: a batch. The
#: boxes of scattered windows are less alike, which is why few of them share a size
#: (:meth:`IncrementalInference.together`).
_STAGE, _LEAST = 0.05, 8

#: Power of the distance to the next known window in what a window is worth. Chosen between 1
#: (rank correlation after 40 % of the windows: 0.924 in 2D, 0.963 in 3D) and 2 (0.927, 0.962).
_DISTANCE_POWER = 1.5

#: Share from which on the rest is computed at once: most partial maps agree with the final one
#: by then (rank correlation of 0.95, ``Testing/benchmarks/coarse_to_fine.py``).
_REFINED = 0.6


class CoarseToFine:
    """Values of a grid of windows that become known in stages, with estimates of the rest.

    First a coarse lattice, then one of half its distances, then the windows where the map
    has its structure, as in hierarchical perturbation (Cooper, Arandjelović & Harrison
    2022, Pattern Recognition 129, 108743), at last all others. There the windows grow
    smaller from level to level and the unimportant ones are never asked; here they are
    those of one grid, and the end is the whole map.

    What is not known is guessed from priors (linear regression on the known values) and the
    linear interpolation, along the axes, of what the priors leave over on the last complete
    lattice; what the windows known beyond it are off by is spread smoothly around them. All
    work on the values' inverse hyperbolic sine, or one peak would drown the rest. The
    structure is the range of the guessed ranks in the neighbourhood, so that the weak parts
    of a map are refined as well as its peak. The windows' values are the map's at their
    centres, and between them it is interpolated, so that their ranks are the map's.
    It counts more the farther the next known window is (without the distance the 3D maps
    of the demo agree after 42 % of the windows instead of 35 %). The order depends on
    nothing but the values and the priors.

    Args:
        starts: First voxels of the windows, one rising tuple per axis.
        asked: The requested windows, as indices with the last axis running
            fastest; the others are known to be 0.
        priors: What each window's value may be like, ``(*grid)``, in the same unit.

    Attributes:
        values: ``(*grid)``, 0 where not known.
    """

    def __init__(
        self,
        starts: Sequence[Sequence[int]],
        asked: Sequence[int],
        priors: Sequence[Values] = (),
    ) -> None:
        self._starts = [np.asarray(first) for first in starts]
        self._asked = np.asarray(asked, dtype=np.int64)
        self._priors = [np.asarray(prior, dtype=np.float64).ravel() for prior in priors]
        grid = tuple(len(first) for first in starts)
        self.values: Values = np.zeros(grid)
        self._known: NDArray[np.bool_] = np.ones(grid, dtype=bool)
        self._known.flat[self._asked] = False
        self._lattice: list[NDArray[np.int64]] | None = None
        self._next: list[NDArray[np.int64]] | None = None

    @property
    def share(self) -> float:
        """Share of the requested windows whose value is known, in [0, 1]."""
        return float(self._known.flat[self._asked].mean()) if len(self._asked) else 1.0

    @property
    def guesses(self) -> bool:
        """Whether enough is known to guess at the rest: the coarsest lattice."""
        return self._lattice is not None

    def tell(self, windows: NDArray[np.int64], values: Values) -> None:
        """Makes the values of windows known."""
        self.values.flat[windows] = values
        self._known.flat[windows] = True
        if self._next is not None and self._known[np.ix_(*self._next)].all():
            self._lattice, self._next = self._next, None

    def of(self, values: Values) -> CoarseToFine:
        """The same windows known, with other values; without priors, which are in another unit."""
        twin = copy.copy(self)
        twin.values, twin._priors = values, []
        return twin

    def stages(self) -> Iterator[NDArray[np.int64]]:
        """Windows to compute, a stage at a time; a stage's values are set before the next one."""
        for step in _LATTICES:
            self._next = [_every(step, len(first)) for first in self._starts]
            wanted = np.zeros_like(self._known)
            wanted[np.ix_(*self._next)] = True
            self.tell(np.zeros(0, dtype=np.int64), np.zeros(0))
            yield from self._unknown(np.flatnonzero(wanted))
        count = max(_LEAST, round(_STAGE * len(self._asked)))
        while self.share < _REFINED:
            may_stop()
            far = _distances(self._known) ** _DISTANCE_POWER
            worth = (_local_range(_ranks(self.guess())) * far).ravel()
            worth[self._known.ravel()] = -1
            best = np.argsort(-worth, kind="stable")[:count]
            yield from self._unknown(best)
        yield from self._unknown(self._asked)

    def guess(self) -> Values:
        """All values ``(*grid)``: the known ones, and the best guess at the others, or 0."""
        if self._lattice is None or self._known.all():
            return self.values.copy()
        asked = self._known.flat[self._asked]
        known = self._asked[asked]
        scale = float(np.median(np.abs(self.values.flat[known]))) if len(known) else 0.0
        scale = max(scale, 1e-6 * float(np.abs(self.values).max()), 1e-30)
        compressed = np.arcsinh(self.values / scale)
        trend = self._trend(known, compressed.ravel(), scale).reshape(compressed.shape)
        left = torch.from_numpy(compressed - trend)[np.ix_(*self._lattice)]
        between = [
            torch.from_numpy(_between(first, first[chosen]))
            for first, chosen in zip(self._starts, self._lattice, strict=True)
        ]
        guessed = along_axes(left, between).numpy() + trend
        guessed += _spread(np.where(self._known, compressed - guessed, 0.0), self._known)
        # Limits the regression's estimates to a few times the largest known value.
        most = np.abs(compressed).max() + 1.0
        return np.where(self._known, self.values, scale * np.sinh(guessed.clip(-most, most)))

    def _unknown(self, windows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        rest = windows[~self._known.flat[windows]]
        if len(rest):
            yield np.sort(rest)

    def _trend(self, known: NDArray[np.int64], compressed: Values, scale: float) -> Values:
        columns = [np.ones(compressed.size)]
        columns += [np.arcsinh(prior / scale) for prior in self._priors]
        table = np.stack(columns, axis=1)
        if not self._priors or len(known) < 4 * table.shape[1]:
            return np.zeros(compressed.size)
        weights = np.linalg.lstsq(table[known], compressed[known], rcond=None)[0]
        return np.asarray(table @ weights)


def _every(step: int, count: int) -> NDArray[np.int64]:
    """Every so many indices, the last one always."""
    return np.unique([*range(0, count, step), count - 1])


def _between(places: NDArray[np.int64], known: NDArray[np.int64]) -> Values:
    """Linear interpolation from known places to all, ``(places, known)``."""
    return np.stack([np.interp(places, known, row) for row in np.eye(len(known))], axis=1)


def _spread(values: Values, known: NDArray[np.bool_]) -> Values:
    """Known values continued smoothly between them."""
    everywhere = np.zeros((1, values.ndim), dtype=np.int64)
    distances = (1.0,) * values.ndim
    field = torch.from_numpy(values)[None]
    return harmonic_infill(field, everywhere, torch.from_numpy(~known), distances)[0, 0].numpy()


def _distances(known: NDArray[np.bool_]) -> Values:
    """How far each cell is from the next known one, in cells."""
    squares = np.where(known, 0.0, float(sum(known.shape)) ** 2)
    for axis, size in enumerate(known.shape):
        apart = np.subtract.outer(np.arange(size), np.arange(size)) ** 2.0
        along = np.moveaxis(squares, axis, -1)
        squares = np.moveaxis((along[..., None, :] + apart).min(axis=-1), -1, axis)
    return np.sqrt(squares)


def _ranks(values: Values) -> Values:
    """The values' places in their order, in [0, 1]; equal ones share the first place."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    places = (np.cumsum(counts) - counts)[inverse].reshape(values.shape)
    return places / max(values.size - 1, 1)


def _local_range(values: Values) -> Values:
    """Largest minus least value of each cell's neighbourhood, itself included."""
    tensor = torch.from_numpy(values)[None, None]
    pool = F.max_pool3d if values.ndim == 3 else F.max_pool2d
    most, least = (pool(sign * tensor, 3, stride=1, padding=1) for sign in (1, -1))
    return (most + least)[0, 0].numpy()
