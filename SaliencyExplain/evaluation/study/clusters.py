"""Groups of similar maps, which may show different strategies of the classifier."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import eigsh
from sklearn.neighbors import kneighbors_graph

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.evaluation.study.corrections import SIGNIFICANCE
from SaliencyExplain.evaluation.study.fixed_places import PlacedEnergy
from SaliencyExplain.evaluation.study.normalised_maps import CELLS
from SaliencyExplain.evaluation.study.shuffles import Shuffles, corrected_p_values

#: Least number of maps for a search for groups: with fewer, three neighbours of each are half of
#: all.
LEAST_MAPS = 8

#: Largest number of groups; more cannot be distinguished by eye.
_MOST_GROUPS = 8

#: Neighbours of each map in the graph: the logarithm of the number of maps, and at least so
#: many (von Luxburg 2007, A tutorial on spectral clustering, section 8.1).
_LEAST_NEIGHBOURS = 3

#: Gap between two eigenvalues below which the maps are one group.
LEAST_GAP = 0.3

#: Sets of the maps, moved at random, whose gaps are those of no groups:
#: with few maps such sets often have gaps above :data:`LEAST_GAP`, too.
_SHUFFLES = 99

#: Nodes up to which a connected graph's eigenvalues are computed at once, from a dense matrix.
_MOST_DENSE = 2000

#: Maps beyond which no such set comes near :data:`LEAST_GAP`, and none are made.
_MOST_SHUFFLED = 100


@dataclass(frozen=True)
class Group:
    """A group of similar maps.

    Attributes:
        cases: Names of the cases.
        targets: How many of them explain each class.
        mean: Mean of the maps on the common grid, each of energy 1.
    """

    cases: tuple[str, ...]
    targets: Mapping[str, int]
    mean: NDArray[np.float64]


@dataclass(frozen=True)
class Clusters:
    """The groups among the maps of one method, the largest first.

    Attributes:
        method: Label of the maps.
        groups: A single group if the maps are not separable.
        eigenvalues: The smallest ones of the graph's normalised Laplacian, rising.
        gap: The eigengap after the number of groups.
        p_corrected: Share of the shuffled sets with as large a gap, the larger one of two ways to
            make them, corrected for all methods (:func:`cluster_methods`); NaN where the gap by
            itself decides.
    """

    method: str
    groups: tuple[Group, ...]
    eigenvalues: tuple[float, ...]
    gap: float
    p_corrected: float


def cluster_methods(maps: Mapping[str, Sequence[PlacedEnergy]], *, seed: int = 0) -> list[Clusters]:
    """Groups of maps of each method.

    Groups are reported only if the gap is larger than by chance, in two ways: larger than in
    95 of 100 sets of the same maps, each shifted round the ends of the grid and turned over at
    random, alike in all maps of a case; and larger than in 95 of 100 sets in which what all maps
    share, their mean, stays where it is and only the rest is moved.

    Args:
        maps: Of each method, one for each case, eight or more.
        seed: Of the shuffles and the clustering.

    Raises:
        InputError: A method has fewer than eight maps.
    """
    found = []
    # Of each method the gaps of whole maps moved, and of what they have beyond their mean.
    whole: dict[str, NDArray[np.float64]] = {}
    beyond: dict[str, NDArray[np.float64]] = {}
    cases = list(dict.fromkeys(one.case for own in maps.values() for one in own))
    for method, own in maps.items():
        one = cluster_maps(method, own, seed=seed)
        found.append(one)
        if len(one.groups) > 1 and len(own) <= _MOST_SHUFFLED:
            features = _features(own)
            mean = features.mean(axis=0)
            shuffles = Shuffles(cases, axes=mean.ndim, cells=CELLS // 2, seed=seed, count=_SHUFFLES)
            names = [one.case for one in own]
            whole[method] = np.array(
                [_spectrum(moved)[2] for moved in shuffles.moved(names, features)]
            )
            beyond[method] = np.array(
                [_spectrum(mean + moved)[2] for moved in shuffles.moved(names, features - mean)]
            )
    tested = [one for one in found if one.method in whole]
    gaps = [one.gap for one in tested]
    both = zip(
        corrected_p_values(gaps, list(whole.values())),
        corrected_p_values(gaps, list(beyond.values())),
        strict=True,
    )
    corrected = {one.method: max(p_values) for one, p_values in zip(tested, both, strict=True)}
    return [
        _judged(one, corrected[one.method], maps[one.method]) if one.method in corrected else one
        for one in found
    ]


def _judged(one: Clusters, p_corrected: float, maps: Sequence[PlacedEnergy]) -> Clusters:
    kept = one.groups if p_corrected <= SIGNIFICANCE else (_group(maps),)
    return replace(one, groups=kept, p_corrected=p_corrected)


def cluster_maps(method: str, maps: Sequence[PlacedEnergy], *, seed: int = 0) -> Clusters:
    """Spectral relevance analysis (Lapuschkin et al. 2019, Unmasking Clever Hans predictors).

    Maps are brought onto the small common grid, normalised, joined with their nearest
    neighbours, and grouped by spectral clustering, as scikit-learn's ``SpectralClustering`` with
    ``assign_labels="cluster_qr"`` does, but with a sparse graph: its memory grows with the number
    of maps and not with its square. How many groups there are is where the eigenvalues of the
    normalised Laplacian have their largest gap. With fewer than about fifty maps large gaps also
    occur by chance: :func:`cluster_methods` tests for this.

    Args:
        method: Label of the maps.
        maps: One for each case.
        seed: Of the eigenvectors' search in large graphs.

    Raises:
        InputError: There are fewer than eight maps.
    """
    if len(maps) < LEAST_MAPS:
        raise InputError(
            ErrorCode.CASES_MISSING,
            f"{method}: groups of maps need at least {LEAST_MAPS} cases, and there are "
            f"{len(maps)}. Add cases to the study.",
        )
    eigenvalues, embedding, gap = _spectrum(_features(maps), seed)
    count = int(np.diff(eigenvalues).argmax()) + 1
    labels = np.zeros(len(maps), dtype=int)
    if count > 1 and gap >= LEAST_GAP:
        labels = _clustered(embedding[:, :count])
    groups = [
        _group([one for one, its in zip(maps, labels, strict=True) if its == label])
        for label in np.unique(labels)
    ]
    groups.sort(key=lambda group: -len(group.cases))
    return Clusters(
        method, tuple(groups), tuple(np.maximum(eigenvalues, 0).tolist()), gap, math.nan
    )


def _group(maps: Sequence[PlacedEnergy]) -> Group:
    return Group(
        cases=tuple(one.case for one in maps),
        targets=dict(Counter(one.target for one in maps)),
        mean=sum((one.energy for one in maps), np.zeros(maps[0].energy.shape)) / len(maps),
    )


def _spectrum(
    features: NDArray[np.floating], seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """The smallest eigenvalues of the nearest neighbours' graph, and what belongs to them.

    Returns:
        The eigenvalues of the graph's normalised Laplacian, rising; their eigenvectors divided by
        the roots of the nodes' degrees, ``(N, eigenvalues)``; and the largest gap.
    """
    count = len(features)
    flat = features.reshape(count, -1)
    flat = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    neighbours = max(_LEAST_NEIGHBOURS, round(float(np.log(count))))
    graph = kneighbors_graph(flat, neighbours, include_self=False)
    affinity = ((graph + graph.T) / 2).tocsr()
    scale = 1 / np.sqrt(np.asarray(affinity.sum(axis=1)).ravel())
    normalised = sparse.diags(scale) @ affinity @ sparse.diags(scale)
    eigenvalues, vectors = _smallest(normalised.tocsr(), min(_MOST_GROUPS, count // 4) + 1, seed)
    return eigenvalues, vectors * scale[:, None], float(np.diff(eigenvalues).max())


def _smallest(
    normalised: sparse.csr_matrix, wanted: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The smallest eigenvalues of a graph's normalised Laplacian, with their eigenvectors.

    Each connected part by itself: all parts have the eigenvalue 0, and an iteration finds an
    eigenvalue that several vectors share only once for sure.

    Args:
        normalised: The affinities, normalised, ``(N, N)``.
        wanted: How many.
        seed: Of the vector that an iteration begins with.
    """
    found: list[tuple[float, NDArray[np.int_], NDArray[np.float64]]] = []
    count, part_of = connected_components(normalised, directed=False)
    for part in range(count):
        places = np.flatnonzero(part_of == part)
        block = normalised[places][:, places]
        most = min(wanted, len(places))
        if len(places) <= _MOST_DENSE:
            laplacian = np.eye(len(places)) - block.toarray()
            values, vectors = linalg.eigh(laplacian, subset_by_index=(0, most - 1))
        else:
            begin = np.random.default_rng(seed).uniform(-1, 1, len(places))
            largest, vectors = eigsh(block, most, which="LA", v0=begin)
            values = 1 - largest
        found += [(float(one), places, vectors[:, at]) for at, one in enumerate(values)]
    found.sort(key=lambda one: one[0])
    embedding = np.zeros((normalised.shape[0], wanted))
    for column, (_, places, vector) in enumerate(found[:wanted]):
        embedding[places, column] = vector
    return np.array([value for value, _, _ in found[:wanted]]), embedding


