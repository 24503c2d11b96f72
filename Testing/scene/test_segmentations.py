"""Segments on the grid of a volume, whatever they were drawn on."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import vtk
from numpy.typing import NDArray

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.scene.arrays import set_volume_values
from SaliencyExplain.scene.segment_position import keep_notes
from SaliencyExplain.scene.segmentations import add_segmentation, masks_on_grid
from SaliencyExplain.scene.volume_nodes import add_image
from Testing.expected_errors import error_with
from Testing.scene.conftest import GRIDS, SHAPE, Affine, block, under_transform, warp

RANDOM = np.random.default_rng(6)
BLOCKS = np.stack([block((5, 6, 5), radius=3), block((7, 8, 6), radius=3)])
NAMES, COLORS = ("core", "oedema"), ((1.0, 0.0, 0.0), (0.0, 0.5, 1.0))


def image_on(scene, grid: Affine, shape: tuple[int, ...] = SHAPE):
    return add_image(scene, np.zeros(shape), grid, "image")


def itk_image(values: NDArray[np.uint8], grid: Affine) -> sitk.Image:
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.T))
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def carried(values: NDArray[np.uint8], grid: Affine, to: Affine, shape: tuple[int, ...]):
    """What ITK makes of a mask on another grid."""
    reference = itk_image(np.zeros(shape, np.uint8), to)
    result = sitk.Resample(itk_image(values, grid), reference, sitk.Transform(),
                           sitk.sitkNearestNeighbor, 0)  # fmt: skip
    return sitk.GetArrayFromImage(result).T


def test_overlapping_segments_come_back_whole_with_names_and_colours(scene, grid: Affine):
    node = add_segmentation(scene, BLOCKS, NAMES, COLORS, grid, "truth")
    found = masks_on_grid(node, image_on(scene, grid))
    np.testing.assert_array_equal(found.masks, BLOCKS)
    assert found.masks.dtype == np.uint8
    assert (found.masks.sum(axis=0) == 2).any()
    assert found.names == NAMES
    np.testing.assert_allclose(found.colors, COLORS)


def test_segments_on_another_grid_are_where_itk_puts_them(scene, grid: Affine):
    mask = np.zeros((20, 22, 18), np.uint8)
    mask[4:15, 6:17, 3:14] = RANDOM.random((11, 11, 11)) < 0.8
    drawn_on = GRIDS["oblique"].copy()
    drawn_on[:3, :3] *= 0.73
    drawn_on[:3, 3] += (1.3, -2.1, 0.7)
    node = add_segmentation(scene, mask[None], ["a"], [(1, 1, 0)], drawn_on, "fine")
    found = masks_on_grid(node, image_on(scene, grid)).masks[0]
    expected = carried(mask, drawn_on, grid, SHAPE)
    assert found.sum() > 30
    # Centres on the edge between two voxels are either's.
    assert (found != expected).mean() < 0.002


def test_transforms_above_both_are_respected(scene):
    node = add_segmentation(scene, BLOCKS, NAMES, COLORS, GRIDS["plain"], "truth")
    image = image_on(scene, GRIDS["plain"])
    shift = np.eye(4)
    shift[:3, 3] = (4, -2, 4)
    transform = under_transform(scene, node, shift)
    # Two, minus one and two voxels of 2 mm.
    expected = np.roll(BLOCKS, (2, -1, 2), axis=(1, 2, 3))
    np.testing.assert_array_equal(masks_on_grid(node, image).masks, expected)
    image.SetAndObserveTransformNodeID(transform.GetID())
    np.testing.assert_array_equal(masks_on_grid(node, image).masks, BLOCKS)


def test_segments_under_a_warp_are_where_it_takes_them(scene):
    node = add_segmentation(scene, BLOCKS, NAMES, COLORS, GRIDS["plain"], "truth")
    image = image_on(scene, GRIDS["plain"])
    bent = warp(scene, (4, -2, 4))
    assert not bent.IsTransformToWorldLinear()
    node.SetAndObserveTransformNodeID(bent.GetID())
    expected = np.roll(BLOCKS, (2, -1, 2), axis=(1, 2, 3))
    np.testing.assert_array_equal(masks_on_grid(node, image).masks, expected)


def test_some_segments_can_be_chosen_in_any_order(scene):
    node = add_segmentation(scene, BLOCKS, NAMES, COLORS, GRIDS["plain"], "truth")
    found = masks_on_grid(node, image_on(scene, GRIDS["plain"]), ["Segment_2", "Segment_1"])
    assert found.names == NAMES[::-1]
    np.testing.assert_array_equal(found.masks, BLOCKS[::-1])
    with error_with(ErrorCode.NAME_UNKNOWN, "'Segment_3'", "Segment_2"):
        masks_on_grid(node, image_on(scene, GRIDS["plain"]), ["Segment_3"])


def test_label_maps_have_a_segment_for_each_label_named_by_their_colour_table(scene):
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:5, 3:6, 4:8] = 3
    labels[8:12, 3:6, 4:8] = 1
    node = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    set_volume_values(node, labels, GRIDS["oblique"])
    image = image_on(scene, GRIDS["oblique"])
    plain = masks_on_grid(node, image)
    assert plain.names == ("label 1", "label 3")
    assert plain.ids == ("1", "3")
    np.testing.assert_array_equal(plain.masks, [labels == 1, labels == 3])
    table = slicer.vtkMRMLColorTableNode()
    table.SetTypeToUser()
    table.SetNumberOfColors(4)
    table.SetColor(3, "necrosis", 0.25, 0.5, 0.75, 1.0)
    scene.AddNode(table)
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetAndObserveColorNodeID(table.GetID())
    named = masks_on_grid(node, image, ["3"])
    assert named.names == ("necrosis",)
    np.testing.assert_allclose(named.colors, [(0.25, 0.5, 0.75)], atol=1 / 255)


def test_a_segment_without_a_voxel_is_named(scene):
    masks = np.stack([BLOCKS[0], 0 * BLOCKS[0]])
    node = add_segmentation(scene, masks, NAMES, COLORS, GRIDS["plain"], "truth")
    with error_with(ErrorCode.SCENE_NODE, "'oedema'", "'truth'"):
        masks_on_grid(node, image_on(scene, GRIDS["plain"]))


def test_a_segment_outside_of_the_volume_is_named(scene):
    away = GRIDS["plain"].copy()
    away[:3, 3] += 1000
    node = add_segmentation(scene, BLOCKS, NAMES, COLORS, away, "truth")
    with pytest.raises(InputError) as error:
        masks_on_grid(node, image_on(scene, GRIDS["plain"]))
    assert error.value.code is ErrorCode.NO_OVERLAP
    assert "truth" in str(error.value)
    masks = BLOCKS.copy()
    masks[1] = 0
    masks[1, 1, 1, 1] = 1
    near = GRIDS["plain"].copy()
    near[:3, 3] -= near[:3, 0] * 2
    node = add_segmentation(scene, masks, NAMES, COLORS, near, "near")
    with error_with(ErrorCode.SCENE_NODE, "'oedema'", "'near'"):
        masks_on_grid(node, image_on(scene, GRIDS["plain"]))


def test_nodes_without_segments_are_said(scene):
    image = image_on(scene, GRIDS["plain"])
    empty = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "new")
    with error_with(ErrorCode.SCENE_NODE, "'new'"):
        masks_on_grid(empty, image)
    with error_with(ErrorCode.SCENE_NODE, "'image'"):
        masks_on_grid(image, image)
    with error_with(ErrorCode.SCENE_NODE, "1 masks", "2 names"):
        add_segmentation(scene, BLOCKS[:1], NAMES, COLORS, GRIDS["plain"], "truth")
    sheared = GRIDS["plain"].copy()
    sheared[0, 1] = 0.5
    with error_with(ErrorCode.IMAGE_GEOMETRY, "'truth'"):
        add_segmentation(scene, BLOCKS, NAMES, COLORS, sheared, "truth")


def test_segments_that_are_surfaces_are_turned_into_voxels(scene):
    grid = GRIDS["oblique"]
    image = image_on(scene, grid, (24, 24, 20))
    middle = (grid @ [12, 12, 10, 1])[:3]
    ball = vtk.vtkSphereSource()
    ball.SetCenter(*middle)
    ball.SetRadius(10)
    ball.SetThetaResolution(60)
    ball.SetPhiResolution(60)
    ball.Update()
    segment = slicer.vtkSegment()
    segment.SetName("ball")
    segment.AddRepresentation("Closed surface", ball.GetOutput())
    node = slicer.vtkMRMLSegmentationNode()
    node.GetSegmentation().SetSourceRepresentationName("Closed surface")
    node.GetSegmentation().AddSegment(segment, "ball")
    scene.AddNode(node)
    found = masks_on_grid(node, image).masks[0].astype(bool)
    places = (
        np.einsum("ab,bijk->aijk", grid[:3, :3], np.indices(found.shape))
        + grid[:3, 3, None, None, None]
    )
    inside = np.linalg.norm(places - middle[:, None, None, None], axis=0) <= 10
    dice = 2 * (found & inside).sum() / (found.sum() + inside.sum())
    assert dice > 0.95


def test_a_moved_segmentation_of_the_volumes_shape_has_a_note_unless_a_transform_moved_it(scene):
    moved = GRIDS["plain"].copy()
    moved[:3, 3] += (4, -2, 4)
    node = add_segmentation(scene, BLOCKS, NAMES, COLORS, moved, "truth")
    image = image_on(scene, GRIDS["plain"])
    (note,) = masks_on_grid(node, image).notes
    assert "(4, -2, 4) mm" in note
    assert "(2, -1, 2) voxels" in note
    under_transform(scene, node, np.eye(4))
    assert masks_on_grid(node, image).notes == ()
    here = add_segmentation(scene, BLOCKS, NAMES, COLORS, GRIDS["plain"], "here")
    assert masks_on_grid(here, image).notes == ()


def test_a_mirrored_segmentation_is_refused_by_its_name(scene):
    affine = GRIDS["plain"].copy()
    affine[:3, 3] += (30, 40, 50)
    node = add_segmentation(
        scene, BLOCKS, NAMES, COLORS, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine, "truth"
    )
    with pytest.raises(InputError) as error:
        masks_on_grid(node, image_on(scene, affine))
    assert error.value.code is ErrorCode.GRID_MISMATCH
    assert "truth" in str(error.value)
    assert "x and y" in str(error.value)


def test_what_lies_outside_of_the_volume_is_told(scene):
    moved = GRIDS["plain"].copy()
    moved[:3, 3] += moved[:3, 0] * 6
    node = add_segmentation(scene, BLOCKS, NAMES, COLORS, moved, "truth")
    notes = masks_on_grid(node, image_on(scene, GRIDS["plain"])).notes
    marked = BLOCKS.any(axis=0)
    outside = 1 - marked[:-6].sum() / marked.sum()
    assert any(f"{outside * 100:.1f} %" in note for note in notes)


def test_what_was_told_of_a_file_stays_with_its_segments(scene):
    node = add_segmentation(scene, BLOCKS, NAMES, COLORS, GRIDS["plain"], "truth")
    keep_notes(node, ["resampled"])
    assert masks_on_grid(node, image_on(scene, GRIDS["plain"])).notes == ("resampled",)
