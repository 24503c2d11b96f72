"""The table of a study's cases, as both panels show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from SaliencyExplain.records.agreement_row import Agreement
from SaliencyExplain.records.case_entry import CaseEntry, true_class
from SaliencyExplain.records.control_names import NAMES as CONTROL_MAPS
from SaliencyExplain.records.journal_file import JournalFile


@dataclass(frozen=True)
class StudyRow:
    """One case of the table.

    Attributes:
        number: Its place in the journal, from 0.
        case: Its name, and that of its folder.
        explained: Whether it has maps.
        reason: Why it failed, or a part of it; empty where nothing did.
        label: The true class as the classifier names it, else as its table does; or empty.
        predicted: Name of the likeliest class; empty where the case is not explained.
        right: ``yes`` or ``no``; empty where the label is no class.
        probability: Of the likeliest class; None where the case is not explained.
        agreement: ``{"<map> in <segment>": agreement}``, without the control maps.
    """

    number: int
    case: str
    explained: bool
    reason: str
    label: str = ""
    predicted: str = ""
    right: str = ""
    probability: float | None = None
    agreement: Mapping[str, Agreement] = field(default_factory=dict)


def study_rows(journal: JournalFile) -> list[StudyRow]:
    """The rows of a study's cases, in the journal's order."""
    return [_row(number, entry, journal.classes) for number, entry in enumerate(journal.entries())]


def _row(number: int, entry: CaseEntry, classes: list[str]) -> StudyRow:
    result = entry.result
    if result is None:
        return StudyRow(number, entry.case, False, entry.reason)
    predicted, label = result.predicted(classes), true_class(entry.label, classes)
    return StudyRow(
        number,
        entry.case,
        True,
        entry.reason,
        label=label or entry.label or "",
        predicted=predicted,
        right="" if label is None else "yes" if label == predicted else "no",
        probability=max(result.probabilities),
        agreement={
            f"{row.method} in {row.segment}": row.agreement
            for row in result.rows
            if row.method not in CONTROL_MAPS
        },
    )
