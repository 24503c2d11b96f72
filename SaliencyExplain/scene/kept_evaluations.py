"""What the trial said of a map, kept with its node."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import slicer

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.json_text import json_text
from SaliencyExplain.scene import names
from SaliencyExplain.scene.attributions import AttributionMap, read_attribution, same_map
from SaliencyExplain.trial_words import SYMBOLS, TRIAL_FILE, topic

#: What stands beside a map that was not tried.
NOT_TRIED = "not evaluated yet"


@dataclass(frozen=True)
class KeptVerdict:
    """The answer to one question about a map, in brief.

    Attributes:
        topic: Such as ``beats chance``.
        answer: ``yes``, ``partly``, ``no`` or ``not known``.
        words: Why, with the figures.
    """

    topic: str
    answer: str
    words: str

    @property
    def line(self) -> str:
        """Such as ``● beats chance: yes``."""
        return f"{SYMBOLS[self.answer]} {self.topic}: {self.answer}"


def keep_verdicts(node: slicer.vtkMRMLVolumeNode, verdicts: Sequence[KeptVerdict]) -> None:
    """Keeps what the trial of a map said; other values of the map take it away again."""
    kept = [[one.topic, one.answer, one.words] for one in verdicts]
    node.SetAttribute(names.TRIAL, json_text(kept))


def keep_verdicts_on(
    node: slicer.vtkMRMLVolumeNode, judged: AttributionMap, verdicts: Sequence[KeptVerdict]
) -> None:
    """Keeps what the trial of a map said, unless the node holds another map by now.

    Args:
        node: The node that held the map when its trial began.
        judged: That map.
        verdicts: What was said of it.

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
    keep_verdicts(node, verdicts)


def keep_written(node: slicer.vtkMRMLVolumeNode, folder: Path) -> None:
    """Keeps what the trial of a finished study said of a map, where there was one.

    Args:
        node: The map, loaded from the case's files.
        folder: The case's folder; without a readable ``trial.json`` in it nothing is kept.
    """
    try:
        found = json.loads((folder / TRIAL_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    for one in found["maps"]:
        if one["label"] == node.GetAttribute(names.LABEL):
            keep_verdicts(
                node,
                [
                    KeptVerdict(topic(verdict["question"]), verdict["answer"], verdict["words"])
                    for verdict in one["verdicts"]
                ],
            )


def verdicts_of(node: slicer.vtkMRMLVolumeNode) -> list[KeptVerdict]:
    """What the trial of a map said; empty where it was not tried."""
    return [KeptVerdict(*one) for one in json.loads(node.GetAttribute(names.TRIAL) or "[]")]


def verdict_line(node: slicer.vtkMRMLVolumeNode) -> str:
    """What stands beside a map: its verdicts in one line, or that it was not tried."""
    return " · ".join(one.line for one in verdicts_of(node)) or NOT_TRIED
