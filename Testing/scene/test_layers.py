"""The slice views of bare scenes and of scenes that have views already."""

from __future__ import annotations

import numpy as np
import pytest
import slicer

from SaliencyExplain.scene.attributions import add_attribution
from SaliencyExplain.scene.nodes import composite_nodes, nodes_of, slice_nodes, view_nodes
from SaliencyExplain.scene.slice_layers import OPACITY, jump_to, link_views, set_opacity, show
from SaliencyExplain.scene.slice_pictures import slice_picture
from SaliencyExplain.scene.volume_nodes import add_image
from Testing.scene.conftest import GRIDS, SHAPE, Affine, attribution, block


@pytest.fixture
def image(scene) -> slicer.vtkMRMLScalarVolumeNode:
    return add_image(scene, np.ones(SHAPE), GRIDS["plain"], "image")


def test_a_bare_scene_gets_slicers_own_views_once(scene, image):
    for _ in range(2):
        show(scene, image)
        view_nodes(scene)
    views = slice_nodes(scene)
    assert [view.GetID() for view in views] == [
        f"vtkMRMLSliceNode{name}" for name in ("Red", "Green", "Yellow")
    ]
    assert [view.GetOrientation() for view in views] == ["Axial", "Coronal", "Sagittal"]
    assert [node.GetID() for node in composite_nodes(scene)] == [
        f"vtkMRMLSliceCompositeNode{name}" for name in ("Red", "Green", "Yellow")
    ]
    assert [node.GetSingletonTag() for node in view_nodes(scene)] == ["1"]
    (layout,) = nodes_of(scene, "vtkMRMLLayoutNode")
    assert layout.GetViewArrangement() == slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView


def test_views_that_an_application_has_made_are_used_as_they_are(scene, image):
    """As in desktop Slicer: its own slice views, with their logics, and one more."""
    application = slicer.vtkMRMLApplicationLogic()
    application.SetMRMLScene(scene)
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    logics = []
    for name in ("Red", "Slice4"):
        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLApplicationLogic(application)
        logic.SetMRMLScene(scene)
        logic.AddSliceNode(name)
        logics.append(logic)
    classes = ("SliceNode", "SliceCompositeNode", "SelectionNode", "ModelNode")
    counted = {f"vtkMRML{name}": len(nodes_of(scene, f"vtkMRML{name}")) for name in classes}
    show(scene, image)
    assert {name: len(nodes_of(scene, name)) for name in counted} == counted
    for logic in logics:
        assert logic.GetBackgroundLayer().GetVolumeNode() == image


def test_layers_are_those_that_were_asked_for(scene, image):
    node = add_attribution(scene, attribution(block((4, 4, 4)), GRIDS["plain"]), image)
    show(scene, image, node)
    for composite in composite_nodes(scene):
        assert composite.GetBackgroundVolumeID() == image.GetID()
        assert composite.GetForegroundVolumeID() == node.GetID()
        assert composite.GetLabelVolumeID() is None
        assert composite.GetForegroundOpacity() == OPACITY
    set_opacity(scene, 0.3)
    show(scene, image, node)
    assert composite_nodes(scene)[1].GetForegroundOpacity() == 0.3
    show(scene, image, None, opacity=0.9)
    assert composite_nodes(scene)[1].GetForegroundVolumeID() is None
    assert composite_nodes(scene)[1].GetForegroundOpacity() == 0.9


def test_jumping_moves_all_slices_through_the_place(scene, image):
    show(scene, image)
    jump_to(scene, (3.0, -7.5, 11.0))
    for view in slice_nodes(scene):
        matrix = view.GetSliceToRAS()
        normal = np.array([matrix.GetElement(row, 2) for row in range(3)])
        origin = np.array([matrix.GetElement(row, 3) for row in range(3)])
        assert normal @ (np.array([3.0, -7.5, 11.0]) - origin) == pytest.approx(0, abs=1e-6)


def test_the_users_zoom_stays_while_the_image_stays(scene, image):
    show(scene, image)
    view = slice_nodes(scene)[0]
    view.SetFieldOfView(10, 10, 1)
    show(scene, image, add_attribution(scene, attribution(block((4, 4, 4)), GRIDS["plain"]), image))
    assert view.GetFieldOfView()[0] == 10


def test_the_whole_image_fits_into_a_view(scene, grid: Affine):
    image = add_image(scene, block((7, 7, 6), 100, radius=5) + 100, grid, "image")
    image.GetDisplayNode().AutoWindowLevelOff()
    image.GetDisplayNode().SetWindowLevelMinMax(0, 100)
    show(scene, image)
    centre = tuple((grid @ [6.5, 7, 5.5, 1])[:3])
    for orientation in ("axial", "coronal", "sagittal"):
        for size in ((100, 100), (160, 80), (60, 140)):
            picture = slice_picture(scene, orientation, centre, size)
            assert picture.shape == (size[1], size[0], 3)
            seen = picture.any(axis=-1)
            # Nothing is cut off at any edge, and the image fills a good part of the picture.
            edges = np.concatenate([seen[0], seen[-1], seen[:, 0], seen[:, -1]])
            assert not edges.any()
            assert max(seen.any(axis=0).mean(), seen.any(axis=1).mean()) > 0.5


def test_linked_views_share_what_they_show(scene, image):
    show(scene, image)
    link_views(scene, True)
    assert all(node.GetLinkedControl() for node in composite_nodes(scene))
    link_views(scene, False)
    assert not any(node.GetLinkedControl() for node in composite_nodes(scene))
