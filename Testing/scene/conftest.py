"""Scenes of real MRML, and grids as scanners make them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import slicer
from numpy.typing import NDArray

from SaliencyExplain.results.attribution_map import Attribution
from SaliencyExplain.scene.nodes import new_scene

Affine = NDArray[np.float64]


def affine(axes: NDArray[np.float64], spacing: tuple[float, float, float]) -> Affine:
    """A grid with these axes (columns) and spacing that has its voxel (6, 7, 5) at (8, -5, 3)."""
    result = np.eye(4)
    result[:3, :3] = axes @ np.diag(spacing)
    result[:3, 3] = np.array([8.0, -5.0, 3.0]) - result[:3, :3] @ [6, 7, 5]
    return result


def turned(*degrees: float) -> NDArray[np.float64]:
    """Axes turned about R, then A, then S."""
    result = np.eye(3)
    for axis, angle in enumerate(degrees):
        c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        one = np.eye(3)
        first, second = (at for at in range(3) if at != axis)
        one[first, first] = one[second, second] = c
        one[first, second], one[second, first] = -s, s
        result = one @ result
    return result


GRIDS = {
    "plain": affine(np.eye(3), (2.0, 2.0, 2.0)),
    "LPS": affine(np.diag([-1.0, -1.0, 1.0]), (2.0, 2.0, 2.0)),
    "left-handed": affine(np.diag([-1.0, 1.0, 1.0]), (2.0, 2.0, 2.0)),
    "anisotropic": affine(np.diag([-1.0, -1.0, 1.0]), (1.0, 1.5, 5.0)),
    "sagittal slices": affine(np.eye(3)[:, [1, 2, 0]], (1.5, 1.0, 4.0)),
    "oblique": affine(turned(20, -15, 30), (1.5, 2.0, 3.0)),
    "oblique and flipped": affine(turned(-25, 10, 40) @ np.diag([1.0, -1.0, 1.0]), (2, 1.5, 2.5)),
}

SHAPE = (14, 15, 12)


@pytest.fixture
def scene() -> slicer.vtkMRMLScene:
    return new_scene()


@pytest.fixture(params=GRIDS, ids=list(GRIDS))
def grid(request: pytest.FixtureRequest) -> Affine:
    return GRIDS[request.param]


def block(index: tuple[int, int, int], value: float = 1.0, radius: int = 1) -> NDArray[np.float32]:
    """Zeros with a block of a value around a voxel."""
    values = np.zeros(SHAPE, dtype=np.float32)
    values[tuple(slice(at - radius, at + radius + 1) for at in index)] = value
    return values


def attribution(
    values: NDArray[np.floating], to_ras: Affine, *, signed: bool = True, **others: object
) -> Attribution:
    """A map of a method and class of no importance."""
    given = {
        "method": "occlusion",
        "method_title": "Occlusion",
        "layer": "",
        "target": 1,
        "target_name": "glioma",
        "provenance": {"classifier": "toy"},
    }
    return Attribution(values=values, affine=to_ras, signed=signed, **{**given, **others})


def place_of(to_ras: Affine, index: tuple[float, float, float]) -> tuple[float, float, float]:
    """RAS mm of a voxel."""
    right, anterior, superior = (float(at) for at in (to_ras @ [*index, 1.0])[:3])
    return right, anterior, superior


def under_transform(
    scene: slicer.vtkMRMLScene, node: slicer.vtkMRMLTransformableNode, matrix: Affine
) -> slicer.vtkMRMLLinearTransformNode:
    """Puts a node under a linear transform."""
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    node.SetAndObserveTransformNodeID(transform.GetID())
    return transform


def warp(scene: slicer.vtkMRMLScene, shift: tuple[float, float, float]) -> object:
    """A transform that is no matrix to MRML, though it only shifts."""
    import vtk

    spline = vtk.vtkThinPlateSplineTransform()
    spline.SetBasisToR()
    sources, targets = vtk.vtkPoints(), vtk.vtkPoints()
    for corner in np.ndindex(2, 2, 2):
        point = 100.0 * np.array(corner) - 50
        sources.InsertNextPoint(point)
        targets.InsertNextPoint(point + shift)
    spline.SetSourceLandmarks(sources)
    spline.SetTargetLandmarks(targets)
    node = scene.AddNewNodeByClass("vtkMRMLTransformNode")
    node.SetAndObserveTransformToParent(spline)
    return node
