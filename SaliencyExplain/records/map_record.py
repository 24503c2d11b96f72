"""One map of a case: how it was computed, what it shows, and its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from SaliencyExplain.field_of_view import FIELD_OF_VIEW, FieldOfView
from SaliencyExplain.figures import CHANNEL, EACH_SEGMENT
from SaliencyExplain.json_fields import Fields
from SaliencyExplain.peak import RESOLUTION_MM
from SaliencyExplain.records.agreement_row import Row

#: The files of a map and how their names end.
MAP_FILES = {"map": ".nii.gz", "bands": ".seg.nrrd", "picture": ".png"}


@dataclass(frozen=True)
class Parameter:
    """A parameter of a method, as it was used.

    Attributes:
        value: Any JSON value.
        unit: None where it has none.
    """

    value: Any
    unit: str | None


@dataclass(frozen=True)
class MapFiles:
    """Names of a map's files in its case's folder.

    Attributes:
        map: The map on the image's grid.
        bands: Its label map.
        picture: Three planes through its peak.
    """

    map: str
    bands: str
    picture: str

    @classmethod
    def of(cls, stem: str) -> MapFiles:
        """The files of a map whose names begin so."""
        return cls(**{kind: f"{stem}{suffix}" for kind, suffix in MAP_FILES.items()})

    @property
    def stem(self) -> str:
        """What the names begin with."""
        return self.map.removesuffix(MAP_FILES["map"])

    @property
    def names(self) -> tuple[str, str, str]:
        """All three."""
        return self.map, self.bands, self.picture


@dataclass(frozen=True)
class MapRecord:
    """One map of a case.

    Attributes:
        label: ``method`` or ``method@layer``.
        method: Name of the method.
        layer: The layer looked at; None where the method looks at none.
        signed: Whether negative values speak against the target.
        share_done: Share of the computation that is in it; below 1 it is a partial map.
        budget_seconds: The limit that ended a partial map; None: it is whole.
        parameters: By name.
        device: What it was computed on.
        resolution_mm: What it resolves; 0: a voxel.
        own_segments: Hashes of the segments that are its regions.
        channel: Number of the one channel that it is of, from 0; None: of all.
        figures: What the method found beside the map.
        files: Their names.
        comparison: Its agreement with each segment.
        provenance: What it takes to compute it again.
    """

    label: str
    method: str
    layer: str | None
    signed: bool
    share_done: float
    budget_seconds: float | None
    parameters: Mapping[str, Parameter]
    device: str
    resolution_mm: float
    own_segments: tuple[str, ...]
    channel: int | None
    figures: Mapping[str, Any]
    files: MapFiles
    comparison: tuple[Row, ...]
    provenance: Mapping[str, Any]

    @property
    def field_of_view(self) -> FieldOfView | None:
        """Outside of it the map is undefined; None: the network sees the whole image."""
        return FieldOfView.of(self.provenance)

    def as_json(self) -> dict[str, Any]:
        """For ``explanation.json``."""
        return {
            "label": self.label,
            "method": self.method,
            "layer": self.layer,
            "signed": self.signed,
            "share_done": self.share_done,
            "budget_seconds": self.budget_seconds,
            "parameters": {name: asdict(one) for name, one in self.parameters.items()},
            "device": self.device,
            RESOLUTION_MM: self.resolution_mm,
            EACH_SEGMENT: list(self.own_segments),
            CHANNEL: self.channel,
            "figures": dict(self.figures),
            "files": asdict(self.files),
            "comparison": [row.without("case", "method", "target") for row in self.comparison],
            "provenance": dict(self.provenance),
        }

    @classmethod
    def from_json(cls, entry: Fields, *, case: str, target: str, channels: int) -> MapRecord:
        """Reads what :meth:`as_json` wrote; raises InputError where it is damaged."""
        label, provenance = entry.text("label"), entry.free_object("provenance")
        try:
            FieldOfView.of(provenance)
        except (LookupError, TypeError, ValueError, OverflowError):
            entry.object("provenance").refuse(FIELD_OF_VIEW, "a grid in the image")
        given = entry.object("parameters")
        files = entry.object("files")
        return cls(
            label=label,
            method=entry.text("method"),
            layer=entry.text_or_none("layer"),
            signed=entry.flag("signed"),
            share_done=entry.number("share_done", 0, 1),
            budget_seconds=entry.number_or_none("budget_seconds"),
            parameters={
                name: Parameter(one.free("value"), one.text_or_none("unit"))
                for name, one in ((name, given.object(name)) for name in given.content)
            },
            device=entry.text("device"),
            resolution_mm=entry.number(RESOLUTION_MM, 0),
            own_segments=entry.texts(EACH_SEGMENT),
            channel=entry.integer(CHANNEL, 0, channels - 1) if entry.nullable(CHANNEL) else None,
            figures=entry.free_object("figures"),
            files=MapFiles(**{kind: files.name(kind) for kind in MAP_FILES}),
            comparison=tuple(
                Row.from_json(row, case=case, method=label, target=target)
                for row in entry.objects("comparison")
            ),
            provenance=provenance,
        )
