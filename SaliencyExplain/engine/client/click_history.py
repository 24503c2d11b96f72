"""The results of clicks, as rows of tables and as a history that can be exported."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from SaliencyExplain import csv_text
from SaliencyExplain.errors import ErrorCode, OutputError
from SaliencyExplain.probe_result import Probe, Removal

COLUMNS = ("click", "volume", "R", "A", "S", "removed", "voxels", "class", "before", "after")


@dataclass(frozen=True)
class ClickAnswer:
    """The results for one clicked place.

    Attributes:
        number: Of the click, from 1 on.
        point: RAS mm.
        image: Name of the volume.
        probe: Probabilities before and after each removal; None: not computed yet.
        segment_removals: Removals of whole segments that hold the point.
        image_value: The volume's own value there; None outside of it.
        readings: Of each computed map: label, target, value, percentile rank.
        segments: Names of the segments that hold the point.
        length_unit: Of the point: ``mm``, or ``px`` where the image has no size.
    """

    number: int
    point: tuple[float, float, float]
    image: str
    probe: Probe | None = None
    segment_removals: tuple[Removal, ...] = ()
    image_value: float | None = None
    readings: tuple[Any, ...] = ()
    segments: tuple[str, ...] = ()
    length_unit: str = "mm"

    @property
    def removals(self) -> tuple[Removal, ...]:
        """Balls first, then whole segments."""
        return (self.probe.removals if self.probe else ()) + self.segment_removals

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """A row for each removal and class, in the order of ``COLUMNS``."""
        if self.probe is None:
            return
        place = tuple(round(coordinate, 2) for coordinate in self.point)
        for removal in self.removals:
            for index, name in enumerate(self.probe.classes):
                before, after = self.probe.before[index], removal.probabilities[index]
                yield (
                    self.number,
                    self.image,
                    *place,
                    removal.name,
                    removal.voxels,
                    name,
                    before,
                    after,
                )

    def short(self, target: int) -> str:
        """The largest change of one class, as the label of the point."""
        if self.probe is None or not self.removals:
            return ""
        output, before = self.probe.output, self.probe.shown[target]
        most = max(self.removals, key=lambda r: abs(r.shown(output)[target] - before))
        after = most.shown(output)[target]
        name = self.probe.classes[target] + (", score" if output == "score" else "")
        return f"{name} {before:.2f} → {after:.2f} without {most.name}"


@dataclass
class History:
    """The clicks with results, the newest last."""

    answers: list[ClickAnswer] = field(default_factory=list)
    _next: int = 1

    def number(self) -> int:
        """The number of the next click."""
        self._next += 1
        return self._next - 1

    def keep(self, answer: ClickAnswer) -> None:
        """Adds a result, or replaces an earlier one of the same click."""
        for index, known in enumerate(self.answers):
            if known.number == answer.number:
                self.answers[index] = answer
                return
        self.answers.append(answer)

    def add_removal(self, number: int, removals: tuple[Removal, ...]) -> ClickAnswer | None:
        """Adds removed segments to the result of a click; None: no such click."""
        for index, known in enumerate(self.answers):
            if known.number == number:
                self.answers[index] = replace(
                    known, segment_removals=known.segment_removals + removals
                )
                return self.answers[index]
        return None

    def undo(self) -> ClickAnswer | None:
        """Removes the newest click and returns the one before it; None: no clicks are left."""
        if self.answers:
            self.answers.pop()
        return self.answers[-1] if self.answers else None

    def clear(self) -> None:
        """Forgets all."""
        self.answers.clear()

    def rows(self) -> list[tuple[Any, ...]]:
        """The rows of all results, in the order of ``COLUMNS``."""
        return [row for answer in self.answers for row in answer.rows()]

    def csv_text(self) -> str:
        """The rows with a header, as a table that spreadsheets open."""
        return csv_text.table_text([COLUMNS, *self.rows()])

    def write_csv(self, path: Path) -> None:
        """Writes the rows with a header.

        Raises:
            OutputError: The file cannot be written.
        """
        try:
            path.write_text(self.csv_text(), encoding="utf-8")
        except OSError as error:
            raise OutputError(
                ErrorCode.OUTPUT_UNWRITABLE, f"{path}: cannot be written ({error.strerror})."
            ) from error
