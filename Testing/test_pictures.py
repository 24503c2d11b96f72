"""Pictures show the right place, the right way round, and say what they cannot show."""

from __future__ import annotations

import io
import math
from concurrent.futures import ThreadPoolExecutor

import nibabel
import numpy as np
import pytest
from nibabel import orientations
from PIL import Image
from scipy import ndimage

from SaliencyExplain.colormaps import THRESHOLD, color_table, opacity_table
from SaliencyExplain.errors import ErrorCode, OutputError
from SaliencyExplain.peak import find_peak
from SaliencyExplain.pictures import draw_planes, to_jpeg
from SaliencyExplain.pictures.outlines import outline_colors, outline_edges
from SaliencyExplain.pictures.planes import view_through
from SaliencyExplain.pictures.reading_aids import (
    grey_window,
    heat_window,
    peak_and_segments,
)
from Testing.expected_errors import error_with

CYAN = (0.0, 1.0, 1.0)
PLAIN = np.diag([-1.0, -1.0, 1.0, 1.0])


def draw(image, values, affine, **options) -> np.ndarray:
    """The picture's pixels, (rows, columns, 3)."""
    buffer = io.BytesIO()
    options = {"title": "case · occlusion", "signed": False, **options}
    draw_planes(buffer, image, values, affine, **options)
    return np.asarray(Image.open(buffer)).astype(int)


def white_anatomy(shape: tuple[int, ...]) -> np.ndarray:
    """Anatomy that fills its panels with white, so that they are found in the picture."""
    image = np.ones(shape, dtype=np.float32)
    image[(0,) * len(shape)] = 0
    return image


def panels_of(pixels: np.ndarray) -> list[tuple[slice, slice]]:
    """The boxes of the white panels, from the left."""
    labels, _ = ndimage.label(pixels.min(axis=2) > 250)
    boxes = ndimage.find_objects(labels)
    large = [box for box in boxes if min(side.stop - side.start for side in box) > 60]
    return sorted(large, key=lambda box: box[1].start)


def centre_of(found: np.ndarray) -> tuple[float, float]:
    """Centre of the found pixels, from the left and from the top, as shares of the panel."""
    rows, columns = np.nonzero(found)
    assert len(rows) > 0
    return (columns.mean() + 0.5) / found.shape[1], (rows.mean() + 0.5) / found.shape[0]


def yellow(pixels: np.ndarray) -> np.ndarray:
    return (pixels[..., 0] > 200) & (pixels[..., 2] < 0.6 * pixels[..., 0])


def turned(values: np.ndarray, affine: np.ndarray, axes: str) -> tuple[np.ndarray, np.ndarray]:
    """The same volume with its axes swapped and flipped, such as to ``PIR``."""
    turn = orientations.ornt_transform(
        orientations.io_orientation(affine), orientations.axcodes2ornt(axes)
    )
    back = orientations.inv_ornt_aff(turn, values.shape)
    return np.ascontiguousarray(orientations.apply_orientation(values, turn)), affine @ back


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LAS", "PIR", "SRP"])
def test_a_voxel_at_a_known_place_of_the_body_is_drawn_there(axes):
    """A voxel to the right, in front and high up, on anisotropic grids of any axis order."""
    spacing, shape = np.array([2.0, 3.0, 5.0]), np.array([40, 36, 30])
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (-39, -50, -70)
    right_front_top = np.array([30, 25, 24])  # voxels towards R, A, S
    values = np.zeros(shape, dtype=np.float32)
    values[tuple(right_front_top)] = 1
    image, _ = turned(white_anatomy(tuple(shape)), affine, axes)
    values, affine = turned(values, affine, axes)

    pixels = draw(image, values, affine)
    axial, coronal, sagittal = (pixels[box] for box in panels_of(pixels))
    share = 1 - (right_front_top + 0.5) / shape  # from the R, A and S edge
    for panel, across, down in ((axial, 0, 1), (coronal, 0, 2), (sagittal, 1, 2)):
        place = centre_of(yellow(panel))
        # Two pixels: the block is drawn over whole pixels only.
        assert place == pytest.approx((share[across], share[down]), abs=2 / min(panel.shape[:2]))
        proportions = shape[across] * spacing[across] / (shape[down] * spacing[down])
        assert panel.shape[1] / panel.shape[0] == pytest.approx(proportions, abs=0.03)


