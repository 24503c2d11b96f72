"""Where the energy goes: shares that are known, on grids of any orientation."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest

from SaliencyExplain.evaluation.study.case_truth import Truth
from SaliencyExplain.evaluation.study.energy_places import (
    AIR,
    BODY,
    CORNERS,
    near,
    place_shares,
    places_of,
    shell_name,
    summarise_places,
)
from SaliencyExplain.evaluation.study.finished_study import read_study
from SaliencyExplain.evaluation.study.normalised_maps import (
    CELLS,
    PATIENT_SIDES,
    PICTURE_SIDES,
    cell_size_mm,
    on_common_grid,
    side_names,
)
from Testing.study.evaluation.conftest import AFFINE, SHAPE, noise


@pytest.fixture
def case(make_study):
    folder = make_study({"P1": {"gradcam": noise(0)}, "P2": {"gradcam": noise(1)}})
    return read_study(folder).cases[0]


def test_energy_is_shared_out_among_segment_body_and_air(case):
    values = np.zeros(SHAPE, np.float32)
    segment, body = np.zeros((2, *SHAPE), bool)
    segment[10:12, 10:12, 10:12] = True
    body[5:20, 5:25, 5:15] = True
    values[10, 10, 10], values[6, 6, 6], values[0, 0, 0] = 6, 3, 1
    values[23, 29, 19] = -50
    truth = Truth({"tumour": segment}, body, noise(0))
    shares = {
        one.place: one for one in place_shares(case, "gradcam", values, places_of(case, truth))
    }
    assert shares["segment tumour"].energy == pytest.approx(0.6)
    assert shares[BODY].energy == pytest.approx(0.3)
    assert shares[AIR].energy == pytest.approx(0.1)
    assert shares[CORNERS].energy == pytest.approx(0.1)
    assert shares["segment tumour"].volume == pytest.approx(8 / np.prod(SHAPE))
    assert sum(shares[name].volume for name in ("segment tumour", BODY, AIR)) == pytest.approx(1)


def test_the_shell_is_in_millimetres(case):
    shell = places_of(case, None)[shell_name()]
    # Voxels of 3 and 4 mm whose middle is at most 10 mm from the image's edge: three of each.
    inner = ~shell
    assert [int(inner.any(axis=axes).sum()) for axes in ((1, 2), (0, 2), (0, 1))] == [
        24 - 6, 30 - 6, 20 - 6,
    ]  # fmt: skip


def test_a_map_without_positive_values_has_no_share_and_is_left_out_of_the_mean(case):
    shares = []
    for values in (np.full(SHAPE, -1, np.float32), np.ones(SHAPE, np.float32)):
        shares += place_shares(case, "gradcam", values, places_of(case, None))
    for one in summarise_places(shares):
        assert one.energy.count == 1
        assert one.energy.dropped == 1
        assert one.energy.mean == pytest.approx(one.volume)


def test_near_is_in_millimetres_along_each_axis():
    mask = np.zeros(SHAPE, bool)
    mask[12, 15, 10] = True
    grown = near(mask, (3, 3, 4), 6.0)
    assert grown[14, 15, 10]
    assert not grown[15, 15, 10]
    assert grown[12, 15, 11]
    assert not grown[12, 15, 12]
    assert not near(np.zeros(SHAPE, bool), (3, 3, 4), 6.0).any()


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SAR", "PIL"])
def test_the_same_place_of_the_patient_is_the_same_cell_for_any_orientation(axes):
    values = np.zeros(SHAPE)
    values[20, 3, 10] = 1
    image = nibabel.Nifti1Image(values, AFFINE)
    turned = image.as_reoriented(
        nibabel.orientations.ornt_transform(
            nibabel.io_orientation(AFFINE), nibabel.orientations.axcodes2ornt(axes)
        )
    )
    expected = on_common_grid(values, AFFINE)
    assert on_common_grid(turned.get_fdata(), turned.affine) == pytest.approx(expected)
    assert cell_size_mm(turned.shape, turned.affine) == pytest.approx(
        np.array(SHAPE) * (3, 3, 4) / CELLS
    )
    assert side_names(turned.shape, turned.affine) == PATIENT_SIDES


def test_a_slice_has_the_patients_sides_and_a_picture_its_own():
    # A coronal slice, stored with its rows first and the head upwards.
    affine = np.array([[0.0, 2, 0, 0], [0, 0, 5, 0], [-2, 0, 0, 0], [0, 0, 0, 1]])
    assert side_names((40, 50, 1), affine) == (PATIENT_SIDES[0], PATIENT_SIDES[2])
    assert side_names((40, 50), np.diag([-1.0, -1, 1, 1])) == PICTURE_SIDES


@pytest.mark.parametrize("shape", [(24, 30, 20), (7, 9), (300, 200), (40, 50, 1)])
def test_the_common_grid_keeps_the_energy(shape):
    values = noise(0, shape).astype(float)
    found = on_common_grid(values, np.eye(4))
    assert found.shape == (CELLS,) * (2 if 1 in shape else len(shape))
    assert found.sum() == pytest.approx(values.sum())
    even = on_common_grid(np.ones(shape), np.eye(4))
    assert even == pytest.approx(even.mean())
