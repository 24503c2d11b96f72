"""What the evaluation of a case's maps said, in brief, as the study's journal keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from SaliencyExplain.evaluation_parts import EVALUATION_FILE, SYMBOLS, topic
from SaliencyExplain.records.json_fields import Fields, read_object


@dataclass(frozen=True)
class Answer:
    """The answer to one question about a map, in brief.

    Attributes:
        topic: Such as ``beats chance``.
        answer: ``yes``, ``partly``, ``no`` or ``not known``.
        words: Why, with the figures.
    """

    topic: str
    answer: str
    words: str

    @property
    def symbol(self) -> str:
        """The answer's shape."""
        return SYMBOLS[self.answer]

    @property
    def line(self) -> str:
        """Such as ``● beats chance: yes``."""
        return f"{self.symbol} {self.topic}: {self.answer}"


@dataclass(frozen=True)
class EvaluatedMap:
    """What the evaluation said of one map.

    Attributes:
        label: Of the map.
        card: Name of the file of its trust card.
        answers: To the questions about it.
    """

    label: str
    card: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class EvaluationSummary:
    """What the evaluation of a case's maps said, in brief.

    Attributes:
        budget: Forward passes that it might cost.
        cost_tier: How thorough it was.
        failed: The methods that gave no map to evaluate.
        maps: The evaluated maps.
        sizes: ``{name: bytes}`` of its files but ``evaluation.json``, whose size differs with the
            seconds in it.
    """

    budget: float | None
    cost_tier: str
    failed: tuple[str, ...]
    maps: tuple[EvaluatedMap, ...]
    sizes: Mapping[str, int]

    def as_json(self) -> dict[str, Any]:
        """As the journal holds it."""
        return {
            "budget": self.budget,
            "cost_tier": self.cost_tier,
            "failed": list(self.failed),
            "maps": [
                {
                    "label": one.label,
                    "card": one.card,
                    "answers": [asdict(answer) for answer in one.answers],
                }
                for one in self.maps
            ],
            "bytes": dict(self.sizes),
        }

    @classmethod
    def from_json(cls, found: Fields) -> EvaluationSummary:
        """Reads what :meth:`as_json` wrote; raises InputError where it is damaged."""
        return cls(
            found.number_or_none("budget"),
            found.text("cost_tier"),
            found.texts("failed"),
            tuple(
                EvaluatedMap(
                    one.text("label"),
                    one.name("card"),
                    tuple(
                        Answer(it.text("topic"), it.choice("answer", *SYMBOLS), it.text("words"))
                        for it in one.objects("answers")
                    ),
                )
                for one in found.objects("maps")
            ),
            sizes_from(found.object("bytes")),
        )


def answers_in(folder: Path) -> dict[str, list[Answer]]:
    """The answers about each map, by its label, in the evaluation of a case's maps.

    Args:
        folder: The case's folder.

    Raises:
        InputError: There is no evaluation, or it is damaged; file and field are named.
    """
    return {
        one.text("label"): [
            Answer(topic(it.text("question")), it.choice("answer", *SYMBOLS), it.text("words"))
            for it in one.objects("answers")
        ]
        for one in read_object(folder / EVALUATION_FILE).objects("maps")
    }


def sizes_from(sizes: Fields) -> dict[str, int]:
    """Sizes of files by their names, or by the ends of these; raises InputError as its fields."""
    for name in sizes.content:
        if any(character in name for character in "/\\\0"):
            sizes.refuse(name, "a plain file name")
    return {name: sizes.integer(name) for name in sizes.content}
