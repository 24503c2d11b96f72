"""The partly deleted and partly restored images of a map's curves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.evaluation.image.removal_order import voxels_of_share
from SaliencyExplain.results.map_faithfulness import MapCurves, PartialImageProbabilities

#: Shares of the voxels whose images are shown; all are points of the curves.
SHOWN = (0.01, 0.05, 0.1, 0.2, 0.5)

KINDS = ("deletion", "insertion")
"""The strongest voxels are removed, or inserted alone."""


@dataclass(frozen=True)
class RandomRanking:
    """A null map for comparison: the one with the median area of its curve.

    Attributes:
        places: ``(*S)``, the rank of each voxel, 0 for the strongest.
        curve: The target's probability at each of the curves' shares.
    """

    places: NDArray[np.int64]
    curve: tuple[float, ...]


@dataclass(frozen=True)
class PartialImages:
    """The images along the curves of a map.

    Attributes:
        image: The channel of the network's input that the map is drawn over, ``(*S)``.
        baseline: The same channel of the baseline, ``(*S)``.
        places: ``(*S)``, the rank of each voxel in the map, 0 for the strongest.
        curves: The map's curves.
        random: By kind the control map.
    """

    image: NDArray[np.float32]
    baseline: NDArray[np.float32]
    places: NDArray[np.int64]
    curves: MapCurves
    random: Mapping[str, RandomRanking]

    def shown(self, kind: str, share: float, *, random: bool = False) -> NDArray[np.float32]:
        """The image with that share of the strongest voxels deleted, or inserted alone.

        Args:
            kind: One of :data:`KINDS`.
            share: In [0, 1]; 0 and 1 give the unchanged image or baseline.
            random: Whether the order is that of the null map.
        """
        places = self.random[kind].places if random else self.places
        count = 0 if share == 0 else places.size if share == 1 else _count(share, places)
        strongest = places < count
        return np.where(strongest == (kind == "insertion"), self.image, self.baseline)

    def probability(self, kind: str, share: float, *, random: bool = False) -> float:
        """The target's probability under :meth:`shown`, as it was computed for the curves."""
        curve = self.random[kind].curve if random else getattr(self.curves, kind)
        return float(curve[self.curves.shares.index(share)])

    def probabilities(self) -> PartialImageProbabilities:
        """The probabilities shown below the pictures."""
        shares = (0.0, *SHOWN)
        rows = {
            name: tuple(self.probability(kind, share, random=random) for share in shares)
            for kind in KINDS
            for name, random in ((kind, False), (f"random_{kind}", True))
        }
        return PartialImageProbabilities(shares=shares, **rows)


def _count(share: float, places: NDArray[np.int64]) -> int:
    return voxels_of_share(share, places.size)
