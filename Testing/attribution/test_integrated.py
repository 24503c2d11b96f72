from __future__ import annotations

import dataclasses
import math
import time

import captum.attr
import numpy as np
import pytest
import torch
from saliency.core import IntegratedGradients as PairIntegratedGradients
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from SaliencyExplain.attribution.methods.gradient import Gradient, noise_like
from SaliencyExplain.attribution.methods.integrated_gradients import IntegratedGradients
from SaliencyExplain.attribution.methods.smooth_integrated_gradients import (
    SmoothIntegratedGradients,
    SquaredSmoothIntegratedGradients,
)
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.errors import Cancelled, ErrorCode
from Testing.expected_errors import error_with

SIZES = {2: (14, 11), 3: (9, 8, 7)}


def recorded(job: Task, method):
    figures = {}
    values = method.attribute(dataclasses.replace(job, record=figures.update))[""]
    return values, figures


def close(ours, theirs, tolerance=2e-5):
    torch.testing.assert_close(
        ours.float(), theirs.float(), rtol=tolerance, atol=tolerance * float(theirs.abs().max())
    )


# --- axioms ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 5, 6), (3, 5, 6), (2, 4, 5, 6)])
@pytest.mark.parametrize("baseline", ["minimum", "mean", "value", "blur"])
def test_a_linear_score_is_shared_exactly(task, linear, shape, baseline):
    weights, image = torch.randn(shape), torch.randn(1, *shape)
    job = task(linear(weights), image)
    method = IntegratedGradients(steps=1, baseline=baseline, value=0.7)
    start = method.start(job)
    values, figures = recorded(job, method)
    close(values, (weights * (image - start)[0]).sum(0))
    assert figures["completeness_error"] == pytest.approx(0, abs=1e-4)
    assert figures["output_of_image"] == pytest.approx(float((weights * image).sum()), abs=1e-4)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("output", ["score", "probability"])
def test_values_add_up_to_the_change_of_the_output(task, convolutional, dims, output):
    network, image = convolutional(dims, 2), 3 * torch.randn(1, 2, *SIZES[dims])
    method = IntegratedGradients(steps=200, output=output)
    values, figures = recorded(task(network, image), method)
    with torch.no_grad():
        scores = network(torch.cat([image, method.start(task(network, image))]))
    outputs = scores if output == "score" else scores.softmax(1)
    change = float(outputs[0, 1] - outputs[1, 1])
    assert abs(change) > 0.01
    # A kink of a ReLU between two steps is what the rule cannot see: 0.1 % of what is shared.
    rest = 1e-3 * float(values.abs().sum())
    assert float(values.double().sum()) == pytest.approx(change, abs=rest)
    assert figures["sum_of_map"] == pytest.approx(float(values.double().sum()), abs=1e-5)
    assert figures["completeness_error"] == pytest.approx(figures["sum_of_map"] - change, abs=1e-6)


def test_few_steps_are_less_complete_and_the_figure_says_so(task, convolutional):
    network = convolutional(2)
    job = task(network, 3 * torch.randn(1, 1, *SIZES[2]))
    errors = [
        recorded(job, IntegratedGradients(steps=steps, rule="riemann-right"))[1]
        for steps in (2, 100)
    ]
    few, many = (abs(figures["completeness_error"]) for figures in errors)
    assert many < few / 5


class Saturating(nn.Module):
    """1 - relu(1 - x) of the first voxel: the example of Sundararajan et al., section 2.1."""

    def forward(self, images):
        first = images.flatten(1)[:, 0]
        score = 1 - (1 - first).relu()
        return torch.stack([torch.zeros_like(score), score], dim=1)


