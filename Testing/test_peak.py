from __future__ import annotations

import numpy as np
import pytest
import torch

from SaliencyExplain.attribution.methods.cam import GradCAM
from SaliencyExplain.attribution.methods.gradient import Gradient
from SaliencyExplain.attribution.methods.occlusion import Occlusion
from SaliencyExplain.comparison.agreement import agreement
from SaliencyExplain.peak import find_peak, strongest_voxels
from SaliencyExplain.pictures.slab import peak_view
from Testing.builders import make_task


def grid(*spacing):
    return np.diag([*spacing, *(1.0,) * (4 - len(spacing))])


class OneVoxel(torch.nn.Module):
    """The score is one voxel's value."""

    def __init__(self, place):
        super().__init__()
        self.place = place

    def forward(self, images):
        score = images[(slice(None), 0, *self.place)]
        return torch.stack([-score, score], 1)


def task_of(network, image, spacing, told):
    return make_task(network, image, spacing=spacing, resolution=told.__setitem__)


@pytest.mark.parametrize(
    ("shape", "spacing", "place", "settings"),
    [
        ((60, 48), (1.0, 1.0), (31, 17), {"window_mm": 9.0, "stride_mm": 1.0}),
        ((60, 48), (1.0, 1.0), (31, 17), {"window_mm": 12.0, "stride_mm": 3.0}),
        ((60, 48), (1.0, 1.0), (31, 17), {}),
        ((40, 40, 20), (1.0, 1.0, 2.0), (22, 13, 9), {"window_mm": 8.0, "stride_mm": 2.0}),
    ],
)
def test_occlusion_of_a_one_voxel_detector_peaks_within_half_a_stride_of_it(
    shape, spacing, place, settings
):
    told = {}
    image = torch.ones(1, 1, *shape)
    job = task_of(OneVoxel(place), image, spacing, told)
    method = Occlusion(fill="value", output="score", **settings)
    values = method.attribute(job)[""].numpy()
    sizes = method.resolved(job)
    assert told == {"": sizes.window_mm}
    affine = grid(*spacing)
    peak = find_peak(values, True, affine, told[""])
    apart = np.abs(np.subtract(peak.index, place)) * spacing
    assert (apart <= np.maximum(sizes.stride_mm / 2, spacing) + 1e-6).all()
    # The strongest voxel alone is the first of a flat top.
    assert peak.value == values.max()


def test_a_single_hot_voxel_inside_a_window_is_no_peak_but_is_one_for_a_gradient():
    place = np.stack(np.meshgrid(*[np.arange(n) for n in (50, 40)], indexing="ij"), -1)
    values = np.exp(-(((place - [30, 20]) / 8) ** 2).sum(-1) / 2).astype(np.float32)
    values[4, 4] = 1.1
    assert find_peak(values, True, grid(1.0, 1.0), 16.0).index == (30, 20)
    assert find_peak(values, True, grid(1.0, 1.0)).index == (4, 4)
    # The window is smaller than two voxels of this grid: nothing to smooth.
    assert find_peak(values, True, grid(10.0, 10.0), 16.0).index == (4, 4)
    mask = np.hypot(*(place - [30, 20]).transpose(2, 0, 1)) <= 5
    for resolution_mm, inside in ((16.0, 1), (0.0, 0)):
        found = agreement(values, mask, grid(1.0, 1.0), resolution_mm=resolution_mm)
        assert found.pointing == inside
        seen = peak_view(values, values, grid(1, 1), (), signed=True, resolution_mm=resolution_mm)
        assert mask[seen.peak.index] == inside


def test_smoothing_is_the_gaussian_that_is_promised_and_favours_no_border():
    values = np.zeros((41, 31), dtype=np.float64)
    values[20, 15] = 1
    # Two peaks of equal height; the flat one is stronger at this scale.
    values[5:8, 5:8] = 0.99
    assert find_peak(values, True, grid(1.0, 1.0), 4.0).index == (6, 6)
    ramp = np.linspace(0, 1, 41)[:, None].repeat(31, 1)
    assert strongest_voxels(ramp, grid(1.0, 1.0), 10.0)[-1].all()
    assert strongest_voxels(ramp, grid(1.0, 1.0), 10.0).sum() == 31
    assert strongest_voxels(np.ones((5, 5)), grid(1.0, 1.0), 4.0).all()


def test_the_peak_speaks_for_the_class_where_any_voxel_does():
    values = np.full((30, 30), -1.0)
    values[3, 3] = 0.1
    values[20:25, 20:25] = -0.01
    peak = find_peak(values, True, grid(1.0, 1.0), 8.0)
    assert peak.index == (3, 3)
    assert not peak.remark
    against = find_peak(-np.abs(values), True, grid(1.0, 1.0), 8.0)
    assert against.remark
    assert against.value == -1.0


def test_a_class_activation_map_resolves_a_cell_and_a_gradient_a_voxel():
    told = {}
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 4, stride=4),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(4, 2),
    )
    job = task_of(network, torch.randn(1, 1, 32, 32), (0.5, 2.0), told)
    GradCAM().attribute(job)
    assert told == {"1": pytest.approx(4.0)}  # 2 mm x 8 mm, as large as a square of 4 mm
    told.clear()
    Gradient().attribute(job)
    assert not told


def test_a_plateau_at_the_border_has_its_peak_in_the_middle_and_not_in_the_corner():
    # As a feature map's outermost cell gives it: constant outside of the cell's centre.
    near = np.minimum(np.arange(40), 32) / 32.0
    values = (near[:, None] * near[None, :]).astype(np.float32)
    affine = grid(1.0, 1.0)
    shared = strongest_voxels(values, affine, 16.0)
    np.testing.assert_array_equal(np.argwhere(shared).min(axis=0), (32, 32))
    assert np.count_nonzero(shared) == 64
    assert find_peak(values, False, affine, 16.0).index in {(35, 35), (36, 36), (35, 36), (36, 35)}
