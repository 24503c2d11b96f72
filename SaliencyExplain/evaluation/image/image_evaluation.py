"""What an evaluation of maps finds, as it is kept and written."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.evaluation.image.channel_importance import ChannelImportance, FeatureImportance
from SaliencyExplain.evaluation.image.null_distribution import Faithfulness
from SaliencyExplain.evaluation.image.randomisation import Sanity
from SaliencyExplain.evaluation.image.robustness import Stability
from SaliencyExplain.evaluation.image.similarity import Similarity
from SaliencyExplain.evaluation_results import Answer
from SaliencyExplain.method_failures import MethodFailure
from SaliencyExplain.records.agreement_row import Row


@dataclass(frozen=True)
class MapEvaluation:
    """What was found about one map.

    Attributes:
        label: ``method``, ``method@layer``, or the name of the file.
        method: Name of the method; empty for a map from a file.
        layer: Name of the layer; empty where the method looks at none.
        parameters: The method's parameters.
        signed: Whether negative values speak against the class.
        values: ``(*S)`` on the image's own grid, float32.
        faithfulness: None where it was not asked for or the map has no order.
        sanity: None where it was not asked for, the map came from a file, or the network
            shows no weights.
        stability: None where it was not asked for, or the map came from a file.
        rows: The agreement with each segment, the control_maps' rows included; empty without a
            segmentation.
        msfi: Modality-specific feature importance; None without segmentations of modalities.
        answers: What that says, a question each.
        notes: What a user should be told of this map.
        resolution_mm: What the map resolves, mm; 0: voxels or regions, or not known.
        channel: The channel that the map is drawn over: its own, or the first.
    """

    label: str
    method: str
    layer: str
    parameters: dict[str, Any]
    signed: bool
    values: NDArray[np.float32]
    faithfulness: Faithfulness | None
    sanity: Sanity | None
    stability: Stability | None
    rows: tuple[Row, ...]
    msfi: FeatureImportance | None
    answers: tuple[Answer, ...]
    notes: tuple[str, ...]
    resolution_mm: float = 0.0
    channel: int = 0

    def as_json(self) -> dict[str, Any]:
        """Everything but the voxels."""
        document: dict[str, Any] = {
            name: getattr(self, name)
            for name in (
                "label",
                "method",
                "layer",
                "parameters",
                "signed",
                "resolution_mm",
                "notes",
            )
        }
        document["faithfulness"] = (
            None if self.faithfulness is None else self.faithfulness.as_json()
        )
        for name in ("sanity", "stability", "msfi"):
            found = getattr(self, name)
            document[name] = None if found is None else dataclasses.asdict(found)
        if self.sanity is not None:
            for name in ("alike_at_random", "alike_but_first"):
                document["sanity"][name] = getattr(self.sanity, name)
        document["agreement"] = [row.as_json() for row in self.rows]
        document["answers"] = [dataclasses.asdict(answer) for answer in self.answers]
        return document


@dataclass(frozen=True)
class Pair:
    """How alike two maps of one image are.

    Attributes:
        kind: ``methods`` or ``layers``.
        first: Label of one map.
        second: Label of the other.
        similarity: The figures.
    """

    kind: str
    first: str
    second: str
    similarity: Similarity


@dataclass(frozen=True)
class Evaluation:
    """What was found about the maps of one image.

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
        notes: What a user should be told aloud.
        forward_passes: What it cost, as the methods tell it.
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
    pairs: tuple[Pair, ...]
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

    def as_json(self) -> dict[str, Any]:
        """Everything but the voxels, for :func:`SaliencyExplain.json_text.json_text`."""
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