def test_a_voxel_that_changes_a_saturated_score_is_seen(task):
    image = torch.zeros(1, 1, 2, 2)
    image[0, 0, 0, 0] = 2.0
    job = task(ScoreNetwork(Saturating(), "none"), image)
    assert float(Gradient().attribute(job)[""].abs().max()) == 0.0
    values = IntegratedGradients(steps=100, baseline="value", value=0.0).attribute(job)[""]
    torch.testing.assert_close(values, torch.tensor([[1.0, 0.0], [0.0, 0.0]]))


def test_voxels_that_the_score_does_not_depend_on_get_nothing(task, detector):
    values = IntegratedGradients(steps=4).attribute(
        task(detector((6, 7), (2, 3)), torch.randn(1, 1, 6, 7))
    )[""]
    assert torch.count_nonzero(values) == 1
    assert values[2, 3] > 0


class Symmetric(nn.Module):
    """A score in which the two halves of the first axis may be exchanged."""

    def forward(self, images):
        one, other = images.flatten(2).chunk(2, dim=2)
        score = (one * other).tanh().sum((1, 2)) + (one + other).square().sum((1, 2))
        return torch.stack([torch.zeros_like(score), score], dim=1)


def test_voxels_that_may_be_exchanged_get_the_same(task):
    half = torch.randn(1, 1, 3, 4)
    job = task(ScoreNetwork(Symmetric(), "none"), torch.cat([half, half], dim=2))
    values = IntegratedGradients(steps=20).attribute(job)[""]
    torch.testing.assert_close(values[:3], values[3:])


@pytest.mark.parametrize("dims", [2, 3])
def test_the_same_function_in_other_layers_gives_the_same_map(task, convolutional, dims):
    network, image = convolutional(dims), torch.randn(1, 1, *SIZES[dims])
    conv, norm, *others = network.network
    folded = ScoreNetwork(nn.Sequential(fuse_conv_bn_eval(conv, norm), *others))
    method = IntegratedGradients(steps=30)
    close(
        method.attribute(task(folded, image))[""],
        method.attribute(task(network, image))[""],
        tolerance=1e-3,
    )


def test_the_two_classes_of_one_logit_are_opposite(task, convolutional):
    network, image = convolutional(2, one_logit=True), torch.randn(1, 1, *SIZES[2])
    for output in ("score", "probability"):
        method = IntegratedGradients(steps=6, output=output)
        yes, no = (method.attribute(task(network, image, target))[""] for target in (1, 0))
        torch.testing.assert_close(yes, -no)
        assert float(yes.abs().max()) > 0


# --- the same as others ----------------------------------------------------------------------


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(
    "rule", ["gausslegendre", "riemann-middle", "riemann-left", "riemann-right"]
)
def test_equals_captum(task, convolutional, dims, rule):
    network, image = convolutional(dims, 2), torch.randn(1, 2, *SIZES[dims])
    theirs = captum.attr.IntegratedGradients(network).attribute(
        image, baselines=0.0, target=2, n_steps=20, method=rule.replace("-", "_")
    )[0]
    method = IntegratedGradients(steps=20, rule=rule, baseline="value")
    close(method.raw(task(network, image, 2)), theirs)


def of_pair(network, target):
    """The network as PAIR's saliency asks it, for images without their channel axis."""

    def call(values, call_model_args=None, expected_keys=None):
        images = torch.as_tensor(np.asarray(values), dtype=torch.float32)[:, None].requires_grad_()
        scores = network(images)[:, target].sum()
        (gradients,) = torch.autograd.grad(scores, images)
        return {"INPUT_OUTPUT_GRADIENTS": gradients[:, 0].numpy()}

    return call


def test_equals_pair(task, convolutional):
    network, image, steps = convolutional(2), torch.randn(1, 1, *SIZES[2]), 25
    theirs = PairIntegratedGradients().GetMask(
        image[0, 0].numpy(), of_pair(network, 1), x_steps=steps
    )
    # PAIR takes both ends of the way, with the weight of a whole step each.
    job = task(network, image)
    method = IntegratedGradients(steps=steps - 1, rule="riemann-right", baseline="value")
    at_start = Gradient().raw(task(network, torch.zeros_like(image))) * image[0]
    ours = ((steps - 1) * method.raw(job) + at_start) / steps
    close(ours[0], torch.as_tensor(theirs))