def test_planes_through_a_place_are_named_and_lettered():
    affine = np.diag([-1.0, -1.0, 3.0, 1.0])
    affine[:3, 3] = (60, 50, -30)
    box = (slice(0, 100), slice(0, 90), slice(0, 20))
    view = view_through((70, 20, 12), box, affine)
    assert [(plane.name, plane.letters, plane.position) for plane in view.planes] == [
        ("axial", ("R", "L", "A", "P"), "S 6.0 mm"),
        ("coronal", ("R", "L", "S", "I"), "A 30.0 mm"),
        ("sagittal", ("A", "P", "S", "I"), "L 10.0 mm"),
    ]
    assert view.place == "L 10.0 mm, A 30.0 mm, S 6.0 mm"
    assert view.oblique_degrees == pytest.approx(0)


def test_planes_of_a_part_of_the_grid_lie_at_the_same_place():
    affine = np.diag([-1.0, 2.0, 3.0, 1.0])
    values = np.random.default_rng(0).random((30, 28, 20))
    whole = view_through((12, 9, 7), (slice(0, 30), slice(0, 28), slice(0, 20)), affine)
    part = view_through((12, 9, 7), (slice(5, 25), slice(3, 28), slice(2, 18)), affine)
    assert part.place == whole.place
    for plane, complete in zip(part.planes, whole.planes, strict=True):
        assert plane.position == complete.position
        cut, around = plane.cut(values), complete.cut(values)
        column = int(plane.cross_mm[0] / plane.size_mm[0] * cut.shape[1])
        row = int(plane.cross_mm[1] / plane.size_mm[1] * cut.shape[0])
        assert cut[row, column] == values[12, 9, 7]
        assert cut.size < around.size


