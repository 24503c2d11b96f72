from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from saliency.core import GuidedIG

from SaliencyExplain.attribution.methods.guided_integrated_gradients import (
    GuidedIntegratedGradients,
)
from SaliencyExplain.attribution.methods.integrated_gradients import IntegratedGradients

SIZES = {2: (14, 11), 3: (9, 8, 7)}


@pytest.fixture
def pair(monkeypatch):
    """PAIR's guided IG of an image ``(1, C, *S)``, ``(C, *S)``."""
    quantile = np.quantile

    def renamed(values, share, *, interpolation):
        # PAIR uses the parameter's name before numpy 2.4.
        return quantile(values, share, method=interpolation)

    def mask(network, image, target, **settings):
        def call(values, call_model_args=None, expected_keys=None):
            images = torch.as_tensor(values, dtype=torch.float32).requires_grad_()
            (gradients,) = torch.autograd.grad(network(images)[0, target], images)
            return {"INPUT_OUTPUT_GRADIENTS": gradients.numpy()}

        with monkeypatch.context() as patch:
            patch.setattr(np, "quantile", renamed)
            return torch.as_tensor(GuidedIG().GetMask(image[0].numpy(), call, **settings))

    return mask


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(
    ("steps", "fraction", "distance"),
    [(20, 0.25, 0.02), (30, 0.1, 0.3), (10, 0.5, 1.0), (7, 1.0, 0.1)],
)
def test_equals_pair(task, convolutional, pair, dims, steps, fraction, distance):
    network, image = convolutional(dims, 2), torch.randn(1, 2, *SIZES[dims])
    theirs = pair(network, image, 1, x_steps=steps, fraction=fraction, max_dist=distance)
    method = GuidedIntegratedGradients(
        steps=steps, fraction=fraction, max_distance=distance, baseline="value"
    )
    ours = method.raw(task(network, image))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))


def test_without_any_distance_it_is_integrated_gradients(task, convolutional):
    job = task(convolutional(2), torch.randn(1, 1, *SIZES[2]))
    ours = GuidedIntegratedGradients(steps=12, max_distance=0.0).raw(job)
    straight = IntegratedGradients(steps=12, rule="riemann-left").raw(job)
    torch.testing.assert_close(ours, straight, rtol=1e-3, atol=1e-3 * float(straight.abs().max()))


@pytest.mark.parametrize("output", ["score", "probability"])
def test_values_add_up_to_the_change_of_the_output(task, convolutional, output):
    network, image = convolutional(2, 2, activation=torch.nn.Softplus), torch.randn(1, 2, 14, 11)
    figures = {}
    method = GuidedIntegratedGradients(steps=300, output=output)
    job = dataclasses.replace(task(network, image), record=figures.update)
    values = method.attribute(job)[""]
    with torch.no_grad():
        scores = network(torch.cat([image, method.start(job)]))
    outputs = scores if output == "score" else scores.softmax(1)
    change = float(outputs[0, 1] - outputs[1, 1])
    assert float(values.double().sum()) == pytest.approx(change, rel=2e-2)
    assert figures["completeness_error_share"] < 2e-2


def test_a_linear_score_is_shared_exactly_whatever_the_path(task, linear):
    weights, image = torch.randn(2, 5, 6), torch.randn(1, 2, 5, 6)
    job = task(linear(weights), image)
    method = GuidedIntegratedGradients(steps=9, max_distance=1.0, baseline="mean")
    expected = (weights * (image - method.start(job))[0]).sum(0)
    torch.testing.assert_close(method.attribute(job)[""], expected, rtol=1e-4, atol=1e-5)


def test_large_values_do_not_keep_the_path_from_its_end(task, linear):
    # Rounding of a sum over many large values is more than any fixed rest that would do.
    weights, image = torch.randn(1, 90, 80), 3e4 * torch.rand(1, 1, 90, 80)
    job = task(linear(weights), image)
    values = GuidedIntegratedGradients(steps=5, baseline="value").attribute(job)[""]
    torch.testing.assert_close(values, (weights * image[0])[0], rtol=1e-4, atol=1.0)


class Plateau(torch.nn.Module):
    """A score that the second voxel switches off early and the first makes steep."""

    def forward(self, images):
        first, second = images.flatten(1)[:, :2].T
        score = torch.sigmoid(8 * first - 4) + 5 * torch.sin(6.28318 * first) * (1 - second).relu()
        return torch.stack([torch.zeros_like(score), score], dim=1)


def test_flat_directions_first_avoid_the_noise_of_steep_ones(task):
    # The sine is noise that is gone once the second voxel is 1, where its slope is 0 at the start.
    image = torch.ones(1, 1, 1, 2)
    from SaliencyExplain.attribution.network.score_network import ScoreNetwork

    job = task(ScoreNetwork(Plateau(), "none"), image)
    settings = {"steps": 400, "baseline": "value"}
    straight = IntegratedGradients(**settings).attribute(job)[""]
    guided = GuidedIntegratedGradients(**settings, fraction=0.0, max_distance=1.0).attribute(job)[
        ""
    ]
    assert abs(float(guided[0, 1])) < 0.2 * abs(float(straight[0, 1]))
    assert float(guided.sum()) == pytest.approx(float(straight.sum()), abs=0.05)


def test_the_same_bytes_again_and_a_baseline_equal_to_the_image(task, convolutional):
    network = convolutional(2)
    job = task(network, torch.randn(1, 1, *SIZES[2]))
    method = GuidedIntegratedGradients(steps=6)
    assert torch.equal(method.attribute(job)[""], method.attribute(job)[""])
    flat = method.attribute(task(network, torch.ones(1, 1, *SIZES[2])))[""]
    assert not flat.any()
