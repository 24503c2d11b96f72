"""The control maps that know nothing of the classifier, beside every metric: their names.

``random`` is the distribution of smooth noise (:mod:`SaliencyExplain.comparison.random_control`),
``centre`` a map that falls off from the middle of the volume
(:func:`SaliencyExplain.attribution.methods.control_maps.centre_map`). A method whose metrics lie
within the range of the former or below the latter has not found the segment, however good 0.6 may
look: segments lie near the middle of the body more often than chance has it.
"""

from __future__ import annotations

RANDOM, CENTRE = "random", "centre"

NAMES: tuple[str, ...] = (RANDOM, CENTRE)
"""The control_maps' names in the column ``method``."""
