from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.filewriter import write_sequence
from pydicom.uid import ExplicitVRLittleEndian
from scipy.spatial.transform import Rotation
from skimage.measure import points_in_poly

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.reading import to_image
from SaliencyExplain.images.segmentation import read_segmentation
from Testing.comparing import dice
from Testing.expected_errors import error_with

ANGLES = np.linspace(0, 2 * np.pi, 200, endpoint=False)


def ellipsoid_contours(centre, radii, heights, turn):
    """Cuts an ellipsoid into planes across its own third axis; points in RAS millimetres."""
    contours = []
    for height in heights:
        shrink = np.sqrt(max(0.0, 1 - (height / radii[2]) ** 2))
        ring = np.stack(
            [
                radii[0] * shrink * np.cos(ANGLES),
                radii[1] * shrink * np.sin(ANGLES),
                np.full_like(ANGLES, height),
            ],
            axis=1,
        )
        contours.append(ring @ turn.T + centre)
    return contours


def ellipsoid_mask(shape, affine, centre, radii, turn):
    places = np.einsum("ij,jxyz->xyzi", affine[:3, :3], np.indices(shape)) + affine[:3, 3]
    own = (places - centre) @ turn
    return ((own / radii) ** 2).sum(axis=-1) <= 1


# Planes 3 mm apart lie halfway between the slices of the grid here: the worst case.
@pytest.mark.slow
@pytest.mark.parametrize(("contour_mm", "at_least"), [(1.0, 0.97), (2.0, 0.97), (3.0, 0.94)])
@pytest.mark.parametrize("degrees", [(0, 0, 0), (11, -7, 23), (40, 30, 0)])
def test_an_ellipsoid_is_filled_whatever_its_planes_and_the_grid(
    tmp_path, affine, write_rtstruct, degrees, contour_mm, at_least
):
    shape = (64, 50, 22)
    centre = affine[:3] @ (31, 24, 11, 1)
    radii = np.array([16.0, 12.0, 20.0])
    turn = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    heights = np.arange(-19.5, 20, contour_mm)
    contours = ellipsoid_contours(centre, radii, heights, turn)
    order = np.random.default_rng(0).permutation(len(contours))
    path = write_rtstruct(tmp_path / "rs.dcm", {"GTV": [contours[index] for index in order]})
    image = to_image(np.random.default_rng(1).random((1, *shape)), affine, name="image")
    found = read_segmentation(path, image)
    assert found.segments[0].name == "GTV"
    assert found.segments[0].color == (0, 1, 0)
    expected = ellipsoid_mask(shape, affine, centre, radii, turn)
    assert dice(found.segments[0].mask, expected) > at_least


def square(low, high, height):
    corners = np.array([[low, low], [high, low], [high, high], [low, high]], dtype=float)
    return np.column_stack([corners, np.full(4, height)])


@pytest.fixture
def image():
    return to_image(np.random.default_rng(0).random((1, 12, 12, 5)), np.eye(4), name="image")


def test_a_contour_within_another_is_a_hole_and_a_copy_is_none(tmp_path, image, write_rtstruct):
    outer, inner = square(0.5, 9.5, 2.0), square(3.5, 6.5, 2.0)
    path = write_rtstruct(tmp_path / "rs.dcm", {"ring": [outer, inner, outer.copy()]})
    mask = read_segmentation(path, image).segments[0].mask
    expected = np.zeros((12, 12, 5), dtype=bool)
    expected[1:10, 1:10, 2] = True
    expected[4:7, 4:7, 2] = False
    np.testing.assert_array_equal(mask, expected)


def test_any_polygon_is_filled_as_scikit_image_fills_it(tmp_path, write_rtstruct):
    shape = (40, 37, 3)
    image = to_image(np.random.default_rng(0).random((1, *shape)), np.eye(4), name="image")
    random = np.random.default_rng(5)
    for trial in range(10):
        # Self-crossing, reaching beyond the image, with some corners on voxel centres.
        corners = random.uniform(-6, 45, size=(12, 2))
        corners[::4] = np.round(corners[::4])
        points = np.column_stack([corners, np.full(12, 1.0)])
        path = write_rtstruct(tmp_path / f"{trial}.dcm", {"star": [points]})
        mask = read_segmentation(path, image).segments[0].mask
        voxels = np.stack(np.meshgrid(*map(np.arange, shape[:2]), indexing="ij"), axis=-1)
        expected = points_in_poly(voxels.reshape(-1, 2), corners).reshape(shape[:2])
        # scikit-image counts a voxel that is a corner as inside; by even-odd it may be neither.
        differing = {tuple(place) for place in np.argwhere(mask[..., 1] != expected)}
        assert differing <= {tuple(corner) for corner in corners[::4]}
        assert 100 < expected.sum() < 1400
        assert not mask[..., [0, 2]].any()


