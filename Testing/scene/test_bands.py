"""Bands as label map node and as segmentation."""

from __future__ import annotations

import numpy as np
import slicer

from SaliencyExplain.bands import BANDS, label_bands
from SaliencyExplain.errors import ErrorCode
from SaliencyExplain.scene.arrays import volume_values
from SaliencyExplain.scene.attributions import add_attribution, update_attribution
from SaliencyExplain.scene.band_segments import add_bands, bands_of
from SaliencyExplain.scene.rendering import show_surfaces
from SaliencyExplain.scene.segmentations import masks_on_grid
from SaliencyExplain.scene.slice_layers import show
from SaliencyExplain.scene.slice_pictures import slice_picture
from SaliencyExplain.scene.volume_nodes import add_image
from Testing.expected_errors import error_with
from Testing.scene.conftest import GRIDS, SHAPE, Affine, attribution, place_of, under_transform

VALUES = np.random.default_rng(4).normal(size=SHAPE).astype(np.float32)


def added(scene, grid: Affine, values=VALUES, signed: bool = True):
    image = add_image(scene, np.zeros(values.shape), grid, "image")
    return image, add_attribution(scene, attribution(values, grid, signed=signed), image)


def test_both_forms_are_label_bands_voxel_for_voxel_on_any_grid(scene, grid: Affine):
    image, node = added(scene, grid)
    bands = add_bands(scene, node)
    expected = label_bands(VALUES)
    labels, to_ras = volume_values(bands.label_map)
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_allclose(to_ras, grid, atol=1e-9)
    found = masks_on_grid(bands.segmentation, image)
    assert found.names == tuple(band.name for band in BANDS)
    np.testing.assert_allclose(found.colors, [band.color for band in BANDS])
    for band, mask in zip(BANDS, found.masks, strict=True):
        np.testing.assert_array_equal(mask, expected == band.label)


def test_labels_have_the_bands_names_and_colours(scene):
    _, node = added(scene, GRIDS["plain"])
    table = add_bands(scene, node).label_map.GetDisplayNode().GetColorNode()
    color = [0.0] * 4
    for band in BANDS:
        table.GetColor(band.label, color)
        assert table.GetColorName(band.label) == band.name
        np.testing.assert_allclose(color, [*band.color, 1.0], atol=1 / 255)
    table.GetColor(0, color)
    assert color[3] == 0


def test_a_band_has_its_colour_in_the_slice_views(scene):
    image, node = added(scene, GRIDS["oblique"])
    bands = add_bands(scene, node)
    show(scene, image, label_map=bands.label_map)
    index = tuple(np.unravel_index(np.argmax(VALUES), SHAPE))
    picture = slice_picture(scene, "axial", place_of(GRIDS["oblique"], index), (150, 150))
    yellow = np.abs(picture.astype(float) - 255 * np.array(BANDS[0].color)).max(axis=-1) < 3
    assert yellow.any()


def test_maps_without_sign_have_no_bands_against_the_class(scene):
    image, node = added(scene, GRIDS["plain"], np.abs(VALUES), signed=False)
    found = masks_on_grid(add_bands(scene, node).segmentation, image)
    assert found.names == tuple(band.name for band in BANDS if band.sign > 0)


def test_bands_of_a_map_that_grew_are_brought_up_to_date_in_place(scene):
    image, node = added(scene, GRIDS["oblique"])
    first = add_bands(scene, node)
    show_surfaces(first.segmentation, True)
    first.segmentation.GetDisplayNode().SetSegmentVisibility("Segment_2", False)
    nodes = scene.GetNumberOfNodes()
    grown = np.random.default_rng(5).normal(size=SHAPE).astype(np.float32)
    update_attribution(node, attribution(grown, GRIDS["oblique"]))
    second = add_bands(scene, node)
    assert second == first == bands_of(scene, node)
    assert scene.GetNumberOfNodes() == nodes
    expected = label_bands(grown)
    np.testing.assert_array_equal(volume_values(second.label_map)[0], expected)
    for band, mask in zip(BANDS, masks_on_grid(second.segmentation, image).masks, strict=True):
        np.testing.assert_array_equal(mask, expected == band.label)
    assert not second.segmentation.GetDisplayNode().GetSegmentVisibility("Segment_2")
    assert second.segmentation.GetDisplayNode().GetSegmentVisibility("Segment_1")
    segment = second.segmentation.GetSegmentation().GetSegment("Segment_1")
    assert segment.GetRepresentation("Closed surface").GetNumberOfPoints() > 0


def test_bands_of_two_maps_are_two(scene):
    image, node = added(scene, GRIDS["plain"])
    other = add_attribution(scene, attribution(-VALUES, GRIDS["plain"], method="b"), image)
    assert bands_of(scene, node) is None
    one, two = add_bands(scene, node), add_bands(scene, other)
    assert one.label_map.GetID() != two.label_map.GetID()
    assert one.segmentation.GetID() != two.segmentation.GetID()
    np.testing.assert_array_equal(volume_values(two.label_map)[0], label_bands(-VALUES))


def test_bands_follow_the_transform_of_their_image(scene):
    image = add_image(scene, np.zeros(SHAPE), GRIDS["plain"], "image")
    shift = np.eye(4)
    shift[:3, 3] = (10, 20, 30)
    under_transform(scene, image, shift)
    node = add_attribution(scene, attribution(VALUES, shift @ GRIDS["plain"]), image)
    bands = add_bands(scene, node)
    np.testing.assert_allclose(volume_values(bands.label_map)[1], shift @ GRIDS["plain"])
    found = masks_on_grid(bands.segmentation, image)
    np.testing.assert_array_equal(found.masks[0], label_bands(VALUES) == 1)


def test_a_strangers_volume_has_no_bands(scene):
    image: slicer.vtkMRMLScalarVolumeNode = add_image(scene, VALUES, GRIDS["plain"], "CT")
    with error_with(ErrorCode.SCENE_NODE, "'CT'"):
        add_bands(scene, image)
