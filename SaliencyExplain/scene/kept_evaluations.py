"""The answers of a map's evaluation, stored with its node."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path

import slicer

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.json_text import json_text
from SaliencyExplain.records.evaluation_summary import Answer, answers_in
from SaliencyExplain.scene import names
from SaliencyExplain.scene.attributions import AttributionMap, read_attribution, same_map

#: Text beside a map without an evaluation.
NOT_EVALUATED = "not evaluated yet"


def keep_answers(node: slicer.vtkMRMLVolumeNode, answers: Sequence[Answer]) -> None:
    """Stores the answers of a map's evaluation; they are removed when the map's values change."""
    kept = [[one.topic, one.answer, one.words] for one in answers]
    node.SetAttribute(names.EVALUATION, json_text(kept))


def keep_answers_on(
    node: slicer.vtkMRMLVolumeNode, judged: AttributionMap, answers: Sequence[Answer]
) -> None:
    """Stores the answers of a map's evaluation, unless the node has another map meanwhile.

    Args:
        node: The node that had the map when its evaluation began.
        judged: That map.
        answers: The answers of its evaluation.

    Raises:
        InputError: The map was recomputed or removed; nothing is stored.
    """
    there = node.GetScene() is not None and node.GetScene().IsNodePresent(node)
    if not there or not same_map(read_attribution(node), judged):
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
        answers = answers_in(folder).get(node.GetAttribute(names.LABEL))
        if answers is not None:
            keep_answers(node, answers)


def answers_of(node: slicer.vtkMRMLVolumeNode) -> list[Answer]:
    """The answers of a map's evaluation; empty without an evaluation."""
    return [Answer(*one) for one in json.loads(node.GetAttribute(names.EVALUATION) or "[]")]


def answer_line(node: slicer.vtkMRMLVolumeNode) -> str:
    """The text beside a map: the answers of its evaluation in one line, or that it has none."""
    return " · ".join(one.line for one in answers_of(node)) or NOT_EVALUATED