@pytest.mark.parametrize("magnitude", [False, True])
def test_smoothgrad_ig_equals_pair_told_the_noise_and_the_places(
    task, convolutional, monkeypatch, magnitude
):
    network, image, steps = convolutional(2), torch.randn(1, 1, *SIZES[2]), 6
    drawn = iter(range(4))

    def normal(mean, deviation, size):
        noise = noise_like(torch.empty(1, 1, *size), 5, next(drawn))
        return (noise[0, 0] * float(deviation) + mean).numpy()

    with monkeypatch.context() as patch:
        patch.setattr(np.random, "normal", normal)
        patch.setattr(np, "linspace", lambda *_: (np.arange(steps) + 0.5) / steps)
        theirs = PairIntegratedGradients().GetSmoothedMask(
            image[0, 0].numpy(),
            of_pair(network, 1),
            stdev_spread=0.1,
            nsamples=4,
            magnitude=magnitude,
            x_steps=steps,
        )
    kind = SquaredSmoothIntegratedGradients if magnitude else SmoothIntegratedGradients
    method = kind(samples=4, noise=0.1, steps=steps, rule="riemann-middle", baseline="value")
    ours = method.raw(task(network, image, seed=5))[0]
    close(ours.square() if magnitude else ours, torch.as_tensor(theirs))
    assert method.signed is not magnitude


@pytest.mark.parametrize("dims", [2, 3])
def test_smoothgrad_ig_is_complete_for_the_mean_of_the_noisy_copies(task, convolutional, dims):
    network, image = convolutional(dims, 2), torch.randn(1, 2, *SIZES[dims])
    job = task(network, image, seed=3)
    method = SmoothIntegratedGradients(samples=3, noise=0.2, steps=60)
    values, figures = recorded(job, method)
    deviation = 0.2 * (image.max() - image.min())
    copies = [image + noise_like(image, 3, index) * deviation for index in range(3)]
    with torch.no_grad():
        ends = network(torch.cat([*copies, method.start(job)]))[:, 1]
    change = float(ends[:3].mean() - ends[3])
    rest = 3e-3 * float(values.abs().sum())
    assert float(values.double().sum()) == pytest.approx(change, abs=rest)
    assert figures["completeness_error"] == pytest.approx(figures["sum_of_map"] - change, abs=1e-6)


def test_smoothgrad_ig_without_noise_is_integrated_gradients(task, convolutional):
    job = task(convolutional(2), torch.randn(1, 1, *SIZES[2]))
    smooth = SmoothIntegratedGradients(samples=2, noise=0.0, steps=8).attribute(job)[""]
    close(smooth, IntegratedGradients(steps=8).attribute(job)[""])


# --- how it runs -----------------------------------------------------------------------------

