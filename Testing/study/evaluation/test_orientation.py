"""Pictures of a study are turned as every other picture: right on the left, front and head up."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from SaliencyExplain.evaluation.study.normalised_maps import CELLS, on_common_grid, side_names
from SaliencyExplain.evaluation.study.study_pictures import draw_plane
from SaliencyExplain.evaluation.study.survey import Survey
from SaliencyExplain.pictures.planes import as_seen, view_through

ORIENTATIONS = ["RAS", "LPS", "PIR", "SLA"]


def turned(values, codes):
    """A volume of RAS axes, stored in another order."""
    image = nibabel.Nifti1Image(values, np.eye(4))
    to = nibabel.orientations.axcodes2ornt(codes)
    found = image.as_reoriented(to)
    return np.asarray(found.dataobj), found.affine


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_planes_of_the_common_grid_lie_as_those_of_a_map(codes):
    values, affine = turned(np.random.default_rng(0).random((CELLS,) * 3), codes)
    grid = on_common_grid(values, affine)
    middle = tuple(n // 2 for n in values.shape)
    view = view_through(middle, tuple(slice(0, n) for n in values.shape), affine)
    at = np.linalg.inv(
        nibabel.orientations.inv_ornt_aff(nibabel.io_orientation(affine), values.shape)
    ) @ [*middle, 1]
    cells = [round(float(c)) for c in at[:3]]
    for plane, (name, across, up) in zip(
        view.planes, (("axial", 0, 1), ("coronal", 0, 2), ("sagittal", 1, 2)), strict=True
    ):
        (third,) = {0, 1, 2} - {across, up}
        assert plane.name == name
        seen = as_seen(np.take(grid, cells[third], third), in_patient=True)
        np.testing.assert_allclose(seen, plane.cut(values), rtol=1e-12)


@pytest.mark.parametrize("codes", ["RA", "LP", "LA", "AR"])
def test_slices_of_two_axes_with_a_place_in_the_patient_are_turned_as_well(codes):
    values, affine = turned(np.random.default_rng(1).random((CELLS, CELLS, 1)), codes + "S")
    affine[:3, 3] = [3.0, 7.0, 11.0]
    values = values[..., 0]
    view = view_through((4, 6), tuple(slice(0, n) for n in values.shape), affine)
    seen = as_seen(on_common_grid(values, affine), in_patient=True)
    np.testing.assert_allclose(seen, view.planes[0].cut(values), rtol=1e-12)


def drawn(cell, shape, affine, pair):
    """Rows and columns of the middle of what is drawn of one hot cell, in [0, 1] from the top."""
    values = np.zeros(shape)
    values[cell] = 1
    survey = Survey(sides=side_names(shape, affine))
    survey.cell_mm = np.ones(len(shape))
    metric = Figure(figsize=(4, 4), dpi=100, facecolor="black")
    axes = metric.add_axes((0, 0, 1, 1))
    draw_plane(axes, survey, "x", on_common_grid(values, affine), pair, None)
    letters = [text.get_text() for text in axes.texts]
    for text in list(axes.texts):
        text.remove()
    canvas = FigureCanvasAgg(metric)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].sum(-1).astype(float)
    hot = np.argwhere(pixels[4:-4, 4:-4] > 300).mean(axis=0) + 4
    return hot / 400, letters


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_right_is_on_the_left_front_and_head_are_on_top_and_letters_say_so(codes):
    # Near the patient's right, front and head.
    values = np.zeros((CELLS,) * 3)
    values[16, 15, 17] = 1
    stored, affine = turned(values, codes)
    cell = tuple(int(at) for at in np.argwhere(stored)[0])
    for pair, expected in (
        ((0, 1), "RLAP"),
        ((0, 2), "RLSI"),
        ((1, 2), "APSI"),
    ):
        (row, column), letters = drawn(cell, stored.shape, affine, pair)
        assert "".join(letters) == expected
        world = (16, 15, 17)
        assert column == pytest.approx(1 - (world[pair[0]] + 0.5) / CELLS, abs=0.02)
        assert row == pytest.approx(1 - (world[pair[1]] + 0.5) / CELLS, abs=0.02)


def test_a_plain_picture_lies_as_stored_and_has_no_letters():
    (row, column), letters = drawn((16, 3), (CELLS, CELLS), np.diag([-1.0, -1, 1, 1]), (0, 1))
    assert letters == []
    assert (column, row) == (
        pytest.approx(16.5 / CELLS, abs=0.02),
        pytest.approx(3.5 / CELLS, abs=0.02),
    )
