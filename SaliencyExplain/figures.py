"""What a method found beside its map, in words: the same on every face."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Regions that are named in words; all of them are in the file.
_MOST_REGIONS = 6

#: Share of what is to be explained that a sum may miss before it is said.
_INCOMPLETE = 0.05

#: The key of a map's provenance with the hashes of the segments that are its regions.
EACH_SEGMENT = "each_segment_sha256"

#: The key of a map's provenance with the number of the one channel that the map is of, from 0;
#: such a map is drawn over that channel, others over the first.
CHANNEL = "channel"


def figure_lines(figures: Mapping[str, Any]) -> list[str]:
    """The figures that a user should be told of, one line each; most methods have none.

    Args:
        figures: ``provenance["figures"]`` of a map: what it told ``Task.record``.

    Returns:
        The named regions with the largest effects and their confidence intervals, and how far
        a map that should add up to the score falls short.
    """
    lines = []
    regions = figures.get("regions")
    if isinstance(regions, list):
        known = [region for region in regions if region["value"] is not None]
        known.sort(key=lambda region: -abs(region["value"]))
        confidence = figures.get("confidence", 0.95)
        lines += [_region_line(region, confidence) for region in known[:_MOST_REGIONS]]
        if len(known) > _MOST_REGIONS:
            lines.append(f"and {len(known) - _MOST_REGIONS} more regions")
        lines += [
            f"{region['name']}: outside of what the network sees"
            for region in regions
            if region["value"] is None
        ]
    missed = figures.get("completeness_error_share")
    if missed is not None and missed > _INCOMPLETE:
        lines.append(
            f"the map's sum misses {missed:.0%} of the difference to the baseline that it should "
            "add up to: take more steps"
        )
    return lines


def _region_line(region: Mapping[str, Any], confidence: float) -> str:
    text = f"{region['name']}: {region['value']:+.3f}"
    low, high = region["low"], region["high"]
    if low is not None and high > low:
        text += f" ({confidence:.0%} interval {low:+.3f} to {high:+.3f})"
    return f"{text}, {region['voxels']:,} voxels"
