"""Infidelity beside captum's, of maps whose answer is known, and beside chance."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from captum.metrics import infidelity as captums_infidelity
from torch import nn

from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.errors import Cancelled
from SaliencyExplain.evaluation.image.infidelity import (
    PARTS,
    InfidelityMaker,
    boxes_of,
    infidelity,
    passes_of_boxes,
)


def made(task, baseline):
    maker = InfidelityMaker(task, baseline)
    maker.prepare()
    return maker


@pytest.mark.parametrize(("axes", "channels"), [(2, 1), (3, 1), (2, 3), (3, 2)])
def test_equals_captums_normalised_infidelity_where_its_scale_is_positive(
    small, task, black, axes, channels
):
    image = torch.rand(1, channels, *(14, 12, 10)[:axes]) * 5
    job = task(small(axes=axes, channels=channels), image)
    maker = made(job, black(job))
    values = np.random.default_rng(0).random(image.shape[2:]) - 0.2
    if np.dot([values[box].sum() for box in maker.boxes], maker.drops) < 0:
        values = -values
    masks = torch.zeros(len(maker.boxes), *image.shape[1:], dtype=torch.float64)
    for mask, box in zip(masks, maker.boxes, strict=True):
        mask[(slice(None), *box)] = 1.0
    # Of several channels each has an equal part of the map's value.
    attributed = torch.from_numpy(values / channels).expand(1, *image.shape[1:])

    def probability(images):
        return job.network.probabilities(job.network(images).double())[:, 1]

    theirs = captums_infidelity(
        probability,
        lambda images: (masks, torch.where(masks > 0, torch.zeros_like(images), images)),
        image,
        attributed.contiguous(),
        n_perturb_samples=len(maker.boxes),
        normalize=True,
    )
    found = maker.of(values)
    assert found.value == pytest.approx(float(theirs), rel=1e-4)
    assert 0 < found.share < 1
    # Captum forgives a wrong sign; here such a map says no more than zeros do.
    assert maker.of(-values).scale == 0.0
    assert maker.of(-values).share == 1.0


def test_a_linear_network_s_exact_contributions_have_none_in_any_unit(linear, task, black):
    weights, image = torch.randn(2, 9, 11), torch.rand(1, 2, 9, 11)
    job = task(linear(weights), image)
    maker = made(job, black(job))
    exact = (weights * image[0]).sum(dim=0).numpy()
    for unit in (1.0, 1e-6, 300.0):
        found = maker.of(unit * exact)
        assert found.share == pytest.approx(0.0, abs=1e-9)
        assert found.scale == pytest.approx(1 / unit, rel=1e-4)
    assert maker.of(-exact).share == 1.0
    assert maker.of(np.zeros((9, 11))).share == 1.0
    # The gradient alone does not know how bright a voxel is.
    assert 0.05 < maker.of(weights.sum(dim=0).numpy()).share < 0.9


def test_a_classifier_that_nothing_moves_has_none_and_the_reason_is_told(linear, task, black):
    job = task(linear(torch.zeros(1, 8, 8)), torch.rand(1, 1, 8, 8))
    found = made(job, black(job)).of(np.random.default_rng(1).random((8, 8)))
    assert math.isnan(found.share)
    assert found.remark


@pytest.mark.parametrize("shape", [(16, 24), (9, 13), (8, 12, 4), (7, 11, 3)])
def test_each_place_is_taken_away_once_at_each_size(shape):
    taken = np.zeros(shape, int)
    for box in boxes_of(shape):
        taken[box] += 1
    assert (taken == len(PARTS[len(shape)])).all()
    sizes = [taken[box].size for box in boxes_of(shape)]
    assert max(sizes) <= np.prod([(side + 1) // 2 for side in shape])
    assert passes_of_boxes(shape) == len(sizes)


def test_the_boxes_sizes_are_told_in_millimetres(linear, task, black):
    job = task(linear(torch.ones(1, 48, 40, 12)), torch.rand(1, 1, 48, 40, 12),
               spacing=(1.0, 0.5, 4.0))  # fmt: skip
    words = made(job, black(job)).words
    assert words == ("72 boxes of 24 x 10 x 24 mm and 12 x 5 x 12 mm, replaced by black")


def test_what_is_told_has_the_best_scale(linear):
    random = np.random.default_rng(2)
    said, drops = random.normal(size=50), random.normal(size=50)
    said = said if said @ drops > 0 else -said
    found = infidelity(said, drops)
    for factor in (0.9, 1.1):
        assert np.mean((factor * found.scale * said - drops) ** 2) > found.value
    assert found.share == pytest.approx(found.value / np.mean(drops**2))


def test_the_boxes_cost_a_pass_each_and_no_more_for_further_maps(small, task, black):
    class Counting(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network, self.images = network, 0

        def forward(self, images):
            self.images += len(images)
            return self.network(images)

    counting = Counting(small(axes=2).network)
    job = task(ScoreNetwork(counting).eval(), torch.rand(1, 1, 12, 12))
    baseline = black(job)
    counting.images = 0
    maker = made(job, baseline)
    for seed in range(3):
        maker.of(np.random.default_rng(seed).random((12, 12)))
    assert counting.images == passes_of_boxes((12, 12)) == 84

    def stop(done, total):
        raise Cancelled

    with pytest.raises(Cancelled):
        InfidelityMaker(job, baseline).prepare(stop)
