"""What the evaluation said of a map, kept with its node."""

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

#: What stands beside a map that was not evaluated.
NOT_EVALUATED = "not evaluated yet"


def keep_answers(node: slicer.vtkMRMLVolumeNode, answers: Sequence[Answer]) -> None:
    """Keeps what the evaluation of a map said; other values of the map take it away again."""
    kept = [[one.topic, one.answer, one.words] for one in answers]
    node.SetAttribute(names.EVALUATION, json_text(kept))


def keep_answers_on(
    node: slicer.vtkMRMLVolumeNode, judged: AttributionMap, answers: Sequence[Answer]
) -> None:
    """Keeps what the evaluation of a map said, unless the node holds another map by now.

    Args:
        node: The node that held the map when its evaluation began.
        judged: That map.
        answers: What was said of it.

    Raises:
        InputError: The map was computed anew, or is gone; nothing is kept.
    """
    there = node.GetScene() is not None and node.GetScene().IsNodePresent(node)
    if not there or not same_map(read_attribution(node), judged):
        raise InputError(
            ErrorCode.MAP_OUTDATED,
            "The map was recomputed or removed while it was being evaluated. The result was "
            "about the earlier map and is discarded. Evaluate the map again.",
        )
    keep_answers(node, answers)


def keep_written(node: slicer.vtkMRMLVolumeNode, folder: Path) -> None:
    """Keeps what the evaluation of a finished study said of a map, where there was one.

    Args:
        node: The map, loaded from the case's files.
        folder: The case's folder; without a readable ``evaluation.json`` in it nothing is kept.
    """
    with contextlib.suppress(InputError):
        answers = answers_in(folder).get(node.GetAttribute(names.LABEL))
        if answers is not None:
            keep_answers(node, answers)


def answers_of(node: slicer.vtkMRMLVolumeNode) -> list[Answer]:
    """What the evaluation of a map said; empty where it was not evaluated."""
    return [Answer(*one) for one in json.loads(node.GetAttribute(names.EVALUATION) or "[]")]


def answer_line(node: slicer.vtkMRMLVolumeNode) -> str:
    """What stands beside a map: its answers in one line, or that it was not evaluated."""
    return " · ".join(one.line for one in answers_of(node)) or NOT_EVALUATED
