"""3D Slicer opens a scene on the anatomy, wherever in the world that lies."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import slicer

from SaliencyExplain.scene.cameras import look_at
from SaliencyExplain.scene.case_nodes import CaseContent, case_scene
from SaliencyExplain.scene.mrb import open_mrb, save_mrb
from SaliencyExplain.scene.nodes import nodes_of
from SaliencyExplain.scene.slice_layers import bounds
from SaliencyExplain.scene.volume_nodes import add_image
from Testing.scene.conftest import SHAPE, Affine, attribution

FAR = np.array([500.0, -800.0, 1200.0])


def in_sight(camera: slicer.vtkMRMLCameraNode, box: np.ndarray) -> float:
    """Greatest angle of a box's corners from the line of sight, as a share of the half view."""
    eye = np.array(camera.GetPosition())
    sight = np.array(camera.GetFocalPoint()) - eye
    angles = []
    for corner in itertools.product(*box.T):
        to = np.array(corner) - eye
        cosine = to @ sight / np.linalg.norm(to) / np.linalg.norm(sight)
        angles.append(np.degrees(np.arccos(cosine)))
    return max(angles) / (camera.GetViewAngle() / 2)


@pytest.mark.parametrize("origin", [np.zeros(3), FAR], ids=["at the origin", "far away"])
def test_the_whole_volume_is_seen_and_fills_the_view(
    scene: slicer.vtkMRMLScene, grid: Affine, origin: np.ndarray
):
    moved = grid.copy()
    moved[:3, 3] += origin
    image = add_image(scene, np.zeros(SHAPE, dtype=np.float32), moved, "case-001")
    camera = look_at(scene, image)
    np.testing.assert_allclose(camera.GetFocalPoint(), bounds(image).mean(axis=0))
    assert 0.6 < in_sight(camera, bounds(image)) <= 1
    # From the front, the patient's left and above.
    towards = np.subtract(camera.GetPosition(), camera.GetFocalPoint())
    assert towards[0] < 0 < towards[2] < towards[1]


def test_another_volume_moves_the_same_camera(scene: slicer.vtkMRMLScene, grid: Affine):
    values = np.zeros(SHAPE, dtype=np.float32)
    first = look_at(scene, add_image(scene, values, grid, "near"))
    moved = grid.copy()
    moved[:3, 3] += FAR
    image = add_image(scene, values, moved, "far")
    assert look_at(scene, image) is first
    assert nodes_of(scene, "vtkMRMLCameraNode") == [first]
    assert in_sight(first, bounds(image)) <= 1


def test_the_scene_of_a_case_far_from_the_origin_keeps_its_camera(grid: Affine, tmp_path: Path):
    moved = grid.copy()
    moved[:3, 3] += FAR
    values = np.random.default_rng(3).normal(size=SHAPE).astype(np.float32)
    content = CaseContent(
        "case-001", {"T1": values}, moved, [attribution(values, moved)], tuple(moved[:3, 3])
    )
    save_mrb(case_scene(content), tmp_path / "scene.mrb")
    opened = open_mrb(tmp_path / "scene.mrb")
    (camera,) = nodes_of(opened, "vtkMRMLCameraNode")
    # What desktop Slicer's first 3D view takes for its own.
    assert (camera.GetSingletonTag(), camera.GetLayoutName()) == ("1", "1")
    (image,) = [n for n in nodes_of(opened, "vtkMRMLScalarVolumeNode") if n.GetName() == "case-001"]
    assert in_sight(camera, bounds(image)) <= 1