def test_a_gap_between_two_parts_stays_a_gap(tmp_path, write_rtstruct):
    image = to_image(np.random.default_rng(0).random((1, 12, 12, 20)), np.eye(4), name="image")
    planes = [square(0.5, 5.5, height) for height in (2, 3, 4, 12, 13, 14)]
    mask = (
        read_segmentation(write_rtstruct(tmp_path / "rs.dcm", {"two": planes}), image)
        .segments[0]
        .mask
    )
    assert np.flatnonzero(mask.any(axis=(0, 1))).tolist() == [2, 3, 4, 12, 13, 14]


def test_regions_overlap_and_lines_are_left_out_aloud(tmp_path, image, write_rtstruct):
    path = write_rtstruct(
        tmp_path / "rs.dcm",
        {"a": [square(0.5, 5.5, 2)], "b": [square(3.5, 8.5, 2)], "point": [np.eye(3)[:1]]},
    )
    found = read_segmentation(path, image)
    assert [segment.name for segment in found.segments] == ["a", "b"]
    assert (found.segments[0].mask & found.segments[1].mask).sum() == 4
    (note,) = found.notes
    assert note.endswith(": point")


def test_contours_beside_the_image_and_open_ones_are_refused(tmp_path, image, write_rtstruct):
    path = write_rtstruct(tmp_path / "far.dcm", {"a": [square(100, 110, 2)]})
    with error_with(ErrorCode.NO_OVERLAP, "far.dcm"):
        read_segmentation(path, image)
    path = write_rtstruct(tmp_path / "open.dcm", {"a": [square(1, 5, 2)]}, kind="OPEN_PLANAR")
    with error_with(ErrorCode.FILE_FORMAT, "open.dcm"):
        read_segmentation(path, image)


def test_another_frame_of_reference_is_said_aloud(tmp_path, image, write_rtstruct):
    path = write_rtstruct(tmp_path / "rs.dcm", {"a": [square(0.5, 5.5, 2)]})
    image.meta["frame_of_reference"] = "9.9"
    assert "another DICOM frame of reference" in read_segmentation(path, image).notes[0]
    image.meta["frame_of_reference"] = "1.2.3.5"
    assert read_segmentation(path, image).notes == ()


def one_slice(path, image):
    found = read_segmentation(path, image)
    mask = found.segments[0].mask
    assert np.flatnonzero(mask.any(axis=(0, 1))).tolist() == [2]
    return mask[..., 2], " ".join(found.notes)


def box(columns, rows):
    mask = np.zeros((12, 12), dtype=bool)
    mask[slice(*columns), slice(*rows)] = True
    return mask


OUTER = square(0.5, 10.5, 2.0)
OUTER_MASK = box((1, 11), (1, 11))


def moved(*by):
    return OUTER + np.array(by)


ONCE_AND_CLOSED = np.concatenate([OUTER, OUTER[:1]])


@pytest.mark.parametrize(
    "copies",
    [
        [OUTER, OUTER],
        [OUTER, np.roll(OUTER, 1, axis=0)],
        [OUTER, OUTER[::-1]],
        [OUTER, moved(0.01, 0.01, 0.0)],
        [OUTER, moved(0.0, 0.0, 0.01)],
        [OUTER, 5.5 + (OUTER - 5.5) * [0.99, 0.99, 0] - [0, 0, 3.5]],
        [OUTER, OUTER[::-1], OUTER],
        [OUTER, ONCE_AND_CLOSED],
        [OUTER, np.repeat(OUTER, 2, axis=0)],
    ],
)
def test_a_contour_drawn_twice_counts_once(tmp_path, image, write_rtstruct, copies):
    mask, notes = one_slice(write_rtstruct(tmp_path / "rs.dcm", {"a": copies}), image)
    np.testing.assert_array_equal(mask, OUTER_MASK)
    assert f"{len(copies) - 1} contours are drawn twice" in notes
    mask, _ = one_slice(
        write_rtstruct(tmp_path / "xor.dcm", {"a": copies}, "CLOSEDPLANAR_XOR"), image
    )
    np.testing.assert_array_equal(mask, OUTER_MASK)


def test_an_outline_that_runs_around_twice_is_filled(tmp_path, image, write_rtstruct):
    for turns in ([OUTER, OUTER], [ONCE_AND_CLOSED, OUTER], [ONCE_AND_CLOSED] * 3):
        path = write_rtstruct(tmp_path / "rs.dcm", {"a": [np.concatenate(turns)]})
        np.testing.assert_array_equal(one_slice(path, image)[0], OUTER_MASK)


