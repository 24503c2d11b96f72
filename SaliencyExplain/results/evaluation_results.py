"""Metrics of a map beside null maps, and the answers that follow, without torch."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass

from SaliencyExplain.json_fields import Fields

#: The answers' shapes; no colours, since red and green would be read as a score.
SYMBOLS = {"yes": "●", "partly": "◐", "no": "○", "not known": "?"}

#: The questions about a map, besides one for each segment.
BEATS_CHANCE = "Does it beat chance?"
DEPENDS_ON_WEIGHTS = "Does it depend on the weights?"
IS_STABLE = "Is it stable?"

_TOPICS = {
    BEATS_CHANCE: "beats chance",
    DEPENDS_ON_WEIGHTS: "depends on the weights",
    IS_STABLE: "stable",
}
_ON_SEGMENT = "Is it on the segment "


@dataclass(frozen=True)
class Metric:
    """A metric of a map, beside the same metric of its null maps and of the control maps.

    Attributes:
        name: Such as ``deletion_area``.
        title: For people.
        value: Of the map; NaN where it is undefined.
        higher_is_better: Whether a faithful map has a high value.
        null_values: Of the map's null maps, one each; empty where it is not computed for them.
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
    null_values: tuple[float, ...]
    centre: float
    control: str
    control_value: float
    beaten: float
    p_value: float
    remark: str = ""

    @classmethod
    def from_json(cls, read: Fields) -> Metric:
        """The metric of a JSON document; raises InputError where it is damaged."""
        return cls(
            name=read.text("name"),
            title=read.text("title"),
            value=read.number_or_nan("value"),
            higher_is_better=read.flag("higher_is_better"),
            null_values=read.numbers_or_nan("null_values"),
            centre=read.number_or_nan("centre"),
            control=read.text("control"),
            control_value=read.number_or_nan("control_value"),
            beaten=read.number_or_nan("beaten"),
            p_value=read.number_or_nan("p_value"),
            remark=read.text("remark"),
        )

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
        words: Why, with the metrics.
        limits: What the answer does not say; empty where only the answer is kept.
        source: Where the question comes from; empty where only the answer is kept.
    """

    question: str
    answer: str
    words: str
    limits: str = ""
    source: str = ""

    @property
    def topic(self) -> str:
        """The question in a few words, such as ``beats chance`` or ``on the tumour``."""
        if self.question.startswith(_ON_SEGMENT):
            return f"on the {self.question.removeprefix(_ON_SEGMENT).removesuffix('?')}"
        return _TOPICS.get(self.question, self.question)

    @property
    def symbol(self) -> str:
        """The answer's shape."""
        return SYMBOLS[self.answer]

    @property
    def line(self) -> str:
        """Such as ``● beats chance: yes``."""
        return f"{self.symbol} {self.topic}: {self.answer}"

    def in_brief(self) -> Answer:
        """The answer without limits and source."""
        return Answer(self.question, self.answer, self.words)

    def as_json(self) -> dict[str, str]:
        """As JSON; limits and source are left out where they are empty."""
        return {name: text for name, text in asdict(self).items() if text}

    @classmethod
    def from_json(cls, read: Fields) -> Answer:
        """What :meth:`as_json` wrote.

        Raises:
            InputError: A field is missing or is not of its kind.
        """
        return cls(
            read.text("question"),
            read.choice("answer", *SYMBOLS),
            read.text("words"),
            *(read.text(name) if read.has(name) else "" for name in ("limits", "source")),
        )


def segment_question(segment: str) -> str:
    """The question whether a map lies on the segment of that name."""
    return f"{_ON_SEGMENT}{segment}?"


def card_name(label: str) -> str:
    """The file name of the trust card of the map of that label."""
    return f"card-{re.sub(r'[^A-Za-z0-9@+._-]+', '-', label)}.png"


def _better(value: float, other: float, higher_is_better: bool) -> bool:
    if math.isclose(value, other, rel_tol=1e-9, abs_tol=1e-12):
        return False
    return value > other if higher_is_better else value < other