def test_oblique_grids_are_drawn_along_their_nearest_axes_and_say_so():
    angle = math.radians(20)
    affine = np.eye(4)
    affine[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    view = view_through((5, 6, 7), (slice(0, 10),) * 3, affine @ np.diag([-1.0, -1.0, 2.0, 1.0]))
    assert view.oblique_degrees == pytest.approx(20)
    assert [plane.name for plane in view.planes] == ["axial", "coronal", "sagittal"]


def test_flipped_copy_has_the_same_picture(shared_data):
    folder = shared_data / "soft-tissue-sarcoma-nifti" / "STS_025"
    volume, mask = (nibabel.load(folder / f"MR_T1_{kind}.nii.gz") for kind in ("image", "mask"))
    image, tumour = volume.get_fdata(dtype=np.float32), np.asarray(mask.dataobj) > 0
    values = ndimage.gaussian_filter(tumour.astype(np.float32), (8, 8, 3)).round(2)
    pictures = []
    for axes in ("LPS", "RAS", "IPL"):
        arrays = [turned(array, volume.affine, axes) for array in (image, values, tumour)]
        (moved, affine), (heat, _), (outline, _) = arrays
        pictures.append(draw(moved, heat, affine, segments=[("tumour", CYAN, outline)]))
    assert np.array_equal(pictures[0], pictures[1])
    assert np.array_equal(pictures[0], pictures[2])


def test_greys_are_those_of_the_flipped_copy():
    image = np.random.default_rng(0).gamma(2.0, 100.0, (90, 81, 70))  # more than are sampled
    assert grey_window(image) == grey_window(image[::-1, :, ::-1])


def test_plain_picture_is_drawn_as_stored():
    """Third column, eighth row of a photograph: left, near the bottom; no letters invented."""
    values = np.zeros((20, 10), dtype=np.float32)
    values[2, 7] = 1
    pixels = draw(white_anatomy((20, 10)), values, PLAIN)
    (box,) = panels_of(pixels)
    assert centre_of(yellow(pixels[box])) == pytest.approx((2.5 / 20, 7.5 / 10), abs=0.01)
    view = view_through((2, 7), (slice(0, 20), slice(0, 10)), PLAIN)
    assert view.planes[0].letters is None
    assert view.place == "column 3, row 8"
    # Nothing is written over the picture: beside the planted pixels and the first voxel,
    # which is black, all is white.
    colored = np.abs(pixels[box] - 255).max(axis=2) > 40
    assert colored.mean() < 2.6 / 200


def test_slice_of_a_body_has_letters():
    affine = np.diag([1.0, 1.0, 4.0, 1.0])  # columns run to the right, rows to the front
    affine[:3, 3] = (-40, -30, 55)
    view = view_through((5, 6), (slice(0, 20), slice(0, 10)), affine)
    assert [plane.letters for plane in view.planes] == [("R", "L", "A", "P")]
    assert view.planes[0].name == "axial"
    image = white_anatomy((20, 10))
    values = np.zeros((20, 10), dtype=np.float32)
    values[17, 1] = 1
    pixels = draw(image, values, affine)
    (box,) = panels_of(pixels)
    assert centre_of(yellow(pixels[box])) == pytest.approx((2.5 / 20, 8.5 / 10), abs=0.01)


def test_thin_slab_is_one_plane_and_names_the_others():
    """Three slices of a CT: beside its axial plane the others would be lines of two pixels."""
    view = view_through((50, 60, 1), (slice(0, 200), slice(0, 190), slice(0, 3)), np.eye(4))
    assert [plane.name for plane in view.planes] == ["axial"]
    assert view.left_out == ("coronal", "sagittal")


def test_volume_of_one_slice_is_one_plane():
    view = view_through((5, 6, 0), (slice(0, 20), slice(0, 10), slice(0, 1)), np.eye(4))
    assert [plane.name for plane in view.planes] == ["axial"]
    assert view.left_out == ()
    with error_with(ErrorCode.IMAGE_AXES, "20×1×1"):
        view_through((0, 0, 0), (slice(0, 20), slice(0, 1), slice(0, 1)), np.eye(4))


def test_outline_runs_along_the_voxels_of_the_segment():
    mask = np.zeros((40, 36, 30), dtype=bool)
    mask[10:20, 18:30, 12:18] = True
    values = np.zeros(mask.shape, dtype=np.float32)
    values[15, 20, 14] = 1
    pixels = draw(
        white_anatomy(mask.shape), values, np.diag([2.0, 2.0, 4.0, 1.0]),
        segments=[("tumour", CYAN, mask)],
    )  # fmt: skip
    # Patient's right is left: columns 20 to 30 of 40 from the left, rows 6 to 18 of 36.
    axial = pixels[panels_of(pixels)[0]]
    outline = (axial[..., 0] < 100) & (axial[..., 1] > 200) & (axial[..., 2] > 200)
    rows, columns = np.nonzero(outline)
    pixel = axial.shape[1] / 40
    found = (columns.min(), columns.max() + 1, rows.min(), rows.max() + 1)
    assert found == pytest.approx(np.array([20, 30, 6, 18]) * pixel, abs=2)
    # The heat inside the outline is not covered, nor is the anatomy.
    inside = outline[int(7 * pixel) : int(17 * pixel), int(21 * pixel) : int(29 * pixel)]
    assert not inside.any()


def test_outline_is_as_long_as_the_border_of_the_voxels():
    mask = np.random.default_rng(0).random((17, 13)) < 0.5
    width, height = 26.0, 51.0
    edges = outline_edges(mask, (width, height))
    length = sum(np.linalg.norm(end - start) for start, end in edges)
    padded = np.pad(mask, 1).astype(int)
    across = np.abs(np.diff(padded, axis=0)).sum() * width / 13
    down = np.abs(np.diff(padded, axis=1)).sum() * height / 17
    assert length == pytest.approx(across + down)


def test_outline_colors_stand_out_from_heat_and_from_each_other():
    red, yellow_, green, grey = (1.0, 0.1, 0.0), (1.0, 0.9, 0.1), (0.1, 0.9, 0.2), (0.5, 0.5, 0.5)
    chosen = outline_colors([red, green, yellow_, grey, green], signed=True)
    assert chosen[1] == green
    assert len(set(chosen)) == 5
    for color in chosen:
        apart = np.linalg.norm(color_table(True) - np.array(color), axis=1)
        assert apart.min() > 0.4


def test_values_near_zero_are_not_drawn():
    """Up to the threshold the anatomy shows unchanged, beyond it the colour is unmistakable."""
    shape = (60, 50)
    values = np.full(shape, 0.9 * THRESHOLD, dtype=np.float32)
    values[20:40, 20:30] = 1
    values[:, 40:] = -1
    pixels = draw(white_anatomy(shape), values, PLAIN)
    box = panels_of(pixels)[0]
    unsigned = pixels[box]
    assert (yellow(unsigned).sum() / yellow(unsigned).size) == pytest.approx(200 / 3000, rel=0.1)
    assert (unsigned[-20:].min(axis=2) > 250).mean() > 0.99  # negative, yet the map has no sign
    signed = draw(white_anatomy(shape), values, PLAIN, signed=True)
    against = signed[box][-20:]
    assert (against[..., 2] > against[..., 0] + 20).mean() > 0.9


def test_color_tables_are_symmetric_about_zero_and_clear_there():
    for signed in (False, True):
        colors, opacity = color_table(signed), opacity_table(signed)
        assert colors.min() >= 0
        assert colors.max() <= 1
        values = np.linspace(-1 if signed else 0, 1, len(opacity))
        assert np.array_equal(opacity == 0, np.abs(values) < THRESHOLD)
        lightness = colors @ (0.2126, 0.7152, 0.0722)
        assert (np.diff(lightness[values >= THRESHOLD]) > 0).all()
        assert (np.diff(lightness[values <= -THRESHOLD]) < 0).all()
    assert np.allclose(opacity_table(True), opacity_table(True)[::-1])


def test_window_is_not_spoilt_by_single_voxels():
    values = np.random.default_rng(0).random((50, 50, 20))
    values[3, 4, 5], values[6, 7, 8] = 1000, -1000
    window = heat_window(values, signed=True)
    assert window.end <= 1
    assert window.clipped_above
    assert window.clipped_below
    assert not heat_window(values, signed=False).clipped_below
    assert heat_window(np.array([[0.0, 2.0], [1.0, 0.5]]), signed=False).end == 2


@pytest.mark.parametrize(
    ("values", "signed", "remark"),
    [
        (np.zeros((6, 6, 6)), False, "zero everywhere"),
        (np.full((6, 6, 6), 0.3), True, "constant (0.3 everywhere)"),
        (-np.arange(216.0).reshape(6, 6, 6), False, "no voxel speaks for the class"),
        (-np.arange(216.0).reshape(6, 6, 6), True, "strongest voxel against"),
        (np.arange(216.0).reshape(6, 6, 6), True, ""),
    ],
)
def test_maps_that_point_nowhere_are_called_so(values, signed, remark):
    peak = find_peak(values, signed, np.eye(4))
    assert remark in peak.remark
    assert bool(peak.remark) == bool(remark)
    pixels = draw(np.random.default_rng(0).random((6, 6, 6)), values, np.eye(4), signed=signed)
    assert pixels.shape[1] == 1100


def test_map_without_heat_is_drawn_without_any_color():
    image = np.random.default_rng(0).random((20, 20, 20))
    pixels = draw(image, np.full((20, 20, 20), 0.5), np.eye(4))
    assert (pixels.max(axis=2) - pixels.min(axis=2)).max() < 20


def test_peak_of_a_plateau_is_its_middle():
    values = np.zeros((20, 20, 20))
    values[4:9, 6:11, 12:15] = 3
    assert find_peak(values, False, np.eye(4)).index == (6, 8, 13)


def test_peak_is_related_to_the_segments_in_millimetres():
    tumour = np.zeros((20, 20, 20), dtype=bool)
    tumour[4:8, 4:8, 4:8] = True
    segments = [("tumour", CYAN, tumour), ("empty", CYAN, tumour & False)]
    affine = np.diag([1.0, 1.0, 5.0, 1.0])
    values = np.zeros((20, 20, 20))
    values[5, 5, 5] = 1
    assert peak_and_segments(find_peak(values, False, affine), segments, affine) == "in tumour"
    values[5, 5, 10] = 2
    assert peak_and_segments(find_peak(values, False, affine), segments, affine) == (
        "15.0 mm from tumour"
    )


def test_air_is_cut_off_but_nothing_that_is_drawn():
    """A small body in much air: its panel is larger without heat in the air than with it."""
    shape = (120, 110, 60)
    image = np.zeros(shape, dtype=np.float32)
    image[50:80, 40:70, 20:40] = 1
    image[60, 60, 30] = 1.5
    values = np.zeros(shape, dtype=np.float32)
    values[60:64, 50:54, 28:32] = 1
    close = draw(image, values, np.eye(4))
    values[2:6, 2:6, 2:6] = 0.6
    wide = draw(image, values, np.eye(4))
    grey_close, grey_wide = ((pixels.min(axis=2) > 120).sum() for pixels in (close, wide))
    assert grey_close > 2 * grey_wide
    axial = wide[: wide.shape[0] * 2 // 3]
    assert ((axial[..., 0] - axial[..., 2]) > 60).sum() > 0


@pytest.mark.slow
def test_same_input_gives_the_same_bytes_also_from_several_threads(tmp_path):
    image = np.random.default_rng(0).random((30, 28, 20), dtype=np.float32)
    values = ndimage.gaussian_filter(image - 0.5, 2)
    mask = values > 0.02

    def write(number: int) -> bytes:
        path = tmp_path / f"{number}.png"
        draw_planes(
            path, image, values, np.eye(4), segments=[("tumour", CYAN, mask)],
            title=f"case {'$x_1$'} · smoothgrad", signed=True, captions=["P(glioma) = 0.93"],
        )  # fmt: skip
        return path.read_bytes()

    with ThreadPoolExecutor(4) as pool:
        pictures = list(pool.map(write, range(8)))
    assert len(set(pictures)) == 1
    with Image.open(io.BytesIO(pictures[0])) as picture:
        picture.load()
        assert picture.info == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{n}.png" for n in range(8))


@pytest.mark.parametrize("width", [500, 900, 1600])
def test_picture_is_as_wide_as_asked_for(width):
    image = np.random.default_rng(0).random((30, 28, 20))
    small = draw(image, image, np.eye(4), width=width)
    standard = draw(image, image, np.eye(4))
    assert small.shape[1] == width
    assert small.shape[0] / width == pytest.approx(standard.shape[0] / 1100, abs=0.01)


@pytest.mark.slow
def test_long_names_and_many_segments_stay_within_the_picture():
    image = np.random.default_rng(0).random((30, 28, 20))
    segments = [(f"segment {n} " + "very " * (40 * (n == 3)), CYAN, image > 0.5) for n in range(14)]
    pixels = draw(
        image, image, np.eye(4), segments=segments, title="long " * 100, captions=["c" * 500]
    )
    edge = pixels[:, -8:]
    assert (edge.max(axis=2) < 40).all()


@pytest.mark.filterwarnings("error")
def test_names_in_letters_that_the_font_lacks_are_drawn_without_a_complaint():
    image = np.random.default_rng(0).random((30, 28, 20))
    segments = [("腫瘍", CYAN, image > 0.5)]
    pixels = draw(
        image, image, np.eye(4), segments=segments, title="病例 1\noder $x", captions=["Ödem"]
    )
    plain = draw(
        image, image, np.eye(4), segments=segments, title="□□ 1 oder $x", captions=["Ödem"]
    )
    assert np.array_equal(pixels, plain)


def test_jpeg_is_a_smaller_copy():
    buffer = io.BytesIO()
    image = np.random.default_rng(0).random((30, 28, 20))
    draw_planes(buffer, image, image, np.eye(4), title="case", signed=False)
    with Image.open(buffer) as original:
        expected = np.asarray(original.resize((550, round(original.height / 2)))).astype(int)
    jpeg = to_jpeg(buffer.getvalue(), 550)
    with Image.open(io.BytesIO(jpeg)) as small:
        assert small.format == "JPEG"
        assert small.getexif() == {}
        assert small.size == (expected.shape[1], expected.shape[0])
        assert np.abs(np.asarray(small).astype(int) - expected).mean() < 8
    with Image.open(io.BytesIO(to_jpeg(buffer.getvalue(), 5000))) as kept:
        assert kept.width == 1100


def test_values_that_are_not_finite_are_refused():
    image = np.ones((6, 6, 6))
    broken = image.copy()
    broken[1, 1, 1] = np.nan
    with error_with(ErrorCode.MAP_NOT_FINITE):
        draw(image, broken, np.eye(4))
    with error_with(ErrorCode.MAP_NOT_FINITE):
        draw(broken, image, np.eye(4))


def test_other_shapes_are_refused():
    with error_with(ErrorCode.GRID_MISMATCH, "'tumour'"):
        draw(
            np.ones((6, 6, 6)), np.ones((6, 6, 6)), np.eye(4),
            segments=[("tumour", CYAN, np.ones((5, 6, 6), dtype=bool))],
        )  # fmt: skip


def test_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    image = np.random.default_rng(0).random((6, 6, 6))
    with pytest.raises(OutputError):
        draw_planes(
            tmp_path / "file" / "x.png", image, image, np.eye(4), title="case", signed=False
        )


@pytest.mark.parametrize(
    ("affine", "words"),
    [
        (PLAIN, "6.0 px from lesion"),
        (np.diag([-0.5, -0.5, 1.0, 1.0]), "3.0 mm from lesion"),
        (np.diag([1.0, 1.0, 1.0, 1.0]), "6.0 mm from lesion"),
    ],
)
def test_distances_in_a_picture_without_a_size_are_pixels(affine, words):
    values = np.zeros((20, 16))
    values[3, 5] = 1
    lesion = np.zeros((20, 16), dtype=bool)
    lesion[9:12, 5] = True
    peak = find_peak(values, False, affine)
    assert peak_and_segments(peak, [("lesion", CYAN, lesion)], affine) == words
