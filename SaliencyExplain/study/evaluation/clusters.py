"""Groups of maps that look alike: by which strategies does the classifier decide?"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from sklearn.cluster import SpectralClustering
from sklearn.neighbors import kneighbors_graph

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.study.evaluation.fixed_places import PlacedEnergy

#: Maps without which no groups are looked for: three neighbours of each would be half of all.
LEAST_MAPS = 8

#: Groups at most; more are not told apart by eye.
_MOST_GROUPS = 8

#: Neighbours of each map in the graph: the logarithm of the number of maps, and at least so
#: many (von Luxburg 2007, A tutorial on spectral clustering, section 8.1).
_LEAST_NEIGHBOURS = 3

#: Gap between two eigenvalues below which the maps are one group. Smooth random maps without
#: any groups have gaps up to about a quarter.
LEAST_GAP = 0.3


@dataclass(frozen=True)
class Group:
    """Maps that look alike.

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
        groups: One, where the maps do not fall apart.
        eigenvalues: The smallest ones of the graph's normalised Laplacian, rising.
        gap: The eigengap after the number of groups.
    """

    method: str
    groups: tuple[Group, ...]
    eigenvalues: tuple[float, ...]
    gap: float


def cluster_maps(method: str, maps: Sequence[PlacedEnergy], *, seed: int = 0) -> Clusters:
    """Spectral relevance analysis (Lapuschkin et al. 2019, Unmasking Clever Hans predictors).

    Maps are brought onto the small common grid, normalised, joined with their nearest
    neighbours, and grouped by spectral clustering (scikit-learn); how many groups there are
    is where the eigenvalues of the normalised Laplacian have their largest gap.

    Args:
        method: Label of the maps.
        maps: One for each case.
        seed: Of the clustering.

    Raises:
        InputError: There are fewer than eight maps.
    """
    if len(maps) < LEAST_MAPS:
        raise InputError(
            ErrorCode.CASES_MISSING,
            f"{method}: groups of maps are looked for among {LEAST_MAPS} cases or more, and "
            f"there are {len(maps)}.",
        )
    features = np.stack([_feature(one.energy) for one in maps])
    neighbours = max(_LEAST_NEIGHBOURS, round(float(np.log(len(maps)))))
    graph = kneighbors_graph(features, neighbours, include_self=False).toarray()
    affinity = (graph + graph.T) / 2
    scale = 1 / np.sqrt(affinity.sum(axis=1))
    laplacian = np.eye(len(maps)) - scale[:, None] * affinity * scale[None]
    wanted = min(_MOST_GROUPS, len(maps) // 4) + 1
    eigenvalues = linalg.eigh(laplacian, eigvals_only=True, subset_by_index=(0, wanted - 1))
    gaps = np.diff(eigenvalues)
    count, gap = int(gaps.argmax()) + 1, float(gaps.max())
    labels = np.zeros(len(maps), dtype=int)
    if count > 1 and gap >= LEAST_GAP:
        with warnings.catch_warnings():
            # Groups that are not joined at all are the clearest, not a failure.
            warnings.filterwarnings("ignore", message="Graph is not fully connected")
            labels = SpectralClustering(
                count, affinity="precomputed", assign_labels="cluster_qr", random_state=seed
            ).fit_predict(affinity)
    groups = []
    for label in np.unique(labels):
        own = [one for one, its in zip(maps, labels, strict=True) if its == label]
        groups.append(
            Group(
                cases=tuple(one.case for one in own),
                targets=dict(Counter(one.target for one in own)),
                mean=np.mean([one.energy for one in own], axis=0),
            )
        )
    groups.sort(key=lambda group: -len(group.cases))
    return Clusters(method, tuple(groups), tuple(np.maximum(eigenvalues, 0).tolist()), gap)


def _feature(energy: NDArray[np.float32]) -> NDArray[np.float64]:
    """The map with half as many cells along each axis, of length 1."""
    halved = energy.astype(np.float64)
    for axis in range(energy.ndim):
        shape = [*halved.shape[:axis], -1, 2, *halved.shape[axis + 1 :]]
        halved = halved.reshape(shape).sum(axis=axis + 1)
    flat = halved.ravel()
    return flat / np.linalg.norm(flat)
