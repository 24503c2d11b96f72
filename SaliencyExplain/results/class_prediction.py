"""What a classifier says of an image."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Prediction:
    """The probability of each class of one image.

    Attributes:
        classes: Names of the classes.
        probabilities: One for each class, in [0, 1].
        scores: One for each class, before the activation.
        seconds: Time of the forward pass.
        notes: What a user should be told: resampled, guessed, fallen back.
    """

    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    scores: tuple[float, ...]
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def predicted(self) -> str:
        """Name of the class of the highest probability."""
        return self.classes[self.probabilities.index(max(self.probabilities))]
