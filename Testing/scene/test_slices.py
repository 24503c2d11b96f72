"""What slice views show of an attribution: the right colour in the right place."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
from numpy.typing import NDArray
from vtk.util import numpy_support

from SaliencyExplain.colormaps import color_table
from SaliencyExplain.errors import ErrorCode
from SaliencyExplain.scene.attributions import add_attribution, set_threshold
from SaliencyExplain.scene.band_segments import add_bands
from SaliencyExplain.scene.nodes import composite_nodes, slice_nodes
from SaliencyExplain.scene.segmentations import add_segmentation, outline
from SaliencyExplain.scene.slice_layers import fit, set_opacity, show
from SaliencyExplain.scene.slice_pictures import slice_picture
from SaliencyExplain.scene.volume_nodes import add_image
from Testing.expected_errors import error_with
from Testing.scene.conftest import (
    GRIDS,
    SHAPE,
    Affine,
    attribution,
    block,
    place_of,
    turned,
    under_transform,
)

ORIENTATIONS = ("axial", "coronal", "sagittal")
HOT = (10, 11, 8)
STRONGEST = 255 * color_table(signed=True)[-1]
SIZE = (120, 120)


def near(pixels: NDArray[np.uint8], color: NDArray[np.floating]) -> NDArray[np.bool_]:
    return np.abs(pixels.astype(float) - color).max(axis=-1) <= 3


def centre(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    assert mask.any()
    return np.argwhere(mask).mean(axis=0)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_heat_lies_on_the_voxels_that_were_hot_and_nowhere_else(
    scene, grid: Affine, orientation: str
):
    image = add_image(scene, block(HOT, 100), grid, "image")
    node = add_attribution(scene, attribution(block(HOT), grid), image)
    place = place_of(grid, HOT)
    show(scene, image)
    anatomy = slice_picture(scene, orientation, place, SIZE)
    show(scene, image, node, opacity=1.0)
    heat = near(slice_picture(scene, orientation, place, SIZE), STRONGEST)
    assert heat.sum() > 4
    assert np.linalg.norm(centre(heat) - centre(anatomy.max(axis=-1) > 128)) < 1.0
    # Nowhere else, so neither at a mirrored place.
    assert anatomy.max(axis=-1)[heat].min() > 200
    assert heat.mean() < 0.1


@pytest.mark.parametrize(
    ("orientation", "away", "rows", "columns"),
    [
        ("axial", (15, 12, 0), "top", "left"),
        ("coronal", (15, 0, 12), "top", "left"),
        ("sagittal", (0, 15, 12), "top", "left"),
        ("axial", (-15, -12, 0), "bottom", "right"),
        ("coronal", (-15, 0, -12), "bottom", "right"),
        ("sagittal", (0, -15, -12), "bottom", "right"),
    ],
)
def test_slices_are_radiological(
    scene, orientation: str, away: tuple[float, ...], rows: str, columns: str
):
    """Right is left, anterior and superior are on top, anterior is left in sagittal ones."""
    shape = (31, 31, 31)
    to_ras = np.diag([2.0, 2.0, 2.0, 1.0])
    to_ras[:3, 3] = -30
    index = tuple(np.rint((np.array(away) + 30) / 2).astype(int))
    values = np.zeros(shape, dtype=np.float32)
    values[tuple(slice(at - 1, at + 2) for at in index)] = 1
    image = add_image(scene, np.zeros(shape, np.float32), to_ras, "image")
    show(scene, image, add_attribution(scene, attribution(values, to_ras), image), opacity=1.0)
    row, column = centre(near(slice_picture(scene, orientation, away, SIZE), STRONGEST))
    assert (row < 60) == (rows == "top")
    assert (column < 60) == (columns == "left")


def test_a_map_on_its_own_grid_lands_on_the_same_place(scene):
    image = add_image(scene, block(HOT, 100), GRIDS["oblique"], "image")
    place = np.array(place_of(GRIDS["oblique"], HOT))
    own = np.eye(4)
    own[:3, :3] = turned(-40, 5, 70) @ np.diag([4.0, 3.0, -2.5])
    own[:3, 3] = place - own[:3, :3] @ [5, 3, 4]
    values = np.zeros((9, 8, 7), dtype=np.float32)
    values[5, 3, 4] = 1
    node = add_attribution(scene, attribution(values, own), image)
    for orientation in ORIENTATIONS:
        show(scene, image)
        anatomy = slice_picture(scene, orientation, tuple(place), SIZE)
        show(scene, image, node, opacity=1.0)
        picture = slice_picture(scene, orientation, tuple(place), SIZE)
        # A single voxel fades into its neighbours: its middle is the strongest.
        heat = near(picture, STRONGEST) | (picture[..., 0] > picture[..., 2].astype(int) + 60)
        assert np.linalg.norm(centre(heat) - centre(anatomy.max(axis=-1) > 128)) < 2.0


def test_a_map_of_a_transformed_image_lands_on_it_and_moves_with_it(scene):
    image = add_image(scene, block(HOT, 100), GRIDS["anisotropic"], "image")
    moved = np.eye(4)
    moved[:3, :3] = turned(0, 0, 25)
    moved[:3, 3] = (30, 0, -12)
    transform = under_transform(scene, image, moved)
    world = moved @ GRIDS["anisotropic"]
    node = add_attribution(scene, attribution(block(HOT), world), image)

    def apart(place: tuple[float, float, float]) -> float:
        show(scene, image)
        anatomy = slice_picture(scene, "axial", place, SIZE)
        show(scene, image, node, opacity=1.0)
        heat = near(slice_picture(scene, "axial", place, SIZE), STRONGEST)
        return float(np.linalg.norm(centre(heat) - centre(anatomy.max(axis=-1) > 128)))

    assert apart(place_of(world, HOT)) < 1.0
    further = np.eye(4)
    further[:3, 3] = (-50, 20, 10)
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(further @ moved))
    assert apart(place_of(further @ world, HOT)) < 1.0


def test_pictures_are_what_slicers_slice_logic_blends(scene):
    random = np.random.default_rng(2)
    image = add_image(scene, random.normal(size=SHAPE), GRIDS["oblique"], "image")
    values = random.normal(size=SHAPE).astype(np.float32)
    node = add_attribution(scene, attribution(values, GRIDS["oblique"]), image)
    show(scene, image, node, opacity=0.6, label_map=add_bands(scene, node).label_map)
    composite_nodes(scene)[0].SetLabelOpacity(0.5)
    for view in slice_nodes(scene):
        view.SetDimensions(*SIZE, 1)
        fit(view, image)
        view.JumpSliceByOffsetting(8, -5, 3)
        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLScene(scene)
        logic.SetSliceNode(view)
        for composite in composite_nodes(scene):
            composite.SetLabelOpacity(0.5)
        connection = logic.GetImageDataConnection()
        connection.GetProducer().Update()
        output = connection.GetProducer().GetOutput()
        rgba = numpy_support.vtk_to_numpy(output.GetPointData().GetScalars())
        rgba = rgba.reshape(SIZE[1], SIZE[0], 4)[::-1]
        reference = rgba[..., :3] * (rgba[..., 3:] / 255)
        picture = slice_picture(scene, view.GetOrientation().lower(), (8, -5, 3), SIZE)
        assert picture.any()
        assert np.abs(picture - reference).max() <= 1


def test_a_picture_leaves_the_scene_as_it_is(scene):
    image = add_image(scene, block(HOT), GRIDS["plain"], "image")
    show(scene, image)
    nodes = [scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes())]
    placed = [view.GetSliceToRAS().GetElement(2, 3) for view in slice_nodes(scene)]
    slice_picture(scene, "axial", (8, -5, 9), SIZE)
    assert [scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes())] == nodes
    assert [view.GetSliceToRAS().GetElement(2, 3) for view in slice_nodes(scene)] == placed


def levels(scene, signed: bool) -> tuple[object, NDArray[np.uint8], NDArray[np.uint8]]:
    """A map whose slices k have strengths from -1 to 1, over an image of greys."""
    strengths = np.linspace(-1, 1, 21)
    values = np.broadcast_to(strengths, (8, 8, 21)).astype(np.float32)
    if not signed:
        values = np.maximum(values, 0)
    grey = np.broadcast_to(np.arange(8)[:, None, None], (8, 8, 21)).astype(np.float32)
    image = add_image(scene, grey, np.eye(4), "image")
    node = add_attribution(scene, attribution(values, np.eye(4), signed=signed), image)

    def stack() -> NDArray[np.uint8]:
        return np.stack([slice_picture(scene, "axial", (4, 4, k), (16, 16)) for k in range(21)])

    show(scene, image)
    plain = stack()
    show(scene, image, node, opacity=1.0)
    return node, plain, stack()


@pytest.mark.parametrize("signed", [True, False])
def test_zeros_and_weak_voxels_leave_the_anatomy_as_it_is(scene, signed: bool):
    _, plain, heat = levels(scene, signed)
    strengths = np.round(np.linspace(-1, 1, 21), 3)
    for strength, before, after in zip(strengths, plain, heat, strict=True):
        if abs(strength) <= 0.1 or (strength < 0 and not signed):
            np.testing.assert_array_equal(after, before)
        else:
            # No haze at the edge: what is drawn is drawn in full.
            expected = (
                255
                * color_table(signed)[
                    round((strength + 1) / 2 * 511) if signed else round(strength * 511)
                ]
            )
            middle = after[8, 8].astype(float)
            assert np.abs(middle - expected).max() <= 8, strength


def test_evidence_against_the_class_is_blue_and_for_it_is_not(scene):
    _, _, heat = levels(scene, signed=True)
    red, blue = heat[:, 8, 8, 0].astype(int), heat[:, 8, 8, 2].astype(int)
    assert (blue[:8] > red[:8] + 40).all()
    assert (red[13:] > blue[13:] + 40).all()


def test_the_threshold_hides_what_is_weaker(scene):
    node, plain, _ = levels(scene, signed=True)
    set_threshold(node, 0.55)
    for number, strength in enumerate(np.round(np.linspace(-1, 1, 21), 3)):
        after = slice_picture(scene, "axial", (4, 4, number), (16, 16))
        changed = (after != plain[number]).any()
        assert changed == (abs(strength) > 0.55), strength


def test_opacity_blends_heat_and_anatomy(scene):
    _, plain, heat = levels(scene, signed=True)
    set_opacity(scene, 0.25)
    mixed = slice_picture(scene, "axial", (4, 4, 20), (16, 16))
    expected = 0.75 * plain[20].astype(float) + 0.25 * heat[20]
    assert np.abs(mixed - expected).max() <= 2


@pytest.mark.parametrize("value", [0.0, 0.7, -0.3])
def test_a_map_without_differences_is_not_drawn_whatever_the_threshold(scene, value: float):
    image = add_image(scene, block(HOT, 5), GRIDS["plain"], "image")
    node = add_attribution(
        scene, attribution(np.full(SHAPE, value, np.float32), GRIDS["plain"]), image
    )
    show(scene, image)
    plain = slice_picture(scene, "axial", (8, -5, 3), SIZE)
    show(scene, image, node, opacity=1.0)
    for share in (0.15, 0.0):
        set_threshold(node, share)
        np.testing.assert_array_equal(slice_picture(scene, "axial", (8, -5, 3), SIZE), plain)


def test_ground_truth_is_outlined_in_its_own_colour_and_its_inside_stays_visible(scene):
    image = add_image(scene, np.zeros(SHAPE), GRIDS["oblique"], "image")
    mask = block((7, 7, 6), radius=4) > 0
    truth = add_segmentation(
        scene, mask[None], ["tumour"], [(0.0, 1.0, 0.0)], GRIDS["oblique"], "truth"
    )
    show(scene, image)
    place = place_of(GRIDS["oblique"], (7, 7, 6))
    outline(truth)
    green = near(slice_picture(scene, "axial", place, SIZE), np.array([0, 255, 0]))
    middle = np.rint(centre(green)).astype(int)
    assert green.any()
    assert not green[tuple(middle)]
    outline(truth, on=False)
    assert slice_picture(scene, "axial", place, SIZE)[tuple(middle)][1] > 60
    truth.GetDisplayNode().SetVisibility(False)
    assert not slice_picture(scene, "axial", place, SIZE).any()


def test_a_wrong_orientation_and_an_empty_view_are_said(scene):
    with error_with(ErrorCode.SELECTION):
        slice_picture(scene, "axial", (0, 0, 0))
    show(scene, add_image(scene, block(HOT), GRIDS["plain"], "image"))
    with error_with(ErrorCode.NAME_UNKNOWN, "'transversal'", "axial"):
        slice_picture(scene, "transversal", (0, 0, 0))
