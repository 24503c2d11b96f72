"""The 3D view: volume rendering, surfaces, and the side on which they are seen."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from SaliencyExplain.bands import BANDS
from SaliencyExplain.errors import ErrorCode
from SaliencyExplain.scene.attributions import add_attribution, set_threshold
from SaliencyExplain.scene.band_segments import add_bands
from SaliencyExplain.scene.rendering import show_surfaces, show_volume_rendering
from SaliencyExplain.scene.segmentations import add_segmentation
from SaliencyExplain.scene.slice_pictures import picture_3d
from SaliencyExplain.scene.volume_nodes import add_image
from Testing.conftest import PROJECT
from Testing.expected_errors import error_with
from Testing.scene.conftest import attribution, turned

pytestmark = pytest.mark.usefixtures("opengl")

SHAPE = (32, 30, 28)
GRID = np.eye(4)
GRID[:3, :3] = turned(10, -8, 15) @ np.diag([-2.0, 2.0, 2.5])
GRID[:3, 3] = -GRID[:3, :3] @ (np.array(SHAPE) / 2)
SIZE = (160, 160)


def ball(ras: tuple[float, float, float], radius: float) -> NDArray[np.bool_]:
    places = np.einsum("ab,bijk->aijk", GRID[:3, :3], np.indices(SHAPE))
    places += GRID[:3, 3, None, None, None]
    return np.linalg.norm(places - np.reshape(ras, (3, 1, 1, 1)), axis=0) <= radius


def of_hue(picture: NDArray[np.uint8], color: tuple[float, float, float]) -> NDArray[np.bool_]:
    """Pixels of a colour in any light."""
    pixels = picture.astype(float)
    wanted = np.array(color) / np.linalg.norm(color)
    length = np.linalg.norm(pixels, axis=-1)
    return (length > 40) & (pixels @ wanted > 0.985 * length)


@pytest.fixture
def image(scene):
    return add_image(scene, np.zeros(SHAPE), GRID, "image")


def map_of(values: NDArray[np.floating]):
    return attribution(values.astype(np.float32), GRID)


def test_surfaces_have_their_colours_and_the_patients_right_is_on_the_left(scene, image):
    right, left = ball((20, 0, 0), 7), ball((-20, 0, 0), 7)
    node = add_segmentation(
        scene, np.stack([right, left]), ["r", "l"], [(0, 1, 0), (1, 0, 0)], GRID, "truth"
    )
    assert not picture_3d(scene, SIZE).any()
    show_surfaces(node, True)
    picture = picture_3d(scene, SIZE)
    green, red = of_hue(picture, (0, 1, 0)), of_hue(picture, (1, 0, 0))
    assert min(green.sum(), red.sum()) > 200
    assert np.argwhere(green)[:, 1].mean() < 60
    assert np.argwhere(red)[:, 1].mean() > 100
    show_surfaces(node, False)
    assert not picture_3d(scene, SIZE).any()


def test_superior_is_on_top_and_anterior_in_front(scene, image):
    high, low = ball((0, 0, 18), 6), ball((0, 0, -18), 6)
    front, back = ball((0, 18, 0), 5), ball((0, -18, 0), 5)
    colors = [(0, 1, 0), (1, 0, 0), (0, 0, 1), (1, 1, 0)]
    names = ["high", "low", "front", "back"]
    masks = np.stack([high, low, front, back])
    show_surfaces(add_segmentation(scene, masks, names, colors, GRID, "truth"), True)
    picture = picture_3d(scene, SIZE)
    rows = [np.argwhere(of_hue(picture, color))[:, 0].mean() for color in colors[:2]]
    assert rows[0] < 70
    assert rows[1] > 90
    blue, yellow = of_hue(picture, colors[2]).sum(), of_hue(picture, colors[3]).sum()
    assert blue > yellow > 0


def test_the_narrowest_band_is_seen_where_the_tumour_is(scene, image):
    strength = np.zeros(SHAPE)
    for radius in (12, 10, 8, 6, 4):
        strength += ball((20, 0, 5), radius)
    node = add_attribution(
        scene, map_of(strength + 1e-3 * np.random.default_rng(0).random(SHAPE)), image
    )
    bands = add_bands(scene, node)
    show_surfaces(bands.segmentation, True)
    display = bands.segmentation.GetDisplayNode()
    for band in BANDS[1:]:
        display.SetSegmentVisibility(f"Segment_{band.label}", False)
    truth = add_segmentation(scene, [ball((-20, 0, 0), 4)], ["x"], [(0, 0, 1)], GRID, "truth")
    show_surfaces(truth, True)
    picture = picture_3d(scene, SIZE)
    seen = of_hue(picture, BANDS[0].color)
    assert seen.sum() > 50
    assert np.argwhere(seen)[:, 1].mean() < 70
    assert not seen[:, 80:].any()


def test_translucent_surfaces_do_not_hide_what_is_inside(scene, image):
    node = add_segmentation(
        scene, np.stack([ball((0, 0, 0), 6), ball((0, 0, 0), 18)]), ["in", "out"],
        [(0, 1, 0), (1, 0, 0)], GRID, "truth",
    )  # fmt: skip
    show_surfaces(node, True)
    assert not (picture_3d(scene, SIZE)[80, 80, 1] > 60).any()
    node.GetDisplayNode().SetSegmentOpacity3D("Segment_2", 0.3)
    assert picture_3d(scene, SIZE)[80, 80, 1] > 60


def test_volume_rendering_shows_heat_above_the_threshold_in_its_place(scene, image):
    values = 1.0 * ball((18, 0, 0), 7) - 1.0 * ball((-18, 0, 0), 7) + 0.5 * ball((0, 0, 15), 6)
    node = add_attribution(scene, map_of(values), image)
    show_volume_rendering(node, True)
    picture = picture_3d(scene, SIZE).astype(int)
    warm = picture[..., 0] > picture[..., 2] + 40
    cold = picture[..., 2] > picture[..., 0] + 40
    assert np.argwhere(warm)[:, 1].mean() < 80 < np.argwhere(cold)[:, 1].mean()
    top, middle = slice(72), slice(72, 90)
    assert warm[top, middle].any()
    set_threshold(node, 0.7)
    show_volume_rendering(node, True)
    picture = picture_3d(scene, SIZE).astype(int)
    assert not (picture[top, middle] > 20).any()
    assert (picture[..., 0] > picture[..., 2] + 40).any()
    show_volume_rendering(node, False)
    assert not picture_3d(scene, SIZE).any()


def test_a_map_of_zeros_or_without_differences_is_no_cloud(scene, image):
    for number, value in enumerate((0.0, 0.4)):
        node = add_attribution(scene, map_of(np.full(SHAPE, value)), image)
        show_volume_rendering(node, True)
        assert not picture_3d(scene, SIZE).any(), number


def test_a_rendering_that_is_switched_twice_has_one_display(scene, image):
    node = add_attribution(scene, map_of(ball((0, 0, 0), 8)), image)
    show_volume_rendering(node, False)
    assert node.GetNumberOfDisplayNodes() == 1
    for on in (True, False, True):
        show_volume_rendering(node, on)
    assert node.GetNumberOfDisplayNodes() == 2
    with error_with(ErrorCode.SCENE_NODE, "'image'"):
        show_volume_rendering(image, True)


@pytest.mark.slow
def test_without_opengl_a_3d_picture_is_refused_and_python_lives():
    code = (
        "from SaliencyExplain.errors import OutputError\n"
        "from SaliencyExplain.scene.nodes import new_scene\n"
        "from SaliencyExplain.scene.slice_pictures import picture_3d\n"
        "try:\n"
        "    picture_3d(new_scene(), (50, 50))\n"
        "except OutputError as error:\n"
        "    print(error)\n"
    )
    # No display, and no vendor of EGL: as on a machine without Mesa.
    bare = {key: value for key, value in os.environ.items() if key != "DISPLAY"}
    bare["__EGL_VENDOR_LIBRARY_FILENAMES"] = os.devnull
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, env=bare
    )
    assert done.returncode == 0, done.stderr[-500:]
    assert done.stdout.startswith("OpenGL")
