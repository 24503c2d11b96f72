"""The answers of a map's evaluation, stored with its node."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import slicer

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.json_fields import parse_object
from SaliencyExplain.json_text import json_text
from SaliencyExplain.results.attribution_map import Attribution
from SaliencyExplain.results.evaluation_results import Answer
from SaliencyExplain.results.image_evaluation import read_evaluation
from SaliencyExplain.scene import names
from SaliencyExplain.scene.attributions import read_attribution

#: Text beside a map without an evaluation.
NOT_EVALUATED = "not evaluated yet"


def keep_answers(node: slicer.vtkMRMLVolumeNode, answers: Sequence[Answer]) -> None:
    """Stores the answers of a map's evaluation; they are removed when the map's values change."""
    kept = {"answers": [one.as_json() for one in answers]}
    node.SetAttribute(names.EVALUATION, json_text(kept))


def keep_answers_on(
    node: slicer.vtkMRMLVolumeNode, evaluated: Attribution, answers: Sequence[Answer]
) -> None:
    """Stores the answers of a map's evaluation, unless the node has another map meanwhile.

    Args:
        node: The node that had the map when its evaluation began.
        evaluated: That map.
        answers: The answers of its evaluation.

    Raises:
        InputError: The map was recomputed or removed; nothing is stored.
    """
    there = node.GetScene() is not None and node.GetScene().IsNodePresent(node)
    if not there or read_attribution(node) != evaluated:
        raise InputError(
            ErrorCode.MAP_OUTDATED,
            "Evaluation: the map was recomputed or removed while it was being evaluated, and the "
            "result is discarded. Evaluate the map again.",
        )
    keep_answers(node, answers)


def keep_written(node: slicer.vtkMRMLVolumeNode, folder: Path) -> None:
    """Stores the answers from the evaluation of a finished study, if it has one.

    Args:
        node: The map, loaded from the case's files.
        folder: The case's folder; without a readable ``evaluation.json`` nothing is stored.
    """
    with contextlib.suppress(InputError):
        one = read_evaluation(folder).of(node.GetAttribute(names.LABEL))
        if one is not None:
            keep_answers(node, one.answers)


def answers_of(node: slicer.vtkMRMLVolumeNode) -> list[Answer]:
    """The answers of a map's evaluation; empty without one, or where they are damaged."""
    kept = node.GetAttribute(names.EVALUATION)
    if kept is None:
        return []
    try:
        document = parse_object(kept.encode(), names.EVALUATION)
        return [Answer.from_json(one) for one in document.objects("answers")]
    except InputError:
        return []


def answer_line(node: slicer.vtkMRMLVolumeNode) -> str:
    """The text beside a map: the answers of its evaluation in one line, or that it has none."""
    return " · ".join(one.line for one in answers_of(node)) or NOT_EVALUATED
