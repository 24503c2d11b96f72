"""How much of a segment lies among the strongest voxels of a map, without torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AgreementCurve:
    """Points of the curve, from (0, 0) to (1, 1), to be joined by straight lines.

    Attributes:
        share_of_image: Share of the image's voxels taken, the strongest first, rising from 0
            to 1; empty for a segment without a voxel.
        share_of_segment: Of the segment's voxels, the share that is among them, [0, 1]; by
            chance ``share_of_image``.
        label: The map's label, or ``random``, ``centre``.
        segment: The segment's name.
    """

    share_of_image: tuple[float, ...]
    share_of_segment: tuple[float, ...]
    label: str = ""
    segment: str = ""
