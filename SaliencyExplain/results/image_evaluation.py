"""The evaluation of the maps of one image, without torch: in Python, on the wire and on disk."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from SaliencyExplain.evaluation_parts import EVALUATION_FILE, PARTS
from SaliencyExplain.json_fields import Fields, read_object
from SaliencyExplain.method_failures import MethodFailure
from SaliencyExplain.records.agreement_row import Row
from SaliencyExplain.results.channel_results import ChannelImportance, FeatureImportance
from SaliencyExplain.results.evaluation_results import Answer, card_name
from SaliencyExplain.results.map_changes import Sanity, Similarity, Stability
from SaliencyExplain.results.map_faithfulness import Faithfulness


@dataclass(frozen=True)
class EvaluationCurve:
    """A curve of the evaluation of a map, as a small plot shows it.

    Attributes:
        name: ``deletion``, ``insertion`` or ``weights``.
        x_title: What lies across.
        y_title: What is drawn.
        xs: Rising; shares in [0, 1], or stages of random weights.
        ys: Probabilities, or rank correlations.
        null_median: Median of the null maps at the same places; empty where there is none.
    """

    name: str
    x_title: str
    y_title: str
    xs: tuple[float, ...]
    ys: tuple[float, ...]
    null_median: tuple[float, ...] = ()


@dataclass(frozen=True)
class MapEvaluation:
    """The evaluation of one map.

    Attributes:
        label: ``method``, ``method@layer``, or the name of the file.
        method: Name of the method; empty for a map from a file.
        layer: Name of the layer; empty where the method looks at none.
        parameters: The method's parameters.
        signed: Whether negative values speak against the class.
        faithfulness: None where it was not asked for or the map has no order.
        sanity: None where it was not asked for, the map came from a file, or the network
            shows no weights.
        stability: None where it was not asked for, or the map came from a file.
        rows: The agreement with each segment, the rows of the control maps included; empty
            without a segmentation.
        msfi: Modality-specific feature importance; None without segmentations of modalities.
        answers: What that says, one for each question.
        notes: What a user should be told of this map.
        resolution_mm: What the map resolves, mm; 0: voxels or regions, or not known.
        channel: The channel that the map is drawn over: its own, or the first.
    """

    label: str
    method: str
    layer: str
    parameters: dict[str, Any]
    signed: bool
    faithfulness: Faithfulness | None
    sanity: Sanity | None
    stability: Stability | None
    rows: tuple[Row, ...]
    msfi: FeatureImportance | None
    answers: tuple[Answer, ...]
    notes: tuple[str, ...]
    resolution_mm: float = 0.0
    channel: int = 0

    @property
    def card(self) -> str:
        """The file name of the map's trust card."""
        return card_name(self.label)

    @property
    def curves(self) -> tuple[EvaluationCurve, ...]:
        """Deletion and insertion beside the null maps, and the cascade of random weights."""
        curves = []
        if self.faithfulness is not None:
            own, shares = self.faithfulness.curves, self.faithfulness.curves.shares
            for name, values, band, what in (
                ("deletion", own.deletion, self.faithfulness.null_deletion, "removed"),
                ("insertion", own.insertion, self.faithfulness.null_insertion, "inserted"),
            ):
                x_title = f"share of the strongest voxels {what}"
                curves.append(
                    EvaluationCurve(name, x_title, "probability", shares, values, band[1])
                )
        if self.sanity is not None:
            alike = (1.0, *(stage.similarity.alike for stage in self.sanity.cascading))
            stages = tuple(float(stage) for stage in range(len(alike)))
            x_title = "stages with random weights, from the last layer on"
            curves.append(EvaluationCurve("weights", x_title, "rank correlation", stages, alike))
        return tuple(curves)

    def as_json(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "label": self.label,
            "method": self.method,
            "layer": self.layer,
            "parameters": self.parameters,
            "signed": self.signed,
            "resolution_mm": self.resolution_mm,
            "channel": self.channel,
            "notes": self.notes,
            "faithfulness": None if self.faithfulness is None else self.faithfulness.as_json(),
            "sanity": None if self.sanity is None else self.sanity.as_json(),
            "stability": None if self.stability is None else dataclasses.asdict(self.stability),
            "msfi": None if self.msfi is None else dataclasses.asdict(self.msfi),
            "agreement": [row.as_json() for row in self.rows],
            "answers": [answer.as_json() for answer in self.answers],
        }

    @classmethod
    def from_json(cls, read: Fields) -> MapEvaluation:
        """What :meth:`as_json` wrote; raises InputError where it is damaged."""
        return cls(
            label=read.text("label"),
            method=read.text("method"),
            layer=read.text("layer"),
            parameters=read.free_object("parameters"),
            signed=read.flag("signed"),
            faithfulness=read.made_or_none("faithfulness", Faithfulness.from_json),
            sanity=read.made_or_none("sanity", Sanity.from_json),
            stability=read.made_or_none("stability", Stability.from_json),
            rows=tuple(Row.from_json(row) for row in read.objects("agreement")),
            msfi=read.made_or_none("msfi", FeatureImportance.from_json),
            answers=tuple(Answer.from_json(answer) for answer in read.objects("answers")),
            notes=read.texts("notes"),
            resolution_mm=read.number("resolution_mm", 0),
            channel=read.integer("channel"),
        )


