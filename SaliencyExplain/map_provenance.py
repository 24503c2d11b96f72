"""What a map's provenance says of how the map is read: once for the engine's and a scene's maps."""

from __future__ import annotations

from typing import Any

from SaliencyExplain.field_of_view import FieldOfView
from SaliencyExplain.figures import CHANNEL, EACH_SEGMENT
from SaliencyExplain.peak import RESOLUTION_MM


class MapProvenance:
    """Base of maps that carry their provenance.

    Attributes:
        provenance: What it takes to compute the map again and to read it.
    """

    provenance: dict[str, Any]

    @property
    def field_of_view(self) -> FieldOfView | None:
        """Outside of it the map is undefined; None: the network sees the whole image."""
        return FieldOfView.of(self.provenance)

    @property
    def channel(self) -> int:
        """The channel that the map is drawn over: its own, or the first."""
        return int(self.provenance.get(CHANNEL) or 0)

    @property
    def own_segments(self) -> tuple[str, ...]:
        """Hashes of the segments that are the map's regions; empty where it has other ones."""
        return tuple(self.provenance.get(EACH_SEGMENT, ()))

    @property
    def resolution_mm(self) -> float:
        """What the map resolves, mm; its peak is looked for at that scale. 0: a voxel."""
        return float(self.provenance.get(RESOLUTION_MM, 0.0))
