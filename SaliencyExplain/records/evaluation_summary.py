"""What the evaluation of a case's maps said, in brief, as the study's journal keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from SaliencyExplain.json_fields import Fields
from SaliencyExplain.results.evaluation_results import Answer, card_name


@dataclass(frozen=True)
class EvaluationSummary:
    """What the evaluation of a case's maps said, in brief.

    Attributes:
        budget: Forward passes that it might cost.
        cost_tier: How thorough it was.
        failed: The methods that gave no map to evaluate.
        answers: ``{label of an evaluated map: the answers about it}``, without limits and sources.
        sizes: ``{name: bytes}`` of its files but ``evaluation.json``, whose size differs with the
            seconds in it.
    """

    budget: float | None
    cost_tier: str
    failed: tuple[str, ...]
    answers: Mapping[str, tuple[Answer, ...]]
    sizes: Mapping[str, int]

    def as_json(self) -> dict[str, Any]:
        """As the journal holds it."""
        return {
            "budget": self.budget,
            "cost_tier": self.cost_tier,
            "failed": list(self.failed),
            "maps": [
                {
                    "label": label,
                    "card": card_name(label),
                    "answers": [answer.as_json() for answer in answers],
                }
                for label, answers in self.answers.items()
            ],
            "bytes": dict(self.sizes),
        }

    @classmethod
    def from_json(cls, found: Fields) -> EvaluationSummary:
        """Reads what :meth:`as_json` wrote; raises InputError where it is damaged."""
        for one in found.objects("maps"):
            if one.text("card") != card_name(one.text("label")):
                one.refuse("card", "the trust card of its label")
        return cls(
            found.number_or_none("budget"),
            found.text("cost_tier"),
            found.texts("failed"),
            {
                one.text("label"): tuple(Answer.from_json(it) for it in one.objects("answers"))
                for one in found.objects("maps")
            },
            sizes_from(found.object("bytes")),
        )


def sizes_from(sizes: Fields) -> dict[str, int]:
    """Sizes of files by their names, or by the ends of these; raises InputError as its fields."""
    for name in sizes.content:
        if any(character in name for character in "/\\\0"):
            sizes.refuse(name, "a plain file name")
    return {name: sizes.integer(name) for name in sizes.content}
