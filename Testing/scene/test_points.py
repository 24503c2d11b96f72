"""What is read at a place of the world."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import vtk

from SaliencyExplain.scene.arrays import set_volume_values
from SaliencyExplain.scene.attributions import add_attribution
from SaliencyExplain.scene.band_segments import add_bands
from SaliencyExplain.scene.points import readings_at
from SaliencyExplain.scene.segmentations import add_segmentation
from SaliencyExplain.scene.volume_nodes import add_image
from Testing.scene.conftest import (
    GRIDS,
    SHAPE,
    Affine,
    attribution,
    block,
    place_of,
    under_transform,
    warp,
)

VALUES = np.random.default_rng(7).normal(size=SHAPE).astype(np.float32)
INDEX = (9, 4, 7)


def test_image_and_maps_are_read_at_the_voxel_that_holds_the_place(scene, grid: Affine):
    image = add_image(scene, 100 * VALUES, grid, "image")
    add_attribution(scene, attribution(VALUES, grid), image)
    other = {"method": "b", "method_title": "B", "target_name": "healthy"}
    add_attribution(scene, attribution(np.abs(VALUES), grid, signed=False, **other), image)
    off = place_of(grid, (INDEX[0] + 0.4, INDEX[1] - 0.4, INDEX[2] + 0.3))
    found = readings_at(scene, image, off)
    assert found.image_value == np.float32(100 * VALUES[INDEX])
    one, two = found.maps
    assert (one.label, one.title, one.target_name) == ("occlusion", "Occlusion", "glioma")
    assert (two.label, two.title, two.target_name) == ("b", "B", "healthy")
    assert one.value == VALUES[INDEX]
    assert one.percentile == pytest.approx(100 * (VALUES[INDEX] > VALUES).mean())
    assert two.percentile == pytest.approx(100 * (np.abs(VALUES) < abs(VALUES[INDEX])).mean())


def test_equal_voxels_do_not_count_as_weaker(scene):
    values = np.zeros(SHAPE, np.float32)
    values[:7] = 1
    values[INDEX] = -1
    image = add_image(scene, values, GRIDS["plain"], "image")
    add_attribution(scene, attribution(values, GRIDS["plain"]), image)

    def percentile(index: tuple[int, int, int]) -> float | None:
        return readings_at(scene, image, place_of(GRIDS["plain"], index)).maps[0].percentile

    size = values.size
    assert percentile((0, 0, 0)) == pytest.approx(50)
    assert percentile((8, 0, 0)) == pytest.approx(100 / size)
    assert percentile(INDEX) == 0


def test_a_map_of_zeros_puts_no_place_above_another(scene):
    image = add_image(scene, VALUES, GRIDS["plain"], "image")
    add_attribution(scene, attribution(0 * VALUES, GRIDS["plain"]), image)
    reading = readings_at(scene, image, place_of(GRIDS["plain"], INDEX)).maps[0]
    assert (reading.value, reading.percentile) == (0.0, 0.0)


def test_outside_of_image_and_map_nothing_is_read(scene):
    image = add_image(scene, VALUES, GRIDS["plain"], "image")
    small = GRIDS["plain"].copy()
    add_attribution(scene, attribution(VALUES[:5, :5, :5], small), image)
    inside_image = readings_at(scene, image, place_of(small, (10, 10, 10)))
    assert inside_image.image_value == VALUES[10, 10, 10]
    assert (inside_image.maps[0].value, inside_image.maps[0].percentile) == (None, None)
    outside = readings_at(scene, image, place_of(small, (-0.6, 0, 0)))
    assert outside.image_value is None
    assert readings_at(scene, image, place_of(small, (-0.4, 0, 0))).image_value == VALUES[0, 0, 0]


def test_maps_of_another_image_are_not_read(scene):
    image = add_image(scene, VALUES, GRIDS["plain"], "image")
    other = add_image(scene, VALUES, GRIDS["plain"], "other")
    add_attribution(scene, attribution(VALUES, GRIDS["plain"]), other)
    assert readings_at(scene, image, (8, -5, 3)).maps == ()


def test_transforms_are_part_of_the_world(scene):
    image = add_image(scene, VALUES, GRIDS["oblique"], "image")
    shift = np.eye(4)
    shift[:3, 3] = (100, 50, -20)
    under_transform(scene, image, shift)
    place = place_of(shift @ GRIDS["oblique"], INDEX)
    assert readings_at(scene, image, place).image_value == VALUES[INDEX]


def test_segments_that_hold_the_place_are_named_and_bands_are_none(scene, grid: Affine):
    image = add_image(scene, VALUES, grid, "image")
    add_bands(scene, add_attribution(scene, attribution(block(INDEX), grid), image))
    masks = np.stack([block(INDEX), block((3, 3, 3)), block(INDEX, radius=2)])
    add_segmentation(scene, masks, ["core", "elsewhere", "oedema"], [(1, 0, 0)] * 3, grid, "truth")
    labels = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    set_volume_values(labels, block(INDEX, 4).astype(np.uint8), grid)
    assert readings_at(scene, image, place_of(grid, INDEX)).segments == (
        "core", "oedema", "label 4",
    )  # fmt: skip
    beside = tuple(np.add(INDEX, (2, 0, 0)))
    assert readings_at(scene, image, place_of(grid, beside)).segments == ("oedema",)
    assert readings_at(scene, image, place_of(grid, (0, 14, 0))).segments == ()


@pytest.mark.parametrize("linear", [True, False])
def test_segments_under_a_transform_hold_the_place_that_they_were_taken_to(scene, linear: bool):
    image = add_image(scene, VALUES, GRIDS["plain"], "image")
    node = add_segmentation(
        scene, block(INDEX)[None], ["core"], [(1, 0, 0)], GRIDS["plain"], "truth"
    )
    if linear:
        shift = np.eye(4)
        shift[:3, 3] = (40, 0, 0)
        under_transform(scene, node, shift)
    else:
        node.SetAndObserveTransformNodeID(warp(scene, (40, 0, 0)).GetID())
    right, anterior, superior = place_of(GRIDS["plain"], INDEX)
    assert readings_at(scene, image, (right, anterior, superior)).segments == ()
    assert readings_at(scene, image, (right + 40, anterior, superior)).segments == ("core",)


def test_segments_that_are_only_surfaces_hold_what_is_inside(scene):
    image = add_image(scene, VALUES, GRIDS["plain"], "image")
    ball = vtk.vtkSphereSource()
    ball.SetCenter(8, -5, 3)
    ball.SetRadius(5)
    ball.SetThetaResolution(40)
    ball.SetPhiResolution(40)
    ball.Update()
    segment = slicer.vtkSegment()
    segment.SetName("ball")
    segment.AddRepresentation("Closed surface", ball.GetOutput())
    node = slicer.vtkMRMLSegmentationNode()
    node.GetSegmentation().SetSourceRepresentationName("Closed surface")
    node.GetSegmentation().AddSegment(segment, "ball")
    scene.AddNode(node)
    assert readings_at(scene, image, (8, -5, 7)).segments == ("ball",)
    assert readings_at(scene, image, (8, -5, 9)).segments == ()
