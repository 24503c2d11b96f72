"""Attributions as nodes: window, threshold, growth, provenance, folders."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import slicer
import vtk

from SaliencyExplain.colormaps import THRESHOLD, window_end
from SaliencyExplain.errors import ErrorCode
from SaliencyExplain.scene import names
from SaliencyExplain.scene.arrays import volume_values
from SaliencyExplain.scene.attributions import (
    add_attribution,
    anatomy_of,
    attributions_of,
    read_attribution,
    remove_attribution,
    set_threshold,
    threshold,
    update_attribution,
    window_of,
)
from SaliencyExplain.scene.band_segments import add_bands
from SaliencyExplain.scene.nodes import view_nodes
from SaliencyExplain.scene.rendering import show_volume_rendering
from SaliencyExplain.scene.subject_hierarchy import hierarchy
from SaliencyExplain.scene.volume_nodes import add_image
from Testing.expected_errors import error_with
from Testing.scene.conftest import GRIDS, SHAPE, attribution, block, under_transform, warp

GRID = GRIDS["oblique"]
VALUES = np.random.default_rng(3).normal(size=SHAPE).astype(np.float32)


@pytest.fixture
def image(scene) -> slicer.vtkMRMLScalarVolumeNode:
    return add_image(scene, np.zeros(SHAPE), GRID, "T1")


def folders_of(scene: slicer.vtkMRMLScene, node: slicer.vtkMRMLNode) -> list[str]:
    """Names from the outermost folder to the node."""
    tree = hierarchy(scene)
    item, found = tree.GetItemByDataNode(node), []
    while item != tree.GetSceneItemID():
        found.insert(0, tree.GetItemName(item))
        item = tree.GetItemParent(item)
    return found


def test_everything_that_was_said_of_a_map_is_read_back(scene, image):
    given = attribution(
        VALUES,
        GRID,
        method="gradcam",
        layer="features.norm5; last",
        method_title="Grad-CAM",
        target_name='GBM "IDH: wildtype" <é>',
        parameters={"layers": ["a", "b"], "window_mm": 8.5, "name": "x;y:z%20\"'\\n"},
        provenance={
            "classifier": "brain & spine; v2",
            "seed": 7,
            "versions": {"torch": "2.13"},
            "image_sha256": "00ff",
        },
        share_done=0.25,
    )
    known = read_attribution(add_attribution(scene, given, image))
    np.testing.assert_array_equal(known.values, VALUES)
    np.testing.assert_allclose(known.affine, GRID, atol=1e-9)
    for field in dataclasses.fields(given):
        if field.name not in ("values", "affine"):
            assert getattr(known, field.name) == getattr(given, field.name), field.name


@pytest.mark.parametrize("signed", [True, False])
def test_the_window_is_symmetric_for_signed_maps_and_begins_at_zero_for_others(
    scene, image, signed: bool
):
    node = add_attribution(scene, attribution(VALUES, GRID, signed=signed), image)
    display = node.GetDisplayNode()
    end = window_end(VALUES, signed)
    assert window_of(node) == pytest.approx(end)
    assert display.GetWindowLevelMax() == pytest.approx(end)
    assert display.GetWindowLevelMin() == pytest.approx(-end if signed else 0.0)
    assert not display.GetAutoWindowLevel()


def test_values_that_are_not_finite_are_refused_and_change_nothing(scene, image):
    node = add_attribution(scene, attribution(VALUES, GRID), image)
    before = scene.GetNumberOfNodes()
    broken = VALUES.copy()
    broken[3, 4, 5] = np.nan
    with error_with(ErrorCode.MAP_NOT_FINITE, "'occlusion'"):
        add_attribution(scene, attribution(broken, GRID), image)
    with error_with(ErrorCode.MAP_NOT_FINITE, "'occlusion'"):
        update_attribution(node, attribution(broken, GRID))
    assert scene.GetNumberOfNodes() == before
    np.testing.assert_array_equal(volume_values(node)[0], VALUES)


def test_a_growing_map_keeps_its_window_until_its_strength_has_really_changed(scene, image):
    def grown(strength: float, share: float):
        return attribution(strength * VALUES, GRID, share_done=share)

    node = add_attribution(scene, grown(1.0, 0.1), image)
    first = window_of(node)
    update_attribution(node, grown(1.3, 0.3))
    assert window_of(node) == first
    update_attribution(node, grown(0.7, 0.5))
    assert window_of(node) == first
    update_attribution(node, grown(2.0, 0.7))
    assert window_of(node) == pytest.approx(2 * first)
    update_attribution(node, grown(1.9, 1.0))
    assert window_of(node) == pytest.approx(1.9 * first)
    assert read_attribution(node).share_done == 1.0


def test_a_growing_map_keeps_node_threshold_and_place(scene, image):
    node = add_attribution(scene, attribution(0 * VALUES, GRID, share_done=0.01), image)
    set_threshold(node, 0.4)
    update_attribution(node, attribution(VALUES, GRID, share_done=0.5))
    assert attributions_of(scene, image) == [node]
    assert threshold(node) == 0.4
    assert window_of(node) == pytest.approx(window_end(VALUES, True))
    np.testing.assert_array_equal(volume_values(node)[0], VALUES)


def test_those_who_watch_a_growing_map_are_told_once(scene, image):
    node = add_attribution(scene, attribution(VALUES, GRID, share_done=0.1), image)
    told = []
    node.AddObserver(slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent, lambda *_: told.append(1))
    update_attribution(node, attribution(2 * VALUES, GRID, share_done=0.2))
    assert len(told) == 1


def test_the_threshold_is_the_pictures_until_it_is_set(scene, image):
    node = add_attribution(scene, attribution(VALUES, GRID), image)
    assert threshold(node) == THRESHOLD
    for share in (-0.1, 1.0, float("nan")):
        with error_with(ErrorCode.VALUE_RANGE):
            set_threshold(node, share)
    assert threshold(node) == THRESHOLD


def test_maps_lie_under_image_classifier_and_target(scene, image):
    one = add_attribution(scene, attribution(VALUES, GRID), image)
    gradcam = {"method": "gradcam", "layer": "b4", "method_title": "Grad-CAM"}
    two = add_attribution(scene, attribution(VALUES, GRID, **gradcam), image)
    other = add_attribution(scene, attribution(VALUES, GRID, target_name="healthy"), image)
    above = ["T1: attributions", "toy"]
    assert folders_of(scene, one) == [*above, "glioma", "Occlusion - glioma"]
    assert folders_of(scene, two) == [*above, "glioma", "Grad-CAM at b4 - glioma"]
    assert folders_of(scene, other) == [*above, "healthy", "Occlusion - healthy"]
    tree = hierarchy(scene)
    parents = [tree.GetItemParent(tree.GetItemByDataNode(node)) for node in (one, two)]
    assert parents[0] == parents[1]


def test_images_of_one_name_have_folders_of_their_own(scene, image):
    second = add_image(scene, np.zeros(SHAPE), GRID, "T1")
    second.SetName("T1")
    maps = [add_attribution(scene, attribution(VALUES, GRID), at) for at in (image, second, image)]
    assert attributions_of(scene, image) == [maps[0], maps[2]]
    assert attributions_of(scene, second) == [maps[1]]
    tree = hierarchy(scene)
    parents = [tree.GetItemParent(tree.GetItemByDataNode(node)) for node in maps]
    assert parents[0] == parents[2] != parents[1]


def test_a_map_that_is_removed_takes_its_colours_bands_and_folders_with_it(scene, image):
    before = {scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes())}
    children = vtk.vtkIdList()
    hierarchy(scene).GetItemChildren(hierarchy(scene).GetSceneItemID(), children, True)
    items = children.GetNumberOfIds()
    node = add_attribution(scene, attribution(VALUES, GRID), image)
    kept = add_attribution(scene, attribution(VALUES, GRID, target_name="healthy"), image)
    add_bands(scene, node)
    views = scene.GetNumberOfNodes()
    view_nodes(scene)
    before |= {scene.GetNthNode(n).GetID() for n in range(views, scene.GetNumberOfNodes())}
    show_volume_rendering(node, True)
    remove_attribution(node)
    assert attributions_of(scene) == [kept]
    remove_attribution(kept)
    after = {scene.GetNthNode(n) for n in range(scene.GetNumberOfNodes())}
    left = [node.GetName() for node in after if node.GetID() not in before]
    assert left == ["Saliency bands"]
    hierarchy(scene).GetItemChildren(hierarchy(scene).GetSceneItemID(), children, True)
    assert children.GetNumberOfIds() == items


def test_a_strangers_volume_is_no_attribution(scene, image):
    assert attributions_of(scene) == []
    for function in (read_attribution, threshold, remove_attribution):
        with error_with(ErrorCode.SCENE_NODE, "'T1'"):
            function(image)


def test_a_map_of_an_image_under_a_sheared_transform_is_kept_on_the_images_own_grid(scene, image):
    """A registration of twelve parameters shears the world, not the file."""
    sheared = np.eye(4)
    sheared[0, 1] = 0.3
    under_transform(scene, image, sheared)
    node = add_attribution(scene, attribution(VALUES, sheared @ GRID), image)
    values, to_ras = volume_values(node)
    np.testing.assert_array_equal(values, VALUES)
    np.testing.assert_allclose(to_ras, sheared @ GRID, atol=1e-9)


def test_a_map_for_an_image_under_a_warp_is_refused(scene, image):
    image.SetAndObserveTransformNodeID(warp(scene, (1, 2, 3)).GetID())
    with error_with(ErrorCode.SCENE_NODE, "'Occlusion - glioma'", "'Transform'"):
        add_attribution(scene, attribution(block((3, 3, 3)), GRID), image)
    assert attributions_of(scene) == []


def test_all_attributes_begin_with_the_projects_name(scene, image):
    node = add_attribution(scene, attribution(VALUES, GRID), image)
    found = node.GetAttributeNames()
    assert found
    assert all(name.startswith(names.PREFIX) for name in found)


def test_the_map_of_one_channel_is_shown_over_that_channel(scene, image):
    flair = add_image(scene, np.ones(SHAPE), GRID, "FLAIR")
    given = attribution(VALUES, GRID)
    second = dataclasses.replace(given, provenance={"channel": 1})
    of_all = add_attribution(scene, given, image, (image, flair))
    of_flair = add_attribution(scene, second, image, (image, flair))
    assert anatomy_of(of_all).GetID() == image.GetID()
    assert anatomy_of(of_flair).GetID() == flair.GetID()
    # It is a map of the image all the same.
    assert attributions_of(scene, image) == [of_all, of_flair]
    scene.RemoveNode(flair)
    assert anatomy_of(of_flair).GetID() == image.GetID()
