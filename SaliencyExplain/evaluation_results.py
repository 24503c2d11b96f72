"""Metrics of a map beside null maps, and the answers that follow, without torch.

They are the same in the evaluation, on the wire and in the panels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from SaliencyExplain.evaluation_parts import topic


@dataclass(frozen=True)
class Metric:
    """A metric of a map, beside the same metric of its null maps and of the control maps.

    Attributes:
        name: Such as ``deletion_area``.
        title: For people.
        value: Of the map; NaN where it is undefined.
        higher_is_better: Whether a faithful map has a high value.
        chance: Of the map's null maps, one each; empty for a metric that is not computed for them.
        centre: Of the centre-weighted map, a habit that knows nothing of the classifier.
        control: The control map with the best value; empty where none has one.
        control_value: Its value.
        beaten: Share of the null maps that the map beats, equal ones half, [0, 1]; NaN where
            the metric tells nothing.
        p_value: Chance that a null map is as good, ``(1 + as good) / (1 + maps)``
            (Phipson and Smyth 2010).
        remark: Why it is undefined or tells nothing; empty otherwise.
    """

    name: str
    title: str
    value: float
    higher_is_better: bool
    chance: tuple[float, ...]
    centre: float
    control: str
    control_value: float
    beaten: float
    p_value: float
    remark: str = ""

    @property
    def beats_controls(self) -> bool:
        """Whether the map is better than each control map."""
        if math.isnan(self.value):
            return False
        if math.isnan(self.control_value):
            return True
        return _better(self.value, self.control_value, self.higher_is_better)


@dataclass(frozen=True)
class Answer:
    """The answer to one question about a map.

    Attributes:
        question: Such as ``Does it beat chance?``.
        answer: ``yes``, ``partly``, ``no`` or ``not known``.
        words: Why, with the figures.
        limits: What the answer does not say.
        source: Where the question comes from.
    """

    question: str
    answer: str
    words: str
    limits: str
    source: str

    @property
    def topic(self) -> str:
        """The question in a few words, such as ``beats chance``."""
        return topic(self.question)


def _better(value: float, other: float, higher_is_better: bool) -> bool:
    if math.isclose(value, other, rel_tol=1e-9, abs_tol=1e-12):
        return False
    return value > other if higher_is_better else value < other
