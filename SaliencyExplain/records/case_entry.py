"""A case's line in the journal of a study: what is done of it, and its results in brief."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from SaliencyExplain.json_fields import Fields
from SaliencyExplain.records.agreement_row import Row
from SaliencyExplain.records.case_record import CaseRecord
from SaliencyExplain.records.evaluation_summary import EvaluationSummary, sizes_from
from SaliencyExplain.records.map_record import MAP_FILES, MapFiles
from SaliencyExplain.records.target_names import class_of

#: Stage of a failure of one method, before its name: the case keeps the other methods' maps.
METHOD_STAGE = "explaining with"


@dataclass(frozen=True)
class StageFailure:
    """What failed in a case.

    Attributes:
        stage: Where, such as ``reading the image``.
        code: Of the error, see :class:`SaliencyExplain.errors.ErrorCode`.
        reason: Its message, without what may name the patient.
    """

    stage: str
    code: str
    reason: str

    @property
    def method(self) -> str | None:
        """The method that failed; None where it was another stage."""
        of_method = self.stage.startswith(METHOD_STAGE)
        return self.stage[len(METHOD_STAGE) :].strip() if of_method else None


@dataclass(frozen=True)
class MapEntry:
    """A map of a case, in brief.

    Attributes:
        label: ``method`` or ``method@layer``.
        stem: What the names of its files begin with.
        sizes: Their sizes, ``{end of the name: bytes}``.
        share_done: Share of the computation that is in it; below 1 it is a partial map.
    """

    label: str
    stem: str
    sizes: Mapping[str, int]
    share_done: float = 1.0

    @property
    def method(self) -> str:
        """Name of the method."""
        return self.label.partition("@")[0]

    @property
    def files(self) -> MapFiles:
        """Names of its files."""
        return MapFiles.of(self.stem)

    def as_json(self) -> dict[str, Any]:
        """As the journal holds it."""
        entry = {"label": self.label, "files": self.stem, "bytes": dict(self.sizes)}
        return entry | ({"share_done": self.share_done} if self.share_done < 1 else {})

    @classmethod
    def from_json(cls, entry: Fields) -> MapEntry:
        """Reads what :meth:`as_json` wrote; raises InputError where it is damaged."""
        sizes = sizes_from(entry.object("bytes"))
        share_done = entry.number("share_done", 0, 1) if entry.has("share_done") else 1.0
        return cls(entry.text("label"), entry.name("files"), sizes, share_done)


@dataclass(frozen=True)
class CaseResult:
    """The results of an explained case, in brief.

    Attributes:
        length_unit: ``mm``, or ``px`` of a picture without a size.
        target: What the maps explain: the name of a class, or the text of another target.
        probabilities: In the order of the study's classes.
        maps: The maps.
        rows: Their agreement, and that of the control maps, with each segment.
        notes: What a user must be told.
        evaluation: None where the maps were not evaluated.
    """

    length_unit: str
    target: str
    probabilities: tuple[float, ...]
    maps: tuple[MapEntry, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    evaluation: EvaluationSummary | None = None

    def predicted(self, classes: Sequence[str]) -> str:
        """Name of the likeliest of the study's classes."""
        return classes[max(range(len(classes)), key=self.probabilities.__getitem__)]

    @classmethod
    def of(cls, record: CaseRecord, sizes: Mapping[str, int]) -> CaseResult:
        """The results in a case's record.

        Args:
            record: The record.
            sizes: ``{name: bytes}`` of the maps' files.
        """
        return cls(
            record.image.length_unit,
            record.target_name,
            tuple(record.probabilities.values()),
            tuple(
                MapEntry(
                    one.label,
                    one.files.stem,
                    {end: sizes[f"{one.files.stem}{end}"] for end in MAP_FILES.values()},
                    one.share_done,
                )
                for one in record.maps
            ),
            record.rows,
            record.notes,
        )

    def as_json(self) -> dict[str, Any]:
        """As the journal holds it."""
        evaluation = {} if self.evaluation is None else {"evaluation": self.evaluation.as_json()}
        return {
            "length_unit": self.length_unit,
            "target": self.target,
            "probabilities": list(self.probabilities),
            "maps": [one.as_json() for one in self.maps],
            "rows": [row.as_json() for row in self.rows],
            "notes": list(self.notes),
            **evaluation,
        }

    @classmethod
    def from_json(cls, entry: Fields, classes: Sequence[str]) -> CaseResult:
        """Reads what :meth:`as_json` wrote; raises InputError where it is damaged."""
        probabilities = entry.numbers("probabilities", 0, 1)
        if len(probabilities) != len(classes):
            entry.refuse("probabilities", "a number for each class")
        target = entry.text("target")
        if class_of(target, classes) is None:
            entry.refuse("target", "a class, or a target of the classes")
        return cls(
            entry.choice("length_unit", "mm", "px"),
            target,
            probabilities,
            tuple(map(MapEntry.from_json, entry.objects("maps"))),
            tuple(map(Row.from_json, entry.objects("rows"))),
            entry.texts("notes"),
            EvaluationSummary.from_json(entry.object("evaluation"))
            if entry.has("evaluation")
            else None,
        )


