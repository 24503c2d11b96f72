"""The record of an explained case: what ``explanation.json`` holds, written and read here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from SaliencyExplain.errors import InputError
from SaliencyExplain.json_fields import Fields, read_object
from SaliencyExplain.method_failures import MethodFailure
from SaliencyExplain.records.agreement_row import Row
from SaliencyExplain.records.control_names import CENTRE, RANDOM
from SaliencyExplain.records.image_record import ImageRecord
from SaliencyExplain.records.map_record import MapRecord
from SaliencyExplain.records.target_names import class_of

#: The record in a case's folder.
EXPLANATION = "explanation.json"


@dataclass(frozen=True)
class CaseRecord:
    """What is known of one explained case.

    Attributes:
        case: Its name.
        predicted: Name of the likeliest class.
        probabilities: By class, in the classifier's order.
        target: Number of the class that the maps explain, from 0; of a difference, of the one
            that it speaks for.
        target_name: What the maps explain: the name of the class, or the text of another target.
        image: The image.
        segments: Names of the segments that the maps were compared with.
        maps: At least one.
        control_maps: The agreement of the control maps with each segment.
        failures: Of the methods that gave no map.
        notes: What a user must be told.
        provenance: What the maps' provenances have in common.
        timings: Seconds by step.
    """

    case: str
    predicted: str
    probabilities: Mapping[str, float]
    target: int
    target_name: str
    image: ImageRecord
    segments: tuple[str, ...]
    maps: tuple[MapRecord, ...]
    control_maps: tuple[Row, ...]
    failures: tuple[MethodFailure, ...]
    notes: tuple[str, ...]
    provenance: Mapping[str, Any]
    timings: Mapping[str, float]

    @property
    def classifier_name(self) -> str:
        """What was explained."""
        return str(self.provenance["classifier"])

    @property
    def answered(self) -> set[str]:
        """The methods that it has a map of, or a reason why they gave none."""
        return {map_.method for map_ in self.maps} | {one.method for one in self.failures}

    @property
    def file_names(self) -> tuple[str, ...]:
        """Names of the files in the case's folder, this record's last."""
        return (*(name for map_ in self.maps for name in map_.files.names), EXPLANATION)

    @property
    def rows(self) -> tuple[Row, ...]:
        """The agreement of the maps and the control maps, map by map, random maps before centre."""
        rows = [row for map_ in self.maps for row in map_.comparison if row.method != RANDOM]
        there = {row.method for row in rows}
        rows += [row for row in self.control_maps if row.method not in (*there, RANDOM)]
        first = next((n for n, row in enumerate(rows) if row.method == CENTRE), len(rows))
        rows[first:first] = [row for row in self.control_maps if row.method == RANDOM]
        return tuple(rows)

    def as_json(self) -> dict[str, Any]:
        """The content of ``explanation.json``."""
        return {
            "case": self.case,
            "prediction": {
                "predicted": self.predicted,
                "probabilities": dict(self.probabilities),
            },
            "target": {"index": self.target, "name": self.target_name},
            "image": self.image.as_json(),
            "segments": list(self.segments),
            "attributions": [map_.as_json() for map_ in self.maps],
            "control_maps": [row.without("case", "target") for row in self.control_maps],
            "failures": [asdict(failure) for failure in self.failures],
            "notes": list(self.notes),
            "provenance": dict(self.provenance),
            "timings": dict(self.timings),
        }

    @classmethod
    def from_json(cls, document: Fields) -> CaseRecord:
        """The record that :meth:`as_json` wrote.

        Args:
            document: What was read; nothing of it is taken for granted.

        Raises:
            InputError: A field is missing or is not of its kind; the file and the field are named.
        """
        case, prediction = document.text("case"), document.object("prediction")
        given = prediction.object("probabilities")
        probabilities = {name: given.number(name, 0, 1) for name in given.content}
        if not probabilities:
            prediction.refuse("probabilities", "a number for each class")
        classes = tuple(probabilities)
        target = document.object("target")
        index = target.integer("index", 0, len(classes) - 1)
        name = target.text("name")
        if class_of(name, classes) != classes[index]:
            target.refuse("name", f"'{classes[index]}', or a target of this class")
        image = ImageRecord.from_json(document.object("image"))
        entries = document.objects("attributions")
        maps = tuple(
            MapRecord.from_json(entry, case=case, target=name, channels=image.channels)
            for entry in entries
        )
        if not maps:
            document.refuse("attributions", "a list with a map")
        for number, entry in enumerate(entries):
            if maps[number].label in [map_.label for map_ in maps[:number]]:
                entry.refuse("label", "the only one of its name")
        provenance, common = document.free_object("provenance"), document.object("provenance")
        common.text("classifier")
        timings = document.object("timings")
        return cls(
            case=case,
            predicted=prediction.choice("predicted", *classes),
            probabilities=probabilities,
            target=index,
            target_name=name,
            image=image,
            segments=document.texts("segments"),
            maps=maps,
            control_maps=tuple(
                Row.from_json(row, case=case, target=name)
                for row in document.objects("control_maps")
            ),
            failures=tuple(
                MethodFailure(one.text("method"), one.text("code"), one.text("reason"))
                for one in document.objects("failures")
            ),
            notes=document.texts("notes"),
            provenance=provenance,
            timings={step: timings.number(step, 0) for step in timings.content},
        )


def read_case(folder: Path) -> CaseRecord:
    """The record of an explained case.

    Args:
        folder: The case's folder.

    Raises:
        InputError: It is missing or damaged; file and field are named.
    """
    return CaseRecord.from_json(read_object(folder / EXPLANATION))


def records_beside(path: Path) -> tuple[CaseRecord, MapRecord] | None:
    """The records of a map's file, which lie in its folder.

    Args:
        path: A map, of this or of any other tool.

    Returns:
        The record of the case and that of the map; None if the folder has no record of the file.
    """
    try:
        record = read_case(path.parent)
    except InputError:
        return None
    return next(((record, map_) for map_ in record.maps if map_.files.map == path.name), None)
