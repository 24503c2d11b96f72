"""The request that computes a map again, for its evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from SaliencyExplain.engine.interface import ClassifierInfo
from SaliencyExplain.engine.wire.requests import EvaluationRequest, ExplainRequest
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.specification.spec import (
    ExplainSpec,
    Limits,
    MethodChoice,
    References,
)
from SaliencyExplain.specification.target import Target


def evaluation_of_map(
    volume: str,
    classifier: ClassifierInfo,
    *,
    method: str,
    target_name: str,
    parameters: Mapping[str, Any],
    provenance: Mapping[str, Any],
    image_name: str,
    passes: float,
    references: References,
) -> EvaluationRequest:
    """The request for the evaluation of a map that was computed before, from its provenance.

    Args:
        volume: Hash of the volume that it was computed from.
        classifier: The one that is open.
        method: Name of its method.
        target_name: The class that it explains.
        parameters: Of its method.
        provenance: Of the map: its classifier, image, seed and precision.
        image_name: Printed on the card; must not name a patient.
        passes: Most forward passes of the evaluation.
        references: The segments that the map is held against, which must be those that it was
            computed with where its method weighs segments, and the backgrounds that it was
            computed with.

    Raises:
        InputError: The map was computed with another classifier than the one that is open.
    """
    if provenance.get("classifier_sha256") != classifier.key:
        raise InputError(
            ErrorCode.MAP_OUTDATED,
            f"The map was computed with {provenance.get('classifier') or 'another classifier'}; "
            "open that classifier to evaluate it.",
        )
    return EvaluationRequest(
        ExplainRequest(
            classifier.key,
            volume,
            ExplainSpec(
                (MethodChoice(method, dict(parameters)),),
                Target.parse(target_name),
                seed=int(provenance.get("seed", 0)),
                limits=Limits(precision=str(provenance.get("precision", "float32")), passes=passes),
                references=references,
            ),
            image_name,
        ),
        image_sha256=str(provenance.get("image_sha256", "")),
        segments_sha256=str(provenance.get("segments_sha256", "")),
        backgrounds_sha256=tuple(provenance.get("backgrounds_sha256", ())),
    )
