"""Changes that do not matter: what known maps do under them."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from captum.metrics import sensitivity_max

from SaliencyExplain.attribution.methods.control_maps import CentreMap, RandomMap
from SaliencyExplain.attribution.methods.gradient import Gradient, SmoothGrad
from SaliencyExplain.evaluation.image.answers import NO, UNKNOWN, YES, is_stable
from SaliencyExplain.evaluation.image.changed_maps import MapMaker
from SaliencyExplain.evaluation.image.cost import CostTier, shifts, stability_maps
from SaliencyExplain.evaluation.image.evaluation_passes import Work
from SaliencyExplain.evaluation.image.robustness import (
    NOISE,
    shifted,
    stability,
    uniform_change,
)

TIER = CostTier()


def evaluated(method, made, cost_tier=TIER, body=None):
    maker = MapMaker(method, 1.0, Work(1e9))
    found = stability(maker, made, maker.maps(made), body, cost_tier)
    return next(iter(found.values()))


def test_the_gradient_of_a_linear_network_bears_everything_but_a_shift(linear, task):
    random = torch.Generator().manual_seed(0)
    made = task(
        linear(torch.randn((1, 14, 13), generator=random) / 50),
        torch.rand((1, 1, 14, 13), generator=random),
    )
    found = evaluated(Gradient(), made)
    for change in found.changes:
        if change.kind.startswith("shift"):
            # The network looks at fixed places: its map does not move with the image.
            assert change.similarity.rank_correlation < 0.5
        else:
            assert change.similarity.rank_correlation == pytest.approx(1.0)
            assert change.sensitivity == pytest.approx(0.0, abs=1e-6)
    assert found.sensitivity_max == pytest.approx(0.0, abs=1e-6)


def test_a_convolutions_map_moves_with_the_image_and_is_shifted_back(task):
    class Convolution(torch.nn.Module):
        """Scores that look at each place alike: the mean of a squared edge filter."""

        def forward(self, images):
            edges = images[..., 1:] - images[..., :-1]
            score = edges.square().flatten(1).sum(1)
            return torch.stack([-score, score], dim=1)

    from SaliencyExplain.attribution.network.score_network import ScoreNetwork

    image = torch.zeros(1, 1, 24, 24, 24)
    image[..., 8:14, 9:15, 7:13] = torch.rand(6, 6, 6)
    found = evaluated(Gradient(), task(ScoreNetwork(Convolution(), "none"), image))
    moved = [change for change in found.changes if change.kind.startswith("shift")]
    assert len(moved) == 6
    for change in moved:
        assert change.sensitivity == pytest.approx(0.0, abs=1e-6)
        assert change.similarity.overlap == pytest.approx(1.0)


def test_other_seeds_change_random_maps_and_nothing_else(small, task):
    made = task(small(axes=2), torch.rand(1, 1, 16, 16))
    random = evaluated(RandomMap(), made)
    assert random.least("seed") < 0.4
    assert random.least("noise") == pytest.approx(1.0)
    assert is_stable(random, "", _probability(made)).answer == NO
    assert evaluated(CentreMap(), made).least("seed") == pytest.approx(1.0)
    smooth = evaluated(SmoothGrad(samples=4), made)
    assert smooth.least("seed") < 1.0


def test_sensitivity_max_is_captums_on_the_same_changes(small, task):
    made = task(small(axes=2), torch.rand(1, 1, 12, 12))
    cost_tier = dataclasses.replace(TIER, searched=5, refined=0)
    found = evaluated(Gradient(), made, cost_tier)
    reach = NOISE * float(made.input.max() - made.input.min())

    def replayed(inputs, *_):
        changes = [uniform_change(made.input, reach, made.seed, number) for number in range(5)]
        return inputs + torch.cat(changes)

    def explained(inputs, *_):
        images = inputs if isinstance(inputs, torch.Tensor) else inputs[0]
        maps = [
            Gradient().attribute(dataclasses.replace(made, input=one[None]))[""] for one in images
        ]
        # A tuple: of a tensor captum would take the first axis for several inputs.
        return (torch.stack(maps)[:, None],)

    theirs = sensitivity_max(explained, made.input, perturb_func=replayed, n_perturb_samples=5)
    assert found.sensitivity_max > 0
    assert found.sensitivity_max == pytest.approx(float(theirs), rel=1e-5)


def test_the_search_finds_at_least_as_bad_a_case_as_random_changes(small, task):
    made = task(small(axes=2), torch.rand(1, 1, 16, 16))
    found = evaluated(Gradient(), made, dataclasses.replace(TIER, searched=3, refined=8))
    (worst,) = (change for change in found.changes if change.kind == "worst case")
    assert worst.sensitivity >= found.sensitivity_max
    assert "3 random changes and 8 steps" in found.search
    assert f"{100 * NOISE:g} %" in found.search


def test_a_shift_repeats_the_border():
    image = torch.arange(5.0).reshape(1, 1, 1, 5).repeat(1, 1, 3, 1)
    assert shifted(image, 1, 2)[0, 0, 0].tolist() == [0, 0, 0, 1, 2]
    assert shifted(image, 0, 1).equal(image)


def test_shifts_are_a_voxel_and_four_millimetres_where_that_is_more(linear, task):
    made = task(linear(torch.ones(1, 9, 9, 9)), torch.rand(1, 1, 9, 9, 9), spacing=(1.0, 2.0, 5.0))
    assert shifts(made, TIER) == [
        ("shift by a voxel", 0, 1),
        ("shift by a voxel", 1, 1),
        ("shift by a voxel", 2, 1),
        ("shift by several voxels", 0, 4),
        ("shift by several voxels", 1, 2),
    ]
    assert stability_maps(made, TIER) == 2 + 2 + 5 + 8


def test_a_change_that_moves_the_answer_is_not_held_against_the_map(linear, task):
    made = task(linear(torch.randn(1, 14, 13) * 10), torch.rand(1, 1, 14, 13))
    found = evaluated(Gradient(), made)
    # Its own seed is the only change that leaves the score as it is.
    seeds = dataclasses.replace(
        found, changes=tuple(change for change in found.changes if change.kind != "seed")
    )
    assert is_stable(seeds, "", _probability(made)).answer == UNKNOWN
    assert is_stable(found, "", _probability(made)).answer == YES


def _probability(made):
    with torch.no_grad():
        return float(made.network.probabilities(made.network(made.input).double())[0, 1])
