"""What an evaluation said stays with the very map that it was said of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import slicer

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.results.evaluation_results import Answer
from SaliencyExplain.scene.attributions import (
    add_attribution,
    read_attribution,
    remove_attribution,
    update_attribution,
)
from SaliencyExplain.scene.kept_evaluations import (
    NOT_EVALUATED,
    answer_line,
    keep_answers_on,
)
from SaliencyExplain.scene.volume_nodes import add_image
from Testing.scene.conftest import GRIDS, SHAPE, attribution

VALUES = np.random.default_rng(4).normal(size=SHAPE).astype(np.float32)
SAID = [Answer("Does it beat chance?", "yes", "For glioma: deletion area 0.1.")]


@pytest.fixture
def node(scene: slicer.vtkMRMLScene) -> slicer.vtkMRMLScalarVolumeNode:
    grid = GRIDS["oblique and flipped"]
    image = add_image(scene, VALUES, grid, "case-001")
    return add_attribution(scene, attribution(VALUES, grid, provenance={"seed": 1}), image)


def test_answers_are_kept_on_the_map_that_was_evaluated(node: slicer.vtkMRMLScalarVolumeNode):
    evaluated = read_attribution(node)
    # The same computation gives the same map: it was not another one.
    update_attribution(node, read_attribution(node))
    keep_answers_on(node, evaluated, SAID)
    assert answer_line(node) == "● beats chance: yes"


@pytest.mark.parametrize(
    "change",
    [
        {"values": VALUES + np.float32(1e-6)},
        {"provenance": {"seed": 2}},
        {"share_done": 0.5},
    ],
    ids=["other values", "another seed", "growing"],
)
def test_answers_on_a_map_that_was_there_before_are_dropped(
    node: slicer.vtkMRMLScalarVolumeNode, change: dict[str, object]
):
    evaluated = read_attribution(node)
    update_attribution(node, replace(evaluated, **change))
    with pytest.raises(InputError) as refused:
        keep_answers_on(node, evaluated, SAID)
    assert refused.value.code is ErrorCode.MAP_OUTDATED
    assert answer_line(node) == NOT_EVALUATED


def test_answers_on_a_map_that_was_removed_are_dropped(node: slicer.vtkMRMLScalarVolumeNode):
    evaluated = read_attribution(node)
    remove_attribution(node)
    with pytest.raises(InputError) as refused:
        keep_answers_on(node, evaluated, SAID)
    assert refused.value.code is ErrorCode.MAP_OUTDATED
