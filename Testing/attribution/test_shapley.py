"""Shapley values, kernel SHAP and LIME of regions, on games whose answers are known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from SaliencyExplain.attribution.methods.kernel_shap import KernelSamples, KernelShap
from SaliencyExplain.attribution.methods.lime import Lime, Neighbourhood
from SaliencyExplain.attribution.methods.shapley import Orders, Shapley
from Testing.attribution.region_games import (
    METHODS,
    Cubed,
    Game,
    game_task,
    played,
    random_game,
    segments,
)


def by_enumeration(game, players):
    """The definition: the mean of what a player adds over all orders of coming."""

    def worth(members):
        image = torch.zeros(1, 1, players, 1)
        image[0, 0, list(members), 0] = 1
        return float(game(image)[0, 1])

    values = np.zeros(players)
    for order in itertools.permutations(range(players)):
        for place, player in enumerate(order):
            values[player] += worth(order[: place + 1]) - worth(order[:place])
    return values / math.factorial(players)


@pytest.mark.parametrize("kind", [Shapley, KernelShap])
def test_few_regions_have_exactly_the_values_of_the_definition(task, kind):
    game = Cubed(random_game(5).weights, random_game(5).pairs)
    values, figures = played(segments(kind), game_task(task, game))
    np.testing.assert_allclose(values[:, 0], by_enumeration(game, 5), rtol=1e-4, atol=1e-5)
    assert figures["estimator"] == "exact"
    assert all(row["low"] == row["value"] == row["high"] for row in figures["regions"][:5])


@pytest.mark.parametrize("kind", [Shapley, KernelShap])
@pytest.mark.parametrize("players", [1, 2, 4])
def test_values_add_up_to_all_less_none(task, kind, players):
    values, figures = played(segments(kind), game_task(task, random_game(players)))
    expected = figures["output_with_all"] - figures["output_with_none"]
    assert float(values.sum()) == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("kind", METHODS)
def test_a_region_that_changes_nothing_counts_nothing_and_equals_count_alike(task, kind):
    weights = np.array([1.0, 0.0, 1.0, -2.0])
    more = {"samples": 400} if kind is Lime else {}
    values, _ = played(segments(kind, **more), game_task(task, Game(weights, np.zeros((4, 4)))))
    found = values[:, 0].numpy()
    tolerance = 0.02 if kind is Lime else 1e-5
    assert found[1] == pytest.approx(0, abs=tolerance)
    assert found[0] == pytest.approx(found[2], abs=tolerance)


@pytest.mark.parametrize("kind", [Shapley, KernelShap])
def test_the_values_of_a_sum_of_games_are_the_sum_of_the_values(task, kind):
    one, other = random_game(6, 1), random_game(6, 2)
    both = Game(one.weights + other.weights, one.pairs + other.pairs)
    found = [played(segments(kind), game_task(task, game))[0] for game in (one, other, both)]
    torch.testing.assert_close(found[0] + found[1], found[2], rtol=1e-4, atol=1e-5)


class Saturating(Game):
    """As a probability: it hardly moves at its ends."""

    def forward(self, images):
        return torch.sigmoid(2 * super().forward(images))


@pytest.mark.slow
def test_of_many_regions_the_intervals_hold_the_truth_as_often_as_they_say():
    """Of 95 % intervals; the values of a game are not independent, so the games are counted."""
    held = {"orders": [], "kernel": [], "wide": []}
    for seed in range(1000, 1040):
        base = random_game(14, seed)
        truth, worth = exact(Saturating(base.weights * 0.4, base.pairs * 0.12))
        orders = Orders(14, 10, seed)
        for name, plan, confidence in (
            ("orders", orders, 0.95),
            ("kernel", KernelSamples(14, 260, seed), 0.95),
            ("wide", orders, 0.5),
        ):
            present = np.stack([plan.present(index) for index in range(plan.count)])
            found = plan.estimate(worth[present @ (1 << np.arange(14))], confidence)
            held[name].append(np.mean(np.abs(found.values - truth) <= found.errors))
    error = {name: np.std(shares) / np.sqrt(40) for name, shares in held.items()}
    for name, confidence in (("orders", 0.95), ("kernel", 0.95), ("wide", 0.5)):
        # A little too wide is on the safe side; 3 standard errors are chance.
        assert confidence - 0.015 - 3 * error[name] < np.mean(held[name]), (name, held[name])
        assert np.mean(held[name]) < confidence + 0.035 + 3 * error[name]


@pytest.mark.slow
def test_limes_intervals_hold_what_all_combinations_give():
    held = []
    for seed in range(2000, 2040):
        base = random_game(9, seed)
        worth = exact(Saturating(base.weights * 0.4, base.pairs * 0.12))[1]
        few, every = (Neighbourhood(9, count, 0.25, 1e-6, seed) for count in (200, 512))
        found, truth = (
            plan.estimate(
                worth[np.stack([plan.present(n) for n in range(plan.count)]) @ (1 << np.arange(9))],
                0.95,
            )
            for plan in (few, every)
        )
        assert not truth.errors.any()
        held.append(np.mean(np.abs(found.values - truth.values) <= found.errors))
    assert np.mean(held) > 0.935 - 3 * np.std(held) / np.sqrt(40)


def exact(game):
    """Shapley values by all combinations at once, and the worth of each."""
    players = len(game.weights)
    members = (np.arange(2**players)[:, None] >> np.arange(players)) & 1
    with torch.no_grad():
        worth = game(torch.from_numpy(members).float())[:, 1].double().numpy()
    sizes = members.sum(1)
    values = np.zeros(players)
    for player in range(players):
        out = np.flatnonzero(members[:, player] == 0)
        weight = [
            math.factorial(s) * math.factorial(players - s - 1) / math.factorial(players)
            for s in sizes[out]
        ]
        values[player] = (weight * (worth[out | (1 << player)] - worth[out])).sum()
    return values, worth
