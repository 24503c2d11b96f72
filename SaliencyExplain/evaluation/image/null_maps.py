"""Null maps: copies of a map with its values and smoothness at other positions.

The null hypothesis is that, given the image, the positions of a map's values are independent of
what the classifier uses. Copies of the map at other positions are then as likely as the map, and
the share of them with at least as good a metric is a p-value. Null maps with another smoothness
or distribution of values would differ from the map by these properties and not by its positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage, special, stats
from skimage.filters import threshold_otsu

from SaliencyExplain.geometry import bounding_box
from SaliencyExplain.progress import may_stop

Values = NDArray[np.float64]

#: Iterations that adapt spectrum and values (Schreiber and Schmitz 1996).
_ROUNDS = 3

#: A copy that shares more than this share of its strongest voxels with the map covers the same
#: evidence and is drawn again. By chance the share is :data:`_TOP`.
_OVERLAP = 0.2

#: The strongest voxels of a region, as a share of it; fewer if the map is zero elsewhere.
_TOP = 0.1

#: Largest number of draws; then the one with the smallest overlap is used.
_DRAWS = 8


class NullMaps:
    """Creates the null maps of any number of maps of one image.

    Values stay inside or outside the body: the voxels of the body are permuted among themselves,
    and so are those around it. The copies therefore avoid the air as much as the map does. Any
    outline computed from the image alone is valid; with a better one the copies differ less from
    the map in what the image alone determines.

    The copies are alternately *shifted*, the map rolled within the mirrored box of the region, and
    *phase-randomised*, a random field with the map's power spectrum (Theiler et al. 1992; with
    the values of the map, Schreiber and Schmitz 1996). Both receive the map's own values by rank.
    A copy that overlaps the map's own strongest voxels is drawn again.

    Args:
        image: ``(*S)``, the first channel of the network's input.
        body: ``(*S)``; None: the part above Otsu's threshold of the image.
        seed: The same seed gives the same copies.
    """

    def __init__(
        self, image: NDArray[np.floating], body: NDArray[np.bool_] | None, *, seed: int = 0
    ) -> None:
        if body is None:
            body = brighter_part(image)
        self.body = body
        self._seed = seed

    def of(self, values: NDArray[np.floating], count: int) -> list[NDArray[np.float32]]:
        """``count`` null maps of a map ``(*S)``, each with exactly its values.

        A region in which the map is constant is not changed.
        """
        values = np.asarray(values, dtype=np.float32)
        copies = [values.copy() for _ in range(count)]
        for number, region in enumerate((self.body, ~self.body)):
            own = values[region]
            if own.size < 2 or own.min() == own.max():
                continue
            mask = region[bounding_box(region)]
            field = _mirrored(_normal_scores(own), mask)
            for index, copy in enumerate(copies):
                may_stop()
                random = np.random.default_rng([self._seed, number, index])
                kind = _phase_randomised if index % 2 else _shifted
                copy[region] = _elsewhere(own, kind, field, mask, random)
        return copies


def brighter_part(image: NDArray[np.floating]) -> NDArray[np.bool_]:
    """The voxels above Otsu's threshold; all voxels of a constant image."""
    if image.min() == image.max():
        return np.ones(image.shape, dtype=bool)
    found: NDArray[np.bool_] = image > threshold_otsu(image.ravel())
    return found


def _normal_scores(values: NDArray[np.floating]) -> Values:
    """Ranks as quantiles of the normal distribution, since curves depend on ranks only."""
    ranks = stats.rankdata(values)
    scores: Values = special.ndtri((ranks - 0.5) / ranks.size)
    return scores - scores.mean()


def _ranked(field: NDArray[np.floating], ordered: NDArray[np.floating]) -> NDArray[np.floating]:
    """The values in the order of a field."""
    found = np.empty_like(ordered)
    found[np.argsort(field, kind="stable")] = ordered
    return found


def _elsewhere(
    own: NDArray[np.floating],
    kind: Callable[..., NDArray[np.floating]],
    field: NDArray[np.float32],
    mask: NDArray[np.bool_],
    random: np.random.Generator,
) -> NDArray[np.floating]:
    """The first copy that does not overlap the map, or the one with the smallest overlap."""
    count, ordered = max(1, round(_TOP * own.size)), np.sort(own)
    border = ordered[-count]
    # If the threshold's value is a plateau, only the values above it.
    if ordered[-1] > border:
        border = np.nextafter(border, np.inf, dtype=border.dtype)
    strongest = own >= border
    best, least = own, math.inf
    for _ in range(_DRAWS):
        copy = _ranked(kind(field, mask, random), ordered)
        overlap = float((copy[strongest] >= border).mean())
        if overlap < least:
            best, least = copy, overlap
        if overlap <= _OVERLAP:
            break
    return best


def _mirrored(scores: Values, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The scores continued beyond the region and mirrored at each face of its box.

    This avoids edges in the field at the region's outline and at the box's faces.
    """
    field = np.zeros(mask.shape, dtype=np.float32)
    field[mask] = scores
    nearest = ndimage.distance_transform_edt(~mask, return_distances=False, return_indices=True)
    return np.pad(field[tuple(nearest)], [(0, size) for size in mask.shape], mode="symmetric")


def _shifted(
    field: NDArray[np.float32], mask: NDArray[np.bool_], random: np.random.Generator
) -> NDArray[np.floating]:
    """The map rolled within the mirrored box; half of the copies are flipped along each axis.

    Values that leave the region are placed around a random point in one piece: among equal values
    the nearest to it come first. Returns ranks, a field without equal values.
    """
    share = random.uniform(0, 2, mask.ndim)
    steps = [round(part * size) for part, size in zip(share, mask.shape, strict=True)]
    corner = tuple(slice(size) for size in mask.shape)
    rolled = np.roll(field, steps, tuple(range(mask.ndim)))[corner][mask]
    places = np.argwhere(mask)
    distance = ((places - places[random.integers(len(places))]) ** 2).sum(axis=1)
    ranks = np.empty(rolled.size)
    ranks[np.lexsort((-distance, rolled))] = np.arange(rolled.size)
    return ranks


def _phase_randomised(
    field: NDArray[np.float32], mask: NDArray[np.bool_], random: np.random.Generator
) -> NDArray[np.float32]:
    """A random field with the same power spectrum and nearly the same values in the region."""
    corner = tuple(slice(size) for size in mask.shape)
    amplitude, ordered = np.abs(fft.rfftn(field)), np.sort(field[corner][mask])
    spectrum = fft.rfftn(random.standard_normal(field.shape, dtype=np.float32))
    for _ in range(_ROUNDS):
        spectrum *= amplitude / np.maximum(np.abs(spectrum), np.finfo(np.float32).tiny)
        made = fft.irfftn(spectrum, s=field.shape)
        found = _ranked(made[corner][mask], ordered)
        made[corner][mask] = found
        spectrum = fft.rfftn(made)
    return found
