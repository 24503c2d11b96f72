"""What an engine answers: plain data, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from SaliencyExplain.results.agreement_curve import AgreementCurve
from SaliencyExplain.results.image_evaluation import Evaluation


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