def _clustered(embedding: NDArray[np.float64]) -> NDArray[np.int_]:
    """The group of each row; depends on no random start.

    Damle, Minden and Ying 2019, Simple, direct and efficient multi-way spectral clustering,
    algorithm 1; equals scikit-learn's ``cluster_qr``.

    Args:
        embedding: ``(N, groups)``.
    """
    groups = embedding.shape[1]
    *_, pivots = linalg.qr(embedding.T, mode="economic", pivoting=True)
    left, _, right = linalg.svd(embedding[pivots[:groups]].T)
    return np.abs(embedding @ (left @ right)).argmax(axis=1)


def _features(maps: Sequence[PlacedEnergy]) -> NDArray[np.float64]:
    """Each map with half as many cells along each axis, of length 1: ``(N, CELLS / 2, ...)``."""
    # One map after the other: all of them as float64 would be eight times what is left of them.
    halved = np.stack([_halved(one.energy.astype(np.float64)) for one in maps])
    norms = np.linalg.norm(halved.reshape(len(maps), -1), axis=1)
    return halved / norms.reshape(-1, *[1] * (halved.ndim - 1))


def _halved(values: NDArray[np.float64]) -> NDArray[np.float64]:
    for axis in range(values.ndim):
        shape = [*values.shape[:axis], -1, 2, *values.shape[axis + 1 :]]
        values = values.reshape(shape).sum(axis=axis + 1)
    return values
