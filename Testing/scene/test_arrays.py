"""Voxels and where they lie, on any grid and under transforms."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import slicer
import vtk

from SaliencyExplain.errors import ErrorCode
from SaliencyExplain.scene.arrays import (
    length_unit_of,
    set_volume_values,
    volume_values,
    voxel_at,
)
from SaliencyExplain.scene.volume_nodes import add_image
from Testing.expected_errors import error_with
from Testing.scene.conftest import GRIDS, SHAPE, Affine, place_of, turned, under_transform, warp

VALUES = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


@pytest.mark.slow
def test_voxels_and_affine_come_back_as_they_were_given(scene, grid: Affine):
    node = add_image(scene, VALUES, grid, "image")
    values, to_ras = volume_values(node)
    np.testing.assert_array_equal(values, VALUES)
    np.testing.assert_allclose(to_ras, grid, atol=1e-9)
    assert values.dtype == np.float32
    assert values.flags.c_contiguous


def test_slicer_finds_each_voxel_where_the_affine_says(scene, grid: Affine):
    node = add_image(scene, VALUES, grid, "image")
    to_index = vtk.vtkMatrix4x4()
    node.GetRASToIJKMatrix(to_index)
    for index in [(0, 0, 0), (3, 11, 2), (13, 14, 11)]:
        at = to_index.MultiplyPoint([*place_of(grid, index), 1.0])[:3]
        np.testing.assert_allclose(at, index, atol=1e-6)
        assert node.GetImageData().GetScalarComponentAsFloat(*index, 0) == VALUES[index]


def test_a_file_that_slicer_writes_has_the_voxels_in_their_places(
    scene, grid: Affine, tmp_path: Path
):
    node = add_image(scene, VALUES, grid, "image")
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(tmp_path / "image.nii.gz"))
    assert storage.WriteData(node)
    image = nibabel.load(tmp_path / "image.nii.gz")
    for index in [(0, 0, 0), (3, 11, 2), (13, 14, 11)]:
        at = np.linalg.solve(image.affine, [*place_of(grid, index), 1.0])[:3]
        assert np.asarray(image.dataobj)[tuple(np.rint(at).astype(int))] == VALUES[index]


def test_an_image_of_two_axes_is_one_slice(scene):
    node = add_image(scene, VALUES[:, :, 0], GRIDS["LPS"], "X-ray")
    values, to_ras = volume_values(node)
    np.testing.assert_array_equal(values, VALUES[:, :, :1])
    np.testing.assert_allclose(to_ras, GRIDS["LPS"])


def test_vector_volumes_have_their_components_first(scene):
    node = scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode")
    colours = np.random.default_rng(1).normal(size=(3, *SHAPE)).astype(np.float32)
    set_volume_values(node, colours, GRIDS["oblique"])
    values, _ = volume_values(node)
    np.testing.assert_array_equal(values, colours)
    assert node.GetImageData().GetNumberOfScalarComponents() == 3


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "int64", "float16", "float64"])
def test_every_type_of_voxel_is_taken(scene, dtype: str):
    given = (VALUES * 3).astype(dtype)
    values, _ = volume_values(add_image(scene, given, GRIDS["plain"], dtype))
    np.testing.assert_array_equal(values, given.astype(np.float32))


def test_what_is_read_is_a_copy(scene):
    node = add_image(scene, VALUES, GRIDS["plain"], "image")
    values, _ = volume_values(node)
    values[:] = 0
    np.testing.assert_array_equal(volume_values(node)[0], VALUES)


def test_a_linear_transform_is_part_of_the_affine(scene, grid: Affine):
    node = add_image(scene, VALUES, grid, "image")
    moved = np.eye(4)
    moved[:3, :3] = turned(10, 20, -30)
    moved[:3, 3] = (5, -7, 11)
    under_transform(scene, node, moved)
    _, to_ras = volume_values(node)
    np.testing.assert_allclose(to_ras, moved @ grid, atol=1e-9)


def test_voxels_given_to_a_node_under_a_transform_lie_where_they_should_in_the_world(scene):
    node = add_image(scene, VALUES, GRIDS["plain"], "image")
    moved = np.diag([-1.0, 1.0, 2.0, 1.0])
    under_transform(scene, node, moved)
    set_volume_values(node, 2 * VALUES, GRIDS["LPS"])
    values, to_ras = volume_values(node)
    np.testing.assert_array_equal(values, 2 * VALUES)
    np.testing.assert_allclose(to_ras, GRIDS["LPS"], atol=1e-9)


def test_indices_count_from_the_first_voxel_of_a_cropped_image(scene):
    node = add_image(scene, VALUES, GRIDS["oblique"], "image")
    crop = vtk.vtkExtractVOI()
    crop.SetInputData(node.GetImageData())
    crop.SetVOI(2, 9, 3, 12, 4, 8)
    crop.Update()
    node.SetAndObserveImageData(crop.GetOutput())
    assert node.GetImageData().GetExtent()[0] == 2
    values, to_ras = volume_values(node)
    np.testing.assert_array_equal(values, VALUES[2:10, 3:13, 4:9])
    np.testing.assert_allclose(to_ras[:3, 3], place_of(GRIDS["oblique"], (2, 3, 4)), atol=1e-9)


def test_a_warp_is_refused_by_name(scene):
    node = add_image(scene, VALUES, GRIDS["plain"], "T1")
    node.SetAndObserveTransformNodeID(warp(scene, (1, 2, 3)).GetID())
    with error_with(ErrorCode.SCENE_NODE, "'T1'", "'Transform'"):
        volume_values(node)


def test_sheared_and_broken_grids_are_refused_and_leave_nothing(scene):
    sheared = GRIDS["plain"].copy()
    sheared[0, 2] = 0.5
    flat = GRIDS["plain"].copy()
    flat[:, 2] = 0
    before = scene.GetNumberOfNodesByClass("vtkMRMLVolumeNode")
    with error_with(ErrorCode.IMAGE_GEOMETRY, "'CT'"):
        add_image(scene, VALUES, sheared, "CT")
    with error_with(ErrorCode.IMAGE_GEOMETRY, "'CT'"):
        add_image(scene, VALUES, flat, "CT")
    assert scene.GetNumberOfNodesByClass("vtkMRMLVolumeNode") == before


def test_a_volume_without_voxels_is_refused_by_name(scene):
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    with error_with(ErrorCode.SCENE_NODE, "'empty'"):
        volume_values(node)


def test_the_voxel_at_a_place_is_the_nearest(grid: Affine):
    assert voxel_at(grid, place_of(grid, (4, 5, 6))) == (4, 5, 6)
    assert voxel_at(grid, place_of(grid, (4.4, 4.6, 6.4))) == (4, 5, 6)
    assert voxel_at(grid, place_of(grid, (-0.6, 0, 0))) == (-1, 0, 0)


@pytest.mark.parametrize(("spacing", "unit"), [(1.0, "px"), (0.5, "mm")])
def test_a_picture_in_the_scene_has_its_lengths_in_pixels(scene, spacing, unit):
    values = np.random.default_rng(0).random((7, 5)).astype(np.float32)
    node = add_image(scene, values, np.diag([-spacing, -spacing, 1.0, 1.0]), "picture")
    assert length_unit_of(node) == unit
