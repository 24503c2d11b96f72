"""The request that computes a map again, to be tried."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from SaliencyExplain.engine.interface import ClassifierInfo
from SaliencyExplain.engine.wire.requests import ExplainRequest, MethodChoice, TrialRequest
from SaliencyExplain.errors import ErrorCode, InputError


def trial_of_map(
    volume: str,
    classifier: ClassifierInfo,
    *,
    method: str,
    target_name: str,
    parameters: Mapping[str, Any],
    provenance: Mapping[str, Any],
    image_name: str,
    budget: float,
    segments: str | None = None,
    segment_names: tuple[str, ...] = (),
    segment_notes: tuple[str, ...] = (),
    backgrounds: tuple[str, ...] = (),
) -> TrialRequest:
    """Asks for the trial of a map that was computed before, from what is known of it.

    Args:
        volume: Hash of the volume that it was computed from.
        classifier: The one that is open.
        method: Name of its method.
        target_name: The class that it explains.
        parameters: Of its method.
        provenance: Of the map: its classifier, image, seed and precision.
        image_name: Stands on the card; must not name a patient.
        budget: Forward passes that the trial may cost.
        segments: As in :class:`ExplainRequest`; the map is held against them. Those that it
            was computed with, where its method weighs segments: others are refused.
        segment_names: Their names.
        segment_notes: What is to be told of them.
        backgrounds: Hashes of the backgrounds that it was computed with.

    Raises:
        InputError: The map was computed with another classifier than the one that is open.
    """
    if provenance.get("classifier_sha256") != classifier.key:
        raise InputError(
            ErrorCode.MAP_OUTDATED,
            f"The map was computed with {provenance.get('classifier') or 'another classifier'}; "
            "open that classifier to evaluate it.",
        )
    return TrialRequest(
        ExplainRequest(
            classifier.key,
            volume,
            (MethodChoice(method, dict(parameters)),),
            target=target_name,
            seed=int(provenance.get("seed", 0)),
            precision=str(provenance.get("precision", "float32")),
            image_name=image_name,
            segments=segments,
            segment_names=segment_names,
            segment_notes=segment_notes,
            backgrounds=backgrounds,
        ),
        budget=budget,
        image_sha256=str(provenance.get("image_sha256", "")),
        segments_sha256=str(provenance.get("segments_sha256", "")),
        backgrounds_sha256=tuple(provenance.get("backgrounds_sha256", ())),
    )