def test_crossing_contours_are_joined_and_their_hole_stays(tmp_path, image, write_rtstruct):
    left, right = square(0.5, 6.5, 2.0), square(4.5, 10.5, 2.0)
    path = write_rtstruct(tmp_path / "rs.dcm", {"a": [left, right]})
    mask, notes = one_slice(path, image)
    both = box((1, 7), (1, 7)) | box((5, 11), (5, 11))
    np.testing.assert_array_equal(mask, both)
    assert "cross each other in 1 planes" in notes
    path = write_rtstruct(tmp_path / "hole.dcm", {"a": [square(1.5, 3.5, 2.0), left, right]})
    mask, notes = one_slice(path, image)
    np.testing.assert_array_equal(mask, both & ~box((2, 4), (2, 4)))
    assert "1 contours lie within others" in notes
    # A cross of two bars: no corner of one lies within the other.
    flat = OUTER * [1, 0.2, 1] + [0, 4, 0]
    path = write_rtstruct(tmp_path / "cross.dcm", {"a": [flat, flat[:, [1, 0, 2]]]})
    np.testing.assert_array_equal(
        one_slice(path, image)[0], box((1, 11), (5, 7)) | box((5, 7), (1, 11))
    )
    path = write_rtstruct(tmp_path / "xor.dcm", {"a": [left, right]}, "CLOSEDPLANAR_XOR")
    np.testing.assert_array_equal(
        one_slice(path, image)[0], box((1, 7), (1, 7)) ^ box((5, 11), (5, 11))
    )


def test_contours_that_share_a_line_are_neither_holes_of_each_other_nor_lost(
    tmp_path, image, write_rtstruct
):
    left = OUTER * [0.5, 1, 1]
    right = left + np.array([5.01, 0, 0])
    for beside in (right, right - [0.02, 0, 0]):
        path = write_rtstruct(tmp_path / "rs.dcm", {"a": [left, beside]})
        np.testing.assert_array_equal(one_slice(path, image)[0], box((1, 11), (1, 11)))


def test_several_holes_islands_and_keyholes(tmp_path, image, write_rtstruct):
    holes = [square(1.5, 4.5, 2.0), square(5.5, 9.5, 2.0)]
    island = square(6.5, 8.5, 2.0)
    for order in (
        [OUTER, *holes, island],
        [island, *holes, OUTER],
        [holes[0], island, OUTER, holes[1]],
    ):
        path = write_rtstruct(tmp_path / "rs.dcm", {"a": order})
        mask, notes = one_slice(path, image)
        expected = OUTER_MASK & ~box((2, 5), (2, 5)) & ~box((6, 10), (6, 10)) | box((7, 9), (7, 9))
        np.testing.assert_array_equal(mask, expected)
        assert "2 contours lie within others" in notes
    # One outline with a cut of no width to the hole and back (PS3.3 C.8.8.6.3).
    keyhole = np.concatenate([OUTER, OUTER[:1], holes[0][::-1], holes[0][-1:]])
    path = write_rtstruct(tmp_path / "keyhole.dcm", {"a": [keyhole]})
    np.testing.assert_array_equal(one_slice(path, image)[0], OUTER_MASK & ~box((2, 5), (2, 5)))
    path = write_rtstruct(tmp_path / "filled.dcm", {"a": [keyhole, square(2.5, 3.5, 2.0)]})
    np.testing.assert_array_equal(
        one_slice(path, image)[0], OUTER_MASK & ~box((2, 5), (2, 5)) | box((3, 4), (3, 4))
    )


def test_planes_between_the_slices_count_once_aloud(tmp_path, image, write_rtstruct):
    planes = [square(0.5, 5.5, height) for height in (1.5, 2.5)]
    found = read_segmentation(write_rtstruct(tmp_path / "rs.dcm", {"a": planes}), image)
    assert found.segments[0].mask.sum() == 2 * 25
    assert any("0.5 mm off the slices" in note for note in found.notes)
    single = write_rtstruct(tmp_path / "one.dcm", {"a": planes[:1]})
    assert read_segmentation(single, image).segments[0].mask.sum() == 25


