"""The output that a perturbation method watches: the target's probability, or its score.

A classifier that is sure of itself has a probability of 1 - 1e-7, and in float32, whose numbers
below 1 are 6e-8 apart, covering a place changes nothing. In float64 it changes by what it
changes, until a margin of the scores of about 30, where nothing is left of it there either. Then
the score, which moves as ever, is shown in its place and named.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from SaliencyExplain.attribution.method import Task
from SaliencyExplain.attribution.network import ScoreNetwork

Floats = NDArray[np.float64]

#: Changes of the probability below this are rounding: its numbers below 1 are 1.1e-16 apart.
LEAST = 1e-12

#: How far from 0 and 1 a probability at most is where it cannot move.
_FAR = 1e-6

#: The same where it moves so little that a user should be told.
_TOLD = 1e-4

PROBABILITY, SCORE = 0, 1


def outputs(network: ScoreNetwork, scores: Tensor, target: int) -> Tensor:
    """The target's probability and score of each image, ``(B, 2)`` in float64 on the CPU."""
    probabilities = network.probabilities(scores.detach())[:, target].cpu()
    return torch.stack([probabilities, scores.detach()[:, target].double().cpu()], dim=1)


def cannot_move(values: Floats) -> bool:
    """Whether the score moves among images and the probability, at 0 or 1, does not.

    Args:
        values: Probability and score of several images, ``(B, 2)``.
    """
    probability, score = values[:, PROBABILITY], values[:, SCORE]
    far = np.minimum(probability, 1 - probability).max()
    return bool(np.ptp(probability) < LEAST and far < _FAR and np.ptp(score) > 0)


class Watched:
    """Keeps in mind how far both outputs moved, and says which of them a map is made of.

    Args:
        task: The network and the target; whom to tell.
        wanted: ``probability`` or ``score``.
    """

    def __init__(self, task: Task, wanted: str) -> None:
        self._task, self._wanted = task, wanted
        self._ends: Floats = np.zeros((0, 2))

    def outputs(self, scores: Tensor) -> Tensor:
        """See :func:`outputs`."""
        return outputs(self._task.network, scores, self._task.target)

    def see(self, values: Floats) -> None:
        """Takes note of the outputs ``(B, 2)`` of images."""
        seen = np.concatenate([self._ends, values])
        self._ends = np.stack([seen.min(axis=0), seen.max(axis=0)])

    @property
    def column(self) -> int:
        """Which of the two outputs the map is made of."""
        if self._wanted == "score" or (len(self._ends) and cannot_move(self._ends)):
            return SCORE
        return PROBABILITY

    def tell(self, original: Floats) -> None:
        """Notes what a user must know of the probability, and records another output.

        Args:
            original: Both outputs ``(2,)`` of the image as it is.
        """
        if self._wanted == "score" or not len(self._ends):
            return
        largest = float(np.abs(self._ends - original)[:, PROBABILITY].max())
        value = float(original[PROBABILITY])
        if self.column == SCORE:
            self._task.record({"output": "score"})
            self._task.note(
                f"The target's probability is {text(value)} and cannot move: the map shows the "
                "target's score before the activation instead (output=score)."
            )
        elif min(value, 1 - value) < _TOLD and largest < _TOLD:
            if self._task.network.activation == "none" and not largest:
                self._task.note(
                    f"The network gives the target {text(value)} whatever is covered: it ends in "
                    "a softmax or sigmoid of its own, which is saturated, and the map is zero. "
                    "Give the classifier without it."
                )
            elif largest:
                self._task.note(
                    f"The target's probability is {text(value)} and changes by {largest:.1g} at "
                    "most; output=score shows the score before the activation."
                )


def text(probability: float) -> str:
    """A probability, with its distance from 1 where that is small: ``1 - 3e-07``."""
    if 0.999 < probability < 1:
        return f"1 - {1 - probability:.1g}"
    return f"{probability:.3g}"
