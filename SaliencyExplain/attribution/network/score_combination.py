"""A target that is not the score of one class: a difference of two, or in a unit of its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from SaliencyExplain.specification.target import AUTOMATIC


@dataclass(frozen=True)
class ScoreCombination:
    """One number of the scores of an image, which a network gives as a further column.

    Attributes:
        index: The class.
        against: The class whose output is subtracted; None: none is.
        unit: One of :data:`SaliencyExplain.specification.target.UNITS`. ``logit``: scores before
            the activation; ``probability``: probabilities; ``automatic``: whichever of them a
            method asks for.
    """

    index: int
    against: int | None = None
    unit: str = AUTOMATIC

    @property
    def weights(self) -> tuple[tuple[int, float], ...]:
        """The classes and the factors by which their outputs are multiplied and added."""
        own = ((self.index, 1.0),)
        return own if self.against is None else (*own, (self.against, -1.0))

    def of(self, outputs: Tensor) -> Tensor:
        """The number for each row of ``(B, K)`` outputs, ``(B, 1)``."""
        parts = [factor * outputs[:, index] for index, factor in self.weights]
        return torch.stack(parts).sum(dim=0)[:, None]
