"""What a title says that a map explains."""

from __future__ import annotations

import numpy as np
import pytest

from SaliencyExplain.results.attribution_map import Attribution

CLASSES = ("none", "glioma")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("glioma", "glioma (p = 0.93)"),
        # The probability of one class is none of a difference or of a region.
        ("difference:glioma|none", "difference:glioma|none"),
        ("region:glioma", "region:glioma"),
    ],
)
def test_only_a_class_has_a_probability(name, expected):
    values = np.zeros((2, 2), dtype=np.float32)
    one = Attribution(values, np.eye(4), "gradient", "Gradient", "", True, 1, name)
    assert one.target_with_probability(CLASSES, (0.07, 0.93)) == expected