@dataclass(frozen=True)
class CaseEntry:
    """A case's line in the journal.

    Attributes:
        case: Its name, and that of its folder.
        source: Digest of the files that it was made of.
        label: The true class as its table has it; None where it is not known.
        failures: What failed in it.
        result: None where it could not be explained.
    """

    case: str
    source: str
    label: str | None
    failures: tuple[StageFailure, ...] = ()
    result: CaseResult | None = None

    @property
    def reason(self) -> str:
        """Why it failed, or a part of it; empty where nothing did."""
        return "; ".join(failure.reason for failure in self.failures)

    @property
    def failed_methods(self) -> set[str]:
        """The methods that failed in it."""
        return {failure.method for failure in self.failures if failure.method is not None}

    @property
    def methods(self) -> set[str]:
        """The methods that it has a map of."""
        return set() if self.result is None else {one.method for one in self.result.maps}

    def failing(self, *new: StageFailure, stages: Collection[str] = ()) -> CaseEntry:
        """The entry with these failures in place of its earlier ones of the same stages.

        Args:
            new: The failures.
            stages: Further stages whose earlier failures no longer count.
        """
        gone = {*stages, *(failure.stage for failure in new)}
        stay = (failure for failure in self.failures if failure.stage not in gone)
        return replace(self, failures=(*stay, *new))

    def as_json(self) -> dict[str, Any]:
        """As the journal holds it."""
        return {
            "case": self.case,
            "done": self.result is not None,
            "source": self.source,
            "label": self.label,
            "failures": [asdict(failure) for failure in self.failures],
            **({} if self.result is None else self.result.as_json()),
        }

    @classmethod
    def from_json(cls, entry: Fields, classes: Sequence[str]) -> CaseEntry:
        """The entry that :meth:`as_json` wrote.

        Args:
            entry: What was read; nothing of it is taken for granted.
            classes: Names of the study's classes.

        Raises:
            InputError: A field is missing or is not of its kind; the file and the field are named.
        """
        return cls(
            entry.name("case"),
            entry.text("source"),
            entry.text_or_none("label"),
            tuple(
                StageFailure(one.text("stage"), one.text("code"), one.text("reason"))
                for one in entry.objects("failures")
            ),
            CaseResult.from_json(entry, classes) if entry.flag("done") else None,
        )


def true_class(label: str | None, classes: Sequence[str]) -> str | None:
    """The class that a label means: its name in any case, or its index; None where there is none.

    A label that is no class of the classifier (another spelling, a class that it has
    never learnt) can be neither right nor wrong and counts nowhere.
    """
    if label is None:
        return None
    lower = {name.casefold(): name for name in classes}
    if label.casefold() in lower:
        return lower[label.casefold()]
    if label.isdecimal() and int(label) < len(classes):
        return classes[int(label)]
    return None