def test_what_encloses_no_voxel_is_told_from_what_lies_outside(tmp_path, image, write_rtstruct):
    path = write_rtstruct(tmp_path / "small.dcm", {"a": [square(2.2, 2.8, 2.0)]})
    with pytest.raises(InputError) as error:
        read_segmentation(path, image)
    assert error.value.code is ErrorCode.SEGMENTATION_EMPTY
    assert "small.dcm" in str(error.value)
    path = write_rtstruct(tmp_path / "far.dcm", {"a": [square(20, 30, 2.0)]})
    with pytest.raises(InputError) as error:
        read_segmentation(path, image)
    assert error.value.code is ErrorCode.NO_OVERLAP
    half = write_rtstruct(tmp_path / "half.dcm", {"a": [square(5.5, 20, 2.0)]})
    assert "75.0 % of the contours' points lie outside" in read_segmentation(half, image).notes[0]


def test_points_and_lines_of_a_region_are_counted(tmp_path, image, write_rtstruct):
    line = np.array([[1.0, 1, 2], [5, 5, 2], [9, 9, 2]])
    regions = {"a": [OUTER, OUTER[:1], OUTER[:2], line]}
    mask, notes = one_slice(write_rtstruct(tmp_path / "rs.dcm", regions), image)
    np.testing.assert_array_equal(mask, OUTER_MASK)
    assert "a: 3 contours that are open or enclose no area" in notes


def test_a_contour_that_is_not_flat_is_refused(tmp_path, image, write_rtstruct):
    bent = OUTER + np.array([[0, 0, 0], [0, 0, 2], [0, 0, 0], [0, 0, 2]])
    with pytest.raises(InputError) as error:
        read_segmentation(write_rtstruct(tmp_path / "rs.dcm", {"bent": [bent]}), image)
    assert error.value.code is ErrorCode.IMAGE_GEOMETRY
    assert "bent" in str(error.value)


def test_a_contour_that_overlaps_itself_is_noted(tmp_path, image, write_rtstruct):
    # Runs around the outer square, and on around a part of it in the same direction.
    twice = np.concatenate([OUTER, OUTER[:1], square(0.5, 4.5, 2.0), OUTER[:1]])
    path = write_rtstruct(tmp_path / "rs.dcm", {"a": [twice]})
    assert "overlaps itself" in one_slice(path, image)[1]
    assert one_slice(write_rtstruct(tmp_path / "once.dcm", {"a": [OUTER]}), image)[1] == ""


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_only_planes_across_all_axes_are_oblique(tmp_path, write_rtstruct, order):
    values = np.random.default_rng(0).random((12, 12, 12))
    image = to_image(values[np.newaxis], np.eye(4)[:, [*order, 3]], name="image")
    path = write_rtstruct(tmp_path / "rs.dcm", {"a": [square(0.5, 5.5, 2), square(0.5, 5.5, 3)]})
    found = read_segmentation(path, image)
    assert found.segments[0].mask.sum() == 50
    assert found.notes == ()
    turned = np.eye(4)
    turned[:3, :3] = Rotation.from_euler("xyz", (30, 20, 0), degrees=True).as_matrix()
    image = to_image(values[np.newaxis], turned, name="image")
    assert any("oblique" in note for note in read_segmentation(path, image).notes)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The value for the data element")
def test_a_contour_too_long_for_its_type_is_read(tmp_path, image, write_rtstruct):
    angles = np.linspace(0, 2 * np.pi, 4000, endpoint=False)
    ring = np.stack([5.5 + 4 * np.cos(angles), 5.5 + 4 * np.sin(angles), 0 * angles + 2], axis=1)
    short = read_segmentation(write_rtstruct(tmp_path / "a.dcm", {"a": [ring[::20]]}), image)
    path = write_rtstruct(tmp_path / "rs.dcm", {"a": [ring]})
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path, implicit_vr=False, little_endian=True)
    # pydicom writes it as UN, as the standard wants it.
    assert b"\x06\x30\x50\x00UN" in path.read_bytes()
    found = read_segmentation(path, image)
    np.testing.assert_array_equal(found.segments[0].mask, short.segments[0].mask)


@pytest.mark.slow
def test_a_sequence_of_an_unknown_type_is_read(tmp_path, image, write_rtstruct):
    path = write_rtstruct(tmp_path / "rs.dcm", {"a": [OUTER] * 1200})
    dataset = pydicom.dcmread(path)
    whole = read_segmentation(path, image).segments[0].mask
    content = pydicom.filebase.DicomBytesIO()
    content.is_little_endian, content.is_implicit_VR = True, True
    write_sequence(content, dataset["ROIContourSequence"], ["iso8859"])
    assert len(content.getvalue()) > 1 << 16
    dataset[0x30060039] = pydicom.DataElement(0x30060039, "UN", content.getvalue())
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path, implicit_vr=False, little_endian=True)
    np.testing.assert_array_equal(read_segmentation(path, image).segments[0].mask, whole)
