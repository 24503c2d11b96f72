"""Comparing maps and probabilities of two computations."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.testing
from numpy.typing import NDArray

#: Of the largest value. A float32 sum over some thousand terms is known to about 1e-6 of it, and
#: its order differs with the size of the batches, which are as large as the free memory allows:
#: another process, or other work beside it, may get other batches. A wrong voxel, class, seed or
#: parameter differs by far more.
SAME = 1e-5


def assert_same(found: Any, expected: Any) -> None:
    """Asserts that two computations of the same thing agree within the rounding of float32.

    Args:
        found: Numbers.
        expected: As many numbers.
    """
    there = np.asarray(expected, dtype=np.float64)
    assert np.shape(found) == there.shape
    scale = float(np.abs(there).max()) if there.size else 0.0
    numpy.testing.assert_allclose(found, there, rtol=0, atol=SAME * scale)


def dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """The Dice coefficient of two masks, between 0 and 1."""
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))
