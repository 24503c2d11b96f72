"""The output that a perturbation method watches: the target's probability, or its score.

A confident classifier has a probability of 1 - 1e-7. In float32, whose numbers below 1 are 6e-8
apart, it does not change when a place is covered. In float64 it changes up to a margin of the
scores of about 30. Beyond that margin the score is shown instead, and named.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from SaliencyExplain.attribution.network.region_scores import RegionMean
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.attribution.passes.task import Task

Floats = NDArray[np.float64]

#: Changes of the probability below this are rounding: its numbers below 1 are 1.1e-16 apart.
LEAST = 1e-12

#: Largest distance from 0 or 1 of a probability that cannot change.
_FAR = 1e-6

#: The same for a probability that changes so little that the user gets a note.
_TOLD = 1e-4

PROBABILITY, SCORE = 0, 1


def outputs(network: ScoreNetwork, scores: Tensor, target: int) -> Tensor:
    """The target's probability and score of each image, ``(B, 2)`` in float64 on the CPU."""
    probabilities = network.probabilities(scores.detach())[:, target].cpu()
    return torch.stack([probabilities, scores.detach()[:, target].double().cpu()], dim=1)


def cannot_move(values: Floats) -> bool:
    """Whether the score differs among images and the probability, at 0 or 1, does not.

    Args:
        values: Probability and score of several images, ``(B, 2)``.
    """
    probability, score = values[:, PROBABILITY], values[:, SCORE]
    far = np.minimum(probability, 1 - probability).max()
    return bool(np.ptp(probability) < LEAST and far < _FAR and np.ptp(score) > 0)


class Watched:
    """Records how far both outputs change, and chooses the one that the map is made of.

    Args:
        task: The network, the target, and the callbacks for notes and records.
        wanted: ``probability`` or ``score``.
    """

    def __init__(self, task: Task, wanted: str) -> None:
        self._task, self._wanted = task, wanted
        if isinstance(task.network.network, RegionMean):
            # A region is asked for its mean logit.
            self._wanted = "score"
            task.record({"output": "score"})
        self._ends: Floats = np.zeros((0, 2))
        self._logarithms = False

    def outputs(self, scores: Tensor) -> Tensor:
        """See :func:`outputs`."""
        if not len(self._ends) and self._task.network.activation == "softmax":
            found = self._task.network.class_scores(scores.detach()).double()
            sums = found.exp().sum(dim=1)
            self._logarithms = bool((found <= 0).all() and ((sums - 1).abs() < 1e-5).all())
        return outputs(self._task.network, scores, self._task.target)

    def see(self, values: Floats) -> None:
        """Records the range of the outputs ``(B, 2)`` of images."""
        seen = np.concatenate([self._ends, values])
        self._ends = np.stack([seen.min(axis=0), seen.max(axis=0)])

    @property
    def column(self) -> int:
        """Which of the two outputs the map is made of."""
        if self._wanted == "score":
            return SCORE
        # Without an activation the score is the probability.
        own = self._task.network.activation == "none"
        return SCORE if len(self._ends) and not own and cannot_move(self._ends) else PROBABILITY

    def tell(self, original: Floats) -> None:
        """Adds a note on a probability that cannot change, and records the output used.

        Args:
            original: Both outputs ``(2,)`` of the image as it is.
        """
        if self._wanted == "score" or not len(self._ends):
            return
        largest = float(np.abs(self._ends - original)[:, PROBABILITY].max())
        value = float(original[PROBABILITY])
        # The logarithm of a probability near 1 has no more digits than the probability has; near 0
        # it moves as logits do.
        ends = {"none": "softmax or sigmoid"}.get(self._task.network.activation, "")
        if self._logarithms and value > 0.5:
            ends = "log-softmax"
        if self.column == SCORE:
            self._task.record({"output": "score"})
            self._task.note(
                f"The target's probability is {text(value)} and cannot change: the map shows the "
                "target's score before the activation instead (output=score)."
                + (f" The network itself ends in a {ends}." if ends else "")
            )
        elif min(value, 1 - value) < _TOLD and largest < _TOLD:
            if ends:
                moves = f"changes by {largest:.1g} at most" if largest else "does not change"
                self._task.note(
                    f"The network returns {text(value)} for the target, which {moves} when "
                    f"regions are covered: it ends in a {ends}, which is saturated, so the map "
                    "shows little or nothing. Give the classifier without this layer, as a "
                    "network that returns logits."
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
