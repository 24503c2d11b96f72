"""The references of an image, before and after their voxels are sent to an engine."""

from __future__ import annotations

from dataclasses import dataclass

from SaliencyExplain.engine.interface import Engine
from SaliencyExplain.specification.spec import References
from SaliencyExplain.voxel_volume import Volume


@dataclass(frozen=True)
class LocalReferences:
    """References whose voxels have not been sent to an engine.

    Attributes:
        segments: Masks ``(N, *S)``, uint8, on the image's grid; None: no segmentation.
        names: N names of the segments.
        notes: Notes on the segments.
        backgrounds: Images that stand for nothing in particular, ``(C, *S)`` each.
    """

    segments: Volume | None = None
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    backgrounds: tuple[Volume, ...] = ()

    def send(self, engine: Engine) -> References:
        """The same as hashes of the engine's volumes, after sending those that it lacks."""
        return References(
            None if self.segments is None else engine.put(self.segments),
            self.names,
            self.notes,
            tuple(engine.put(volume) for volume in self.backgrounds),
        )