METHODS = [
    IntegratedGradients(steps=7),
    SmoothIntegratedGradients(samples=3, steps=3),
    SquaredSmoothIntegratedGradients(samples=3, steps=3),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_same_seed_same_map_whatever_the_batches(task, convolutional, method):
    network, image = convolutional(2), torch.randn(1, 1, *SIZES[2])
    once, again, one, chosen = (
        method.attribute(task(network, image, seed=2, batch_size=size))[""]
        for size in (4, 4, 1, None)
    )
    assert torch.equal(once, again)
    close(one, once, 1e-4)
    close(chosen, once, 1e-4)
    other = method.attribute(task(network, image, seed=3, batch_size=4))[""]
    assert torch.equal(other, once) is (method.name == "integrated-gradients")


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_grows_to_the_map_and_ends_with_a_share_of_one(task, convolutional, monkeypatch, method):
    monkeypatch.setattr("SaliencyExplain.attribution.passes.anytime._INTERVAL", 0.0)
    monkeypatch.setattr("SaliencyExplain.attribution.passes.anytime._PARTS", 0)
    network, image = convolutional(2), torch.randn(1, 1, *SIZES[2])
    told = []
    job = task(
        network,
        image,
        batch_size=2,
        publish=lambda maps, share: told.append((share, maps[""].clone())),
    )
    final = method.attribute(job)[""]
    shares = [share for share, _ in told]
    assert len(shares) > 2
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert torch.equal(told[-1][1], final)
    halfway = told[len(told) // 2][1]
    assert float(torch.corrcoef(torch.stack([halfway.flatten(), final.flatten()]))[0, 1]) > 0.7


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_deadline_gives_the_mean_so_far(task, convolutional, method):
    network, image = convolutional(2), torch.randn(1, 1, *SIZES[2])
    shares, figures = [], {}
    job = task(
        network,
        image,
        batch_size=1,
        deadline=time.perf_counter(),
        publish=lambda maps, share: shares.append(share),
        record=figures.update,
    )
    found = method.attribute(job)[""]
    assert shares[-1] < 1
    if method.name == "integrated-gradients":
        # The first place of all is near the baseline; alone it counts for the whole way.
        places = method.steps
        assert shares[-1] == pytest.approx(1 / places)
        assert math.isfinite(figures["completeness_error"])
    else:
        single = dataclasses.replace(method, samples=1).attribute(task(network, image))[""]
        close(found, single)


def test_a_cancel_in_the_middle_leaves_at_once(task, convolutional):
    calls = []

    def progress(done, total):
        calls.append(done)
        if len(calls) == 2:
            raise Cancelled

    job = task(convolutional(2), torch.randn(1, 1, *SIZES[2]), batch_size=1, progress=progress)
    with pytest.raises(Cancelled):
        IntegratedGradients(steps=50).attribute(job)
    assert len(calls) == 2


def test_memory_is_that_of_a_batch_and_not_of_all_steps(task, convolutional):
    seen = []
    network = convolutional(2)
    network.network.register_forward_hook(lambda _m, inputs, _o: seen.append(len(inputs[0])))
    IntegratedGradients(steps=40).attribute(
        task(network, torch.randn(1, 1, *SIZES[2]), batch_size=3)
    )
    assert max(seen) == 3


def test_the_image_as_its_own_baseline_gives_zeros(task, convolutional):
    values, figures = recorded(
        task(convolutional(2), torch.full((1, 1, *SIZES[2]), 0.3)), IntegratedGradients(steps=3)
    )
    assert not values.any()
    assert figures["completeness_error_share"] is None


def test_backgrounds_as_baseline(task, linear):
    weights, backgrounds = torch.randn(1, 4, 5), torch.randn(3, 1, 4, 5)
    image = torch.randn(1, 1, 4, 5)
    method = IntegratedGradients(steps=2, baseline="backgrounds")
    values = method.attribute(task(linear(weights), image, backgrounds=backgrounds))[""]
    close(values, (weights * (image[0] - backgrounds.mean(0)))[0])
    with error_with(ErrorCode.BACKGROUNDS, "integrated-gradients"):
        method.attribute(task(linear(weights), image))


def test_a_lower_precision_is_near_and_its_error_is_in_the_figures(task, convolutional):
    network, image = convolutional(2, 2), torch.randn(1, 2, *SIZES[2])
    method = IntegratedGradients(steps=40)
    exact, _ = recorded(task(network, image), method)
    rough, figures = recorded(task(network, image, precision="bfloat16"), method)
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)
    assert float(torch.corrcoef(torch.stack([rough.flatten(), exact.flatten()]))[0, 1]) > 0.99
    with torch.no_grad():
        score = float(network(image)[0, 1])
    assert figures["output_of_image"] == pytest.approx(score, abs=1e-6)
