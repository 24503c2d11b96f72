"""What a classifier says of an image."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ClassSize:
    """How much of an image a segmentation network predicts as a class.

    Attributes:
        name: Of the class.
        voxels: Of the network's grid.
        size: In ``unit``.
        unit: ``ml``, or ``cm2`` in 2D; ``voxels`` or ``pixels`` where the image has no size.
    """

    name: str
    voxels: int
    size: float
    unit: str


@dataclass(frozen=True)
class Prediction:
    """The probability of each class of one image; of a segmentation network, in a region.

    Attributes:
        classes: Names of the classes.
        probabilities: One for each class, in [0, 1].
        scores: One for each class, before the activation.
        seconds: Time of the forward pass.
        notes: What a user should be told: resampled, guessed, fallen back.
        sizes: Of a segmentation network the size of each class; else empty.
    """

    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    scores: tuple[float, ...]
    seconds: float
    notes: tuple[str, ...] = ()
    sizes: tuple[ClassSize, ...] = ()

    @property
    def predicted(self) -> str:
        """Name of the class of the highest probability."""
        return self.classes[self.probabilities.index(max(self.probabilities))]
