"""What an engine answers: plain data, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from SaliencyExplain.method_failures import MethodFailure
from SaliencyExplain.results.agreement_curve import AgreementCurve
from SaliencyExplain.results.image_evaluation import Evaluation


@dataclass(frozen=True)
class MapResult:
    """One attribution; its values are fetched by their hash.

    Attributes:
        label: ``method`` or ``method@layer``.
        title: The method's name for people.
        method: Name of the method.
        layer: Name of the layer looked at, or empty.
        signed: Whether negative values speak against the class.
        target_name: Name of the class.
        volume: Hash of the map ``(*S)``, float32, on the image's own grid.
        parameters: Of the method.
        provenance: Classifier, input, seed and versions.
        seconds: Time that it took.
        share_done: Share of the computation that is in it; below 1: a partial map.
    """

    label: str
    title: str
    method: str
    layer: str
    signed: bool
    target_name: str
    volume: str
    parameters: dict[str, Any]
    provenance: dict[str, Any]
    seconds: float
    share_done: float = 1.0


@dataclass(frozen=True)
class ExplainResult:
    """What the classifier says of a volume, and which voxels made it say so.

    ``failures`` says of the methods without a map why they have none.
    """

    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    target: int
    maps: tuple[MapResult, ...]
    notes: tuple[str, ...]
    timings: dict[str, float]
    failures: tuple[MethodFailure, ...] = ()


@dataclass(frozen=True)
class CompareResult:
    """The rows of the comparison table, those of the control maps too, and its curves.

    ``length_unit`` is that of the distances: ``mm``, or ``px`` where the image has no size.
    """

    columns: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]
    curves: tuple[AgreementCurve, ...]
    notes: tuple[str, ...]
    length_unit: str = "mm"


@dataclass(frozen=True)
class EvaluationResult:
    """The evaluation of maps of one volume.

    Attributes:
        evaluation: The evaluation.
        cards: ``{label: the map's trust card}``, a PNG in base64.
    """

    evaluation: Evaluation
    cards: dict[str, str]
