"""Null maps: a map's own values and smoothness, at places that know nothing of the classifier.

The null hypothesis is that, given the image, where a map has its values has nothing to do with
what the classifier uses. Copies of the map at other places are then as likely as the map, and
the share of them that does as well is a p-value. A null map of another smoothness or another
distribution of values would be told from the map by those, and not by what it knows.
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

#: Rounds in which spectrum and values are brought together (Schreiber and Schmitz 1996).
_ROUNDS = 3

#: A copy that has more than this share of the map's strongest voxels among its own lies on the
#: same evidence, and is drawn again. By chance it is :data:`_TOP`.
_OVERLAP = 0.2

#: The strongest voxels of a region, as a share of it; fewer where the map is zero elsewhere.
_TOP = 0.1

#: Draws at most; then the one that overlaps least is taken, as for a map that fills the region.
_DRAWS = 8


class NullMaps:
    """Makes the null maps of any number of maps of one image.

    Values stay on their side of the body's outline: the voxels of the body are permuted among
    themselves, and so are those around it. A map is held against copies that leave out the air
    as well as it does. Any outline that is made of the image alone serves; the better it is, the
    less do the copies differ from the map in what a glance at the image tells.

    The copies are by turns *shifted*, the map rolled within the mirrored box of the region, so
    that it comes back flipped, and *phase-randomised*, a random field with the map's power
    spectrum (Theiler et al. 1992; with the values of the map, Schreiber and Schmitz 1996). Both
    are given the map's own values by rank. A copy that lies on the map's own strongest voxels is
    drawn again.

    Args:
        image: ``(*S)``, the first channel of the network's input.
        body: ``(*S)``; None: what lies above Otsu's threshold of the image.
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
        """So many null maps of a map ``(*S)``, each with exactly its values.

        A region in which the map is constant stays as it is.
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
    """What lies above Otsu's threshold; everything where the image is constant."""
    if image.min() == image.max():
        return np.ones(image.shape, dtype=bool)
    found: NDArray[np.bool_] = image > threshold_otsu(image.ravel())
    return found


def _normal_scores(values: NDArray[np.floating]) -> Values:
    """Ranks as quantiles of the normal distribution: ranks are all that a curve knows."""
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
    """The first copy that does not lie on the map itself, or the one that does so least."""
    count, ordered = max(1, round(_TOP * own.size)), np.sort(own)
    border = ordered[-count]
    # Where the border's value is a plateau, only what lies above it.
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

    So neither the region's outline nor the box's faces are edges in the field.
    """
    field = np.zeros(mask.shape, dtype=np.float32)
    field[mask] = scores
    nearest = ndimage.distance_transform_edt(~mask, return_distances=False, return_indices=True)
    return np.pad(field[tuple(nearest)], [(0, size) for size in mask.shape], mode="symmetric")


def _shifted(
    field: NDArray[np.float32], mask: NDArray[np.bool_], random: np.random.Generator
) -> NDArray[np.floating]:
    """Rolled within the mirrored box, so that half of the copies are turned along each axis.

    What leaves the region is made up for around a random place, in one piece: among equal values
    the nearest to it come first. Ranks, as a field without equal values.
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
    """A random field of the same power spectrum, its values in the region nearly the same."""
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
