from __future__ import annotations

import numpy as np
import pytest
import torch

from SaliencyExplain.attribution.methods.control_maps import centre_map, random_map
from SaliencyExplain.attribution.registry import find_method


def test_random_values_are_uniform_and_independent_of_their_neighbours():
    values = random_map((60, 50, 40), (1.0, 1.0, 3.0), seed=3, correlation_mm=0.0)
    share = np.histogram(values, bins=10, range=(0, 1))[0] / values.size
    assert values.dtype == np.float32
    np.testing.assert_allclose(share, 0.1, atol=0.005)
    assert abs(np.corrcoef(values[1:].ravel(), values[:-1].ravel())[0, 1]) < 0.01


@pytest.mark.parametrize(("axis", "voxels"), [(0, 6), (1, 6), (2, 2)])
def test_correlation_has_fallen_to_one_over_e_at_its_length_in_millimetres(axis, voxels):
    # The Gaussian field has the correlation 1/e = 0.368; turning it into uniform values
    # lowers that to 6/pi asin(0.368/2) = 0.353.
    fields = [
        random_map((80, 84, 40), (1.0, 1.0, 3.0), seed=seed, correlation_mm=6.0) for seed in (1, 2)
    ]
    found = [np.corrcoef(f.ravel(), np.roll(f, voxels, axis=axis).ravel())[0, 1] for f in fields]
    assert np.mean(found) == pytest.approx(0.353, abs=0.03)


def test_correlated_values_are_uniform_too():
    values = random_map((90, 90, 60), (1.0, 1.0, 1.5), seed=0, correlation_mm=3.0)
    share = np.histogram(values, bins=10, range=(0, 1))[0] / values.size
    np.testing.assert_allclose(share, 0.1, atol=0.01)


@pytest.mark.parametrize("correlation_mm", [0.0, 4.0])
def test_same_seed_gives_same_map_and_another_seed_another(correlation_mm):
    first, again, other = (
        random_map((7, 9, 5), (1, 1, 2), seed=seed, correlation_mm=correlation_mm)
        for seed in (5, 5, 6)
    )
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


def test_centre_map_falls_equally_in_all_directions_in_millimetres():
    values = centre_map((21, 41, 11), (2.0, 1.0, 4.0))
    assert np.unravel_index(values.argmax(), values.shape) == (10, 20, 5)
    # 8 mm from the centre along each axis.
    assert values[14, 20, 5] == pytest.approx(values[10, 28, 5], rel=1e-5)
    assert values[14, 20, 5] == pytest.approx(values[10, 20, 7], rel=1e-5)
    # Longest side 44 mm, so sigma = 11 mm.
    assert values[14, 20, 5] == pytest.approx(np.exp(-0.5 * (8 / 11) ** 2), rel=1e-5)


def test_control_maps_as_methods_give_those_maps_without_asking_the_network(task, detector):
    image = torch.zeros(1, 2, 6, 8, 5)
    job = task(detector((6, 8, 5), (0, 0, 0)), image, spacing=(1.0, 2.0, 3.0), seed=4)
    random = find_method("random")(correlation_mm=5.0)
    assert random.forward_passes(job) == 0
    expected = random_map((6, 8, 5), (1, 2, 3), seed=4, correlation_mm=5.0)
    assert np.array_equal(random.attribute(job)[""].numpy(), expected)
    centre = find_method("centre")().attribute(job)[""].numpy()
    assert np.array_equal(centre, centre_map((6, 8, 5), (1, 2, 3)))
