from __future__ import annotations

import dataclasses
import time

import captum.attr
import numpy as np
import pytest
import torch

from SaliencyExplain.attribution.methods.expected_gradients import ExpectedGradients, draws
from SaliencyExplain.attribution.methods.integrated_gradients import IntegratedGradients
from SaliencyExplain.errors import ErrorCode
from Testing.expected_errors import error_with

SIZES = {2: (14, 11), 3: (9, 8, 7)}


@pytest.mark.parametrize(("count", "backgrounds"), [(100, 7), (3, 8), (64, 1), (40, 13)])
def test_each_background_is_drawn_as_often_and_its_places_are_spread(count, backgrounds):
    chosen, places = draws(count, backgrounds, seed=4)
    times = np.bincount(chosen, minlength=backgrounds)
    assert times.max() - times.min() <= 1
    assert ((places >= 0) & (places < 1)).all()
    for number in np.unique(chosen):
        own = np.sort(places[chosen == number])
        if len(own) > 2:
            gaps = np.diff(np.concatenate([own, own[:1] + 1]))
            assert gaps.max() < 2.7 / len(own)
    # Of a round too.
    if count >= backgrounds:
        np.testing.assert_array_equal(
            np.sort((places[:backgrounds] * backgrounds).astype(int)), range(backgrounds)
        )


def test_places_are_uniform_over_the_seeds():
    places = np.array([draws(9, 4, seed)[1] for seed in range(500)])
    np.testing.assert_allclose(places.mean(axis=0), 0.5, atol=0.05)
    np.testing.assert_allclose(places.std(axis=0), 12**-0.5, atol=0.03)


def test_more_samples_continue_fewer():
    few, many = draws(5, 3, seed=1), draws(50, 3, seed=1)
    for one, other in zip(few, many, strict=True):
        np.testing.assert_array_equal(one, other[:5])


@pytest.mark.parametrize("dims", [2, 3])
def test_equals_captum_told_the_draws(task, convolutional, monkeypatch, dims):
    network, image = convolutional(dims, 2), torch.randn(1, 2, *SIZES[dims])
    backgrounds = torch.randn(3, 2, *SIZES[dims])
    chosen, places = draws(8, 3, seed=6)
    monkeypatch.setattr(np.random, "choice", lambda *_a, **_k: chosen)
    # captum's share is that of the image in the mix, which is the place on the way to it.
    monkeypatch.setattr(np.random, "uniform", lambda *_a, **_k: places)
    theirs = captum.attr.GradientShap(network).attribute(
        image, backgrounds, n_samples=8, stdevs=0.0, target=2
    )[0]
    job = task(network, image, 2, seed=6, backgrounds=backgrounds)
    ours = ExpectedGradients(samples=8).raw(job).float()
    torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=2e-5 * float(theirs.abs().max()))


@pytest.mark.parametrize("shape", [(1, 5, 6), (2, 4, 5, 6)])
def test_a_linear_score_is_compared_with_the_mean_background(task, linear, shape):
    weights, image, backgrounds = torch.randn(shape), torch.randn(1, *shape), torch.randn(4, *shape)
    figures = {}
    job = task(linear(weights), image, backgrounds=backgrounds, record=figures.update)
    values = ExpectedGradients(samples=8).attribute(job)[""]
    expected = (weights * (image[0] - backgrounds.mean(0))).sum(0)
    torch.testing.assert_close(values, expected, rtol=1e-4, atol=1e-5)
    assert figures["completeness_error"] == pytest.approx(0, abs=1e-4)
    assert figures["backgrounds"] == 4


def test_is_the_mean_of_integrated_gradients_from_each_background(task, convolutional):
    network, image = convolutional(2), torch.randn(1, 1, *SIZES[2])
    backgrounds = torch.randn(4, 1, *SIZES[2])
    exact = torch.stack(
        [
            IntegratedGradients(steps=60, baseline="backgrounds").attribute(
                task(network, image, backgrounds=one[None])
            )[""]
            for one in backgrounds
        ]
    ).mean(0)
    few, many = (
        ExpectedGradients(samples=samples).attribute(task(network, image, backgrounds=backgrounds))[
            ""
        ]
        for samples in (8, 400)
    )
    size = float(exact.abs().max())
    assert float((many - exact).abs().max()) < 0.05 * size
    assert float((many - exact).abs().mean()) < 0.3 * float((few - exact).abs().mean())


@pytest.mark.parametrize("output", ["score", "probability"])
def test_values_add_up_to_the_difference_from_the_mean_background(task, convolutional, output):
    network, image = convolutional(3, 2), torch.randn(1, 2, *SIZES[3])
    backgrounds, figures = torch.randn(3, 2, *SIZES[3]), {}
    job = task(network, image, backgrounds=backgrounds, record=figures.update)
    values = ExpectedGradients(samples=300, output=output).attribute(job)[""]
    with torch.no_grad():
        scores = network(torch.cat([image, backgrounds]))
    outputs = (scores if output == "score" else scores.softmax(1))[:, 1]
    change = float(outputs[0] - outputs[1:].mean())
    assert figures["output_of_baseline"] == pytest.approx(float(outputs[1:].mean()), rel=1e-5)
    assert float(values.double().sum()) == pytest.approx(change, abs=0.03 * abs(change) + 1e-4)


def test_same_seed_same_map_whatever_the_batches(task, convolutional):
    network, image = convolutional(2), torch.randn(1, 1, *SIZES[2])
    backgrounds, method = torch.randn(3, 1, *SIZES[2]), ExpectedGradients(samples=10)
    once, again, chosen, other = (
        method.attribute(task(network, image, seed=seed, batch_size=size, backgrounds=backgrounds))[
            ""
        ]
        for seed, size in ((1, 4), (1, 4), (1, None), (2, 4))
    )
    assert torch.equal(once, again)
    torch.testing.assert_close(once, chosen, rtol=1e-4, atol=1e-5 * float(once.abs().max()))
    assert not torch.allclose(once, other, rtol=1e-2)


def test_a_deadline_gives_the_mean_so_far(task, convolutional):
    network, image = convolutional(2), torch.randn(1, 1, *SIZES[2])
    shares, figures = [], {}
    job = task(network, image, batch_size=2, backgrounds=torch.randn(3, 1, *SIZES[2]), seed=5)
    stopped = dataclasses.replace(
        job,
        deadline=time.perf_counter(),
        publish=lambda _, share: shares.append(share),
        record=figures.update,
    )
    found = ExpectedGradients(samples=50).attribute(stopped)[""]
    assert shares == [2 / 50]
    assert figures["samples"] == 2
    torch.testing.assert_close(found, ExpectedGradients(samples=2).attribute(job)[""])


def test_missing_backgrounds_are_told_in_one_line_before_anything_runs(task, convolutional):
    network = convolutional(2)
    network.network.register_forward_hook(lambda *_: pytest.fail("the network ran"))
    with error_with(ErrorCode.BACKGROUNDS, "expected-gradients", "--background"):
        ExpectedGradients().attribute(task(network, torch.randn(1, 1, *SIZES[2])))