@dataclass(frozen=True)
class MapPair:
    """How similar two maps of one image are.

    Attributes:
        kind: ``methods`` or ``layers``.
        first: Label of one map.
        second: Label of the other.
        similarity: Of the two.
    """

    kind: str
    first: str
    second: str
    similarity: Similarity


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of the maps of one image.

    Attributes:
        image: Name of the image.
        image_sha256: Of its voxels and affine.
        classifier: Name of the classifier.
        classifier_sha256: Its identity.
        classes: Names of the classes.
        probabilities: One for each class, [0, 1].
        target: Index of the class that the maps explain.
        seed: Random seed.
        cost_tier: ``full``, ``reduced``, ``least`` or ``chosen``.
        parts: What was asked for.
        maps: One for each map.
        pairs: Agreement among methods, and among layers of a method.
        channels: Importance of the channels; None with a single one, or where not asked for.
        notes: What a user should be told.
        forward_passes: What it cost.
        seconds: Time that it took.
        versions: Of what computed it.
        failures: Of the methods that gave no map to evaluate.
    """

    image: str
    image_sha256: str
    classifier: str
    classifier_sha256: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    target: int
    seed: int
    cost_tier: str
    parts: tuple[str, ...]
    maps: tuple[MapEvaluation, ...]
    pairs: tuple[MapPair, ...]
    channels: ChannelImportance | None
    notes: tuple[str, ...]
    forward_passes: float
    seconds: float
    versions: dict[str, str]
    failures: tuple[MethodFailure, ...] = ()

    @property
    def target_name(self) -> str:
        """Name of the class that the maps explain."""
        return self.classes[self.target]

    def of(self, label: str) -> MapEvaluation | None:
        """The evaluation of the map of that label; None where there is none."""
        return next((one for one in self.maps if one.label == label), None)

    def as_json(self) -> dict[str, Any]:
        """The content of ``evaluation.json``, for :func:`SaliencyExplain.json_text.json_text`."""
        document = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("maps", "pairs", "channels", "probabilities", "failures")
        }
        return {
            **document,
            "target_name": self.target_name,
            "probabilities": dict(zip(self.classes, self.probabilities, strict=True)),
            "maps": [one.as_json() for one in self.maps],
            "failures": [dataclasses.asdict(one) for one in self.failures],
            "pairs": [dataclasses.asdict(pair) for pair in self.pairs],
            "channels": None if self.channels is None else dataclasses.asdict(self.channels),
        }

    @classmethod
    def from_json(cls, read: Fields) -> Evaluation:
        """What :meth:`as_json` wrote; raises InputError where it is damaged."""
        classes = read.texts("classes")
        probabilities, versions = read.object("probabilities"), read.object("versions")
        parts = read.texts("parts")
        if not set(parts) <= set(PARTS):
            read.refuse("parts", f"a list of some of {', '.join(PARTS)}")
        return cls(
            image=read.text("image"),
            image_sha256=read.text("image_sha256"),
            classifier=read.text("classifier"),
            classifier_sha256=read.text("classifier_sha256"),
            classes=classes,
            probabilities=tuple(probabilities.number(name) for name in classes),
            target=read.integer("target", most=len(classes) - 1),
            seed=read.integer("seed"),
            cost_tier=read.text("cost_tier"),
            parts=parts,
            maps=tuple(MapEvaluation.from_json(one) for one in read.objects("maps")),
            pairs=tuple(
                MapPair(
                    one.choice("kind", "methods", "layers"),
                    one.text("first"),
                    one.text("second"),
                    Similarity.from_json(one.object("similarity")),
                )
                for one in read.objects("pairs")
            ),
            channels=read.made_or_none("channels", ChannelImportance.from_json),
            notes=read.texts("notes"),
            forward_passes=read.number("forward_passes", 0),
            seconds=read.number("seconds", 0),
            versions={name: versions.text(name) for name in versions.content},
            failures=tuple(
                MethodFailure(
                    *(one.text(field.name) for field in dataclasses.fields(MethodFailure))
                )
                for one in read.objects("failures")
            ),
        )


def read_evaluation(folder: Path) -> Evaluation:
    """Reads ``evaluation.json`` of a folder, which may be damaged or hostile.

    Raises:
        InputError: It is missing or damaged; file and field are named.
    """
    return Evaluation.from_json(read_object(folder / EVALUATION_FILE))
