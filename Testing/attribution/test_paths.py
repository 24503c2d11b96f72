from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr._utils.approximation_methods import approximation_parameters
from scipy.ndimage import gaussian_filter

from SaliencyExplain.attribution.methods.integrated_gradients import IntegratedGradients
from SaliencyExplain.attribution.methods.path_integration import RULES, images_between, quadrature
from SaliencyExplain.attribution.perturbation.baselines import baseline_image
from SaliencyExplain.errors import ErrorCode
from Testing.expected_errors import error_with


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("steps", [2, 7, 50])
def test_places_and_weights_are_those_of_captum_in_another_order(rule, steps):
    sizes, alphas = approximation_parameters(rule.replace("-", "_"))
    places, weights = quadrature(rule, steps)
    order = np.argsort(places)
    np.testing.assert_allclose(places[order], alphas(steps), atol=1e-7)
    np.testing.assert_allclose(weights[order], sizes(steps), rtol=1e-6)


def test_gauss_legendre_integrates_polynomials_exactly():
    places, weights = quadrature("gausslegendre", 4)
    assert weights @ places**7 == pytest.approx(1 / 8, abs=1e-14)


@pytest.mark.parametrize("steps", [5, 16, 50])
def test_the_first_few_places_lie_all_over_the_way(steps):
    places, _ = quadrature("riemann-middle", steps)
    for count in range(2, steps + 1):
        gaps = np.diff(np.sort(np.concatenate([[0.0], places[:count], [1.0]])))
        assert gaps.max() <= 3.2 / count + 1 / steps


def test_images_between_are_on_the_straight_line():
    start, end = torch.zeros(1, 2, 3, 4), torch.ones(1, 2, 3, 4)
    images = images_between(start, end, np.array([0.0, 0.25, 1.0]))
    assert images.shape == (3, 2, 3, 4)
    assert images.mean(dim=(1, 2, 3)).tolist() == [0.0, 0.25, 1.0]


def baseline(task, linear, image, kind, **settings):
    job = task(linear(torch.ones(image.shape[1:])), image, **settings)
    return baseline_image(job, kind, value=-2.0, blur_mm=3.0, method="m")


@pytest.mark.parametrize("shape", [(2, 6, 5), (3, 4, 5, 6)])
def test_constant_baselines_are_per_channel(task, linear, shape):
    image = torch.randn(1, *shape) + torch.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    for kind, expected in (
        ("mean", image[0].flatten(1).mean(1)),
        ("minimum", image[0].flatten(1).amin(1)),
        ("value", torch.full(shape[:1], -2.0)),
    ):
        found = baseline(task, linear, image, kind)
        assert found.shape == image.shape
        torch.testing.assert_close(found[0].flatten(1).amin(1), expected)
        torch.testing.assert_close(found[0].flatten(1).amax(1), expected)


def test_blur_is_measured_in_millimetres(task, linear):
    image = torch.randn(1, 1, 40, 60)
    found = baseline(task, linear, image, "blur", spacing=(0.5, 2.0))
    expected = gaussian_filter(image[0, 0].numpy(), (6.0, 1.5), truncate=8)
    inner = (slice(18, -18), slice(6, -6))  # at the border each continues the image its own way
    np.testing.assert_allclose(found[0, 0].numpy()[inner], expected[inner], atol=3e-3)


def test_mean_of_the_backgrounds_is_a_baseline(task, linear):
    backgrounds = torch.randn(5, 2, 4, 4)
    found = baseline(task, linear, torch.randn(1, 2, 4, 4), "backgrounds", backgrounds=backgrounds)
    torch.testing.assert_close(found[0], backgrounds.mean(0))


def test_backgrounds_that_are_missing_or_do_not_fit_are_told_in_one_line(task, linear):
    image = torch.randn(1, 1, 4, 4)
    with error_with(ErrorCode.BACKGROUNDS, "--background") as error:
        baseline(task, linear, image, "backgrounds")
    assert "\n" not in str(error.value)
    with error_with(ErrorCode.BACKGROUNDS, "(1, 4, 5)", "(1, 4, 4)"):
        baseline(task, linear, image, "backgrounds", backgrounds=torch.randn(2, 1, 4, 5))


def test_automatic_blur_is_said_in_the_parameters(task, linear):
    job = task(linear(torch.ones(1, 32, 16)), torch.randn(1, 1, 32, 16), spacing=(2.0, 1.0))
    assert IntegratedGradients(baseline="blur").resolved(job).blur_mm == pytest.approx(4.0)
    assert IntegratedGradients(baseline="blur", blur_mm=7.0).resolved(job).blur_mm == 7.0
    assert IntegratedGradients().resolved(job).blur_mm == 0.0
