"""Shapley values over channels, and the modality-specific feature importance."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.errors import ErrorCode
from SaliencyExplain.evaluation.image.channel_importance import (
    ChannelImportance,
    channel_importance,
    modality_specific_feature_importance,
)
from Testing.expected_errors import error_with

NAMES = ("t1", "t2", "flair")


@pytest.mark.slow
def test_the_channels_of_an_additive_network_count_what_they_add(linear, task):
    weights = torch.randn(3, 7, 6)
    image = torch.rand(1, 3, 7, 6)
    made = task(linear(weights), image)
    found = channel_importance(made, NAMES)
    mean = image[0].mean(dim=(1, 2), keepdim=True)
    expected = ((image[0] - mean) * weights).sum(dim=(1, 2))
    np.testing.assert_allclose(found.values, expected.numpy(), atol=1e-4)
    assert found.channels == NAMES
    assert sum(found.values) == pytest.approx(found.whole - found.nothing, abs=1e-6)


def test_they_are_the_mean_over_all_orders_for_any_network(small, task):
    torch.manual_seed(4)
    image = torch.rand(1, 3, 9, 9) * 4
    made = task(small(axes=2, channels=3), image)
    found = channel_importance(made, NAMES)
    mean = image[0].mean(dim=(1, 2), keepdim=True)

    def probability(present):
        shown = torch.where(torch.tensor(present).reshape(-1, 1, 1), image[0], mean)
        with torch.no_grad():
            return float(made.network.probabilities(made.network(shown[None]).double())[0, 1])

    values = np.zeros(3)
    for order in itertools.permutations(range(3)):
        present = [False] * 3
        for channel in order:
            before = probability(present)
            present[channel] = True
            values[channel] += (probability(present) - before) / 6
    np.testing.assert_allclose(found.values, values, atol=1e-7)
    assert np.abs(values).max() > 1e-4


def test_a_channel_that_the_network_does_not_read_counts_nothing_and_twins_the_same(task):
    class Product(torch.nn.Module):
        """Reads the first two channels, alike."""

        def forward(self, images):
            score = images[:, 0].amax(dim=(1, 2)) * images[:, 1].amax(dim=(1, 2))
            return torch.stack([-score, score], dim=1)

    image = torch.rand(1, 3, 5, 5)
    image[0, 1] = image[0, 0]
    found = channel_importance(task(ScoreNetwork(Product()), image), NAMES)
    assert found.values[2] == pytest.approx(0.0, abs=1e-12)
    assert found.values[0] == pytest.approx(found.values[1], abs=1e-12)
    assert found.values[0] > 0.001


def test_one_channel_has_nothing_to_share(linear, task):
    with error_with(ErrorCode.CHANNELS, "2 to 8 channels"):
        channel_importance(task(linear(torch.ones(1, 4, 4)), torch.rand(1, 1, 4, 4)), ["t1"])


def importance(*values: float) -> ChannelImportance:
    return ChannelImportance(NAMES, values, 1.0, 0.0, "mean")


def test_msfi_of_known_maps():
    masks = {name: np.zeros((4, 4), bool) for name in NAMES}
    for number, mask in enumerate(masks.values()):
        mask[number] = True
    right = {name: mask.astype(np.float32) for name, mask in masks.items()}
    wrong = {name: (~mask).astype(np.float32) for name, mask in masks.items()}
    even = {name: np.ones((4, 4), np.float32) for name in NAMES}
    msfi = modality_specific_feature_importance
    assert msfi(right, masks, importance(0.5, 0.3, 0.1)) == pytest.approx(1.0)
    assert msfi(wrong, masks, importance(0.5, 0.3, 0.1)) == pytest.approx(0.0)
    assert msfi(even, masks, importance(0.5, 0.3, 0.1)) == pytest.approx(0.25)
    # Right in the channel that counts for three of four parts, wrong in the other.
    half = {"t1": right["t1"], "t2": wrong["t2"], "flair": wrong["flair"]}
    assert msfi(half, masks, importance(0.6, 0.2, -0.4)) == pytest.approx(0.75)
    # Evidence against the class is no map of a feature for it.
    against = {name: values - 2 * wrong[name] for name, values in right.items()}
    assert msfi(against, masks, importance(0.5, 0.3, 0.1)) == pytest.approx(1.0)
    assert math.isnan(msfi(right, masks, importance(-0.1, 0.0, -0.2)))
    assert math.isnan(msfi({**right, "t1": -right["t1"]}, masks, importance(0.5, 0.3, 0.1)))
    with error_with(ErrorCode.NAME_UNKNOWN, "'pet'", "t1, t2, flair"):
        msfi(right, {"pet": masks["t1"]}, importance(0.5, 0.3, 0.1))
