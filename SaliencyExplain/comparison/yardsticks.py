"""What a map that knows nothing of the classifier scores: the two yardsticks on a map's grid.

``random`` is smooth noise, ``centre`` falls off from the middle of the volume. A method whose
figures are no better than theirs has not found the segment, however good 0.3 may look.

Where chance has a closed form: with p the segment's share of the volume, a map that ranks the
voxels at random has the expectation p for energy inside, pointing, average precision, rank
accuracy and Dice at equal volume, p / (2 - p) for IoU at equal volume, 0.5 for AUROC, and at
least 2p / (1 + p) for Dice at the best threshold (everything selected) where all its values are
positive. Distances have none; and segments lie near the middle of the body more often than
chance has it, which is what ``centre`` is for.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.attribution.yardsticks import centre_map, random_map
from SaliencyExplain.images.grids import spacing_of

NAMES: tuple[str, ...] = ("random", "centre")
"""The yardsticks' names in the column ``method``."""


def yardstick_maps(
    shape: tuple[int, ...], affine: NDArray[np.float64], case: str, *, seed: int = 0
) -> dict[str, NDArray[np.float32]]:
    """The yardsticks on a grid.

    Args:
        shape: Shape (*S) of the grid.
        affine: 4x4 of the grid, RAS mm.
        case: Name of the case. Every case draws noise of its own: one draw for a study of
            registered volumes would be one lucky or unlucky guess, counted once per case.
        seed: Seed of the study.

    Returns:
        ``{"random": map, "centre": map}``, float32, (*S).
    """
    spacing = spacing_of(affine, len(shape))
    own_seed = np.random.SeedSequence([seed, zlib.crc32(case.encode())]).generate_state(1)
    return {
        "random": random_map(shape, spacing, seed=int(own_seed[0])),
        "centre": centre_map(shape, spacing),
    }
