"""Shapley values, kernel SHAP and LIME of regions, on games whose answers are known."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest
import torch
from captum._utils.models.linear_model import SkLearnRidge
from captum.attr import KernelShap as CaptumKernelShap
from captum.attr import Lime as CaptumLime
from captum.attr import ShapleyValues, ShapleyValueSampling
from sklearn.linear_model import Ridge
from torch import nn

from SaliencyExplain.attribution.fill import FILLS
from SaliencyExplain.attribution.kernel_shap import KernelSamples, KernelShap
from SaliencyExplain.attribution.least_squares import constrained, ridge
from SaliencyExplain.attribution.lime import Lime, Neighbourhood
from SaliencyExplain.attribution.network import ScoreNetwork
from SaliencyExplain.attribution.shapley import Orders, Shapley
from SaliencyExplain.classifiers.loading import load_classifier
from SaliencyExplain.demo.phantoms import draw_phantom
from SaliencyExplain.demo.study import STUDY_SEEDS, classifier_folder
from SaliencyExplain.demo.tumours import GLIOMA
from SaliencyExplain.errors import Cancelled, InputError
from SaliencyExplain.explanation import explain
from SaliencyExplain.images.segmentation import Segment, Segmentation
from SaliencyExplain.question import Given

SEED = STUDY_SEEDS + 94_000_000
METHODS = (Shapley, KernelShap, Lime)


class Game(nn.Module):
    """One voxel for each player: 1 where it is there. Weights, and rewards of pairs."""

    def __init__(self, weights, pairs):
        super().__init__()
        self.register_buffer("weights", torch.as_tensor(weights, dtype=torch.float32))
        self.register_buffer("pairs", torch.as_tensor(pairs, dtype=torch.float32))

    def forward(self, images):
        there = images.flatten(1)
        score = there @ self.weights + ((there @ self.pairs) * there).sum(1)
        return torch.stack([torch.zeros_like(score), score], 1)

    def shapley(self):
        """Of a game of single and paired rewards: each pair's is shared by halves."""
        pairs = (self.pairs + self.pairs.T).numpy()
        return (
            self.weights.numpy()
            + np.diag(self.pairs)
            + 0.5 * (pairs - np.diag(np.diag(pairs))).sum(1)
        )


def random_game(players, seed=0):
    random = np.random.default_rng(seed)
    return Game(random.standard_normal(players), np.triu(random.standard_normal((players,) * 2), 1))


def game_task(task, game, **settings):
    """A player is a row of one voxel, and is gone where the voxel is 0."""
    players = len(game.weights)
    return task(
        ScoreNetwork(game, "none"),
        torch.ones(1, 1, players, 1),
        regions=torch.arange(1, players + 1).reshape(players, 1),
        region_names=tuple(f"player {n}" for n in range(players)),
        **settings,
    )


def played(method, job):
    """Values of the players, and the figures."""
    figures = {}
    object.__setattr__(job, "record", figures.update)
    maps = method.attribute(job)
    return maps[""], figures


def of_regions(values, job):
    """In each voxel its region's whole value, as captum paints it."""
    _, place, sizes = job.regions.unique(return_inverse=True, return_counts=True)
    return values * sizes[place]


def segments(kind, **settings):
    return kind(regions="segments", fill="value", value=0.0, output="score", **settings)


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


class Cubed(Game):
    """A game in which all matter to all."""

    def forward(self, images):
        return super().forward(images) ** 3 / 10


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


def picture_task(task, dims, **settings):
    """A random network and blocks as segments, 8 in 2D and 8 in 3D, with a rest."""
    conv = (nn.Conv2d, nn.Conv3d)[dims - 2]
    network = nn.Sequential(conv(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6**dims, 3))
    labels = torch.zeros((8,) * dims, dtype=torch.int64)
    for number, corner in enumerate(itertools.product((0, 4), repeat=dims)):
        labels[tuple(slice(c, c + 3) for c in corner)] = number + 1
    count = 2**dims
    return task(
        ScoreNetwork(network, "none"),
        torch.randn(1, 2, *(8,) * dims),
        regions=labels,
        region_names=tuple(f"block {n}" for n in range(count)),
        **settings,
    )


@pytest.fixture(params=[2, 3], ids=["2D", "3D"])
def dims(request):
    return request.param


@pytest.mark.parametrize("kind", [Shapley, KernelShap])
def test_exact_values_equal_captum(task, dims, kind):
    job = picture_task(task, dims)
    values, figures = played(segments(kind), job)

    def forward(images):
        return job.network(images)[:, 1]

    captum = ShapleyValues if dims == 2 else ShapleyValueSampling
    more = {} if dims == 2 else {"n_samples": 150}
    with torch.no_grad():
        expected = captum(forward).attribute(
            job.input, baselines=0.0, feature_mask=job.regions[None, None], **more
        )[0, 0]
    tolerance = 1e-5 if dims == 2 else 0.05
    torch.testing.assert_close(of_regions(values, job), expected.float(), rtol=0, atol=tolerance)
    assert figures["regions"][-1]["name"] == "elsewhere"


@pytest.mark.parametrize("kind", [Shapley, KernelShap])
def test_the_voxels_add_up_to_what_the_regions_count_together(task, dims, kind):
    job = picture_task(task, dims)
    values, figures = played(segments(kind), job)
    with torch.no_grad():
        change = job.network(job.input) - job.network(torch.zeros_like(job.input))
    assert float(values.sum()) == pytest.approx(float(change[0, 1]), abs=1e-4)
    for region in figures["regions"]:
        inside = values[job.regions == region["label"]]
        assert float(inside.sum()) == pytest.approx(region["value"], abs=1e-5)
        assert float(inside.max() - inside.min()) == 0


def test_kernel_shap_equals_captum_with_many_samples(task):
    job = picture_task(task, 2)
    values, _ = played(segments(KernelShap), job)
    torch.manual_seed(0)
    with torch.no_grad():
        expected = CaptumKernelShap(lambda images: job.network(images)[:, 1]).attribute(
            job.input, baselines=0.0, feature_mask=job.regions[None, None], n_samples=400
        )[0, 0]
    torch.testing.assert_close(of_regions(values, job), expected.float(), rtol=0, atol=0.02)


def test_lime_equals_captum_with_the_same_samples(task):
    job = picture_task(task, 2, seed=3)
    method = segments(Lime, samples=30, penalty=0.5)
    values, figures = played(method, job)
    plan = method.plan(job, 5)
    weights, drawn = plan.weights(30), iter(range(30))
    captum = CaptumLime(
        lambda images: job.network(images)[:, 1],
        interpretable_model=SkLearnRidge(alpha=0.5),
        similarity_func=lambda _original, _changed, mask, **_: torch.tensor(
            weights[next(index for index in numbers)]
        ),
        perturb_func=lambda _original, **_: torch.from_numpy(
            reordered(plan.present(next(drawn)))
        ).long()[None],
    )
    numbers = iter(range(30))
    with torch.no_grad():
        expected = captum.attribute(
            job.input, baselines=0.0, feature_mask=job.regions[None, None], n_samples=30
        )[0, 0]
    torch.testing.assert_close(of_regions(values, job), expected.float(), rtol=1e-3, atol=1e-5)
    assert 0 < figures["explained_variance"] <= 1


def reordered(present):
    """Our last player is what lies elsewhere, captum's first."""
    return np.roll(present, 1)


def test_the_regressions_are_those_of_scikit_learn():
    random = np.random.default_rng(0)
    present = random.random((50, 6)) < 0.5
    outputs, weights = random.standard_normal(50), random.random(50)
    expected = Ridge(alpha=0.7).fit(present, outputs, sample_weight=weights).coef_
    np.testing.assert_allclose(ridge(present, outputs, weights, 0.7), expected, rtol=1e-8)
    found = constrained(present, outputs, weights, 2.5)
    assert found.sum() == pytest.approx(2.5)
    # No step that keeps the sum makes the error less.
    slope = present.T @ (weights * (present @ found - outputs))
    np.testing.assert_allclose(slope, slope.mean(), atol=1e-9)


@pytest.mark.parametrize("kind", METHODS)
@pytest.mark.parametrize("fill", FILLS)
def test_every_fill_takes_a_region_away(task, kind, fill):
    job = picture_task(task, 2)
    values, figures = played(kind(regions="segments", fill=fill), job)
    assert float(values.abs().max()) > 0
    assert [row["voxels"] for row in figures["regions"]] == [9, 9, 9, 9, 64 - 36]


@pytest.mark.parametrize("kind", METHODS)
def test_the_batches_change_nothing(task, kind):
    maps = []
    for size in (1, 7, 32):
        torch.manual_seed(1)
        job = picture_task(task, 3, batch_size=size, seed=5)
        more = {"samples": 100} if kind is not Shapley else {}
        maps.append(played(kind(regions="segments", **more), job)[0])
    torch.testing.assert_close(maps[0], maps[1], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(maps[0], maps[2], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", METHODS)
def test_a_seed_decides_the_samples(task, kind):
    game = Cubed(random_game(14).weights / 3, random_game(14).pairs / 10)
    maps = [
        played(segments(kind, **({"samples": 100} if kind is not Shapley else {})), job)[0]
        for job in (game_task(task, game, seed=seed) for seed in (0, 0, 1))
    ]
    assert torch.equal(maps[0], maps[1])
    assert not torch.equal(maps[0], maps[2])


@pytest.mark.parametrize("kind", METHODS)
def test_cost_is_said_before_and_a_cancel_ends_it(task, kind):
    told = []
    job = game_task(task, random_game(14), batch_size=8)
    object.__setattr__(job, "progress", lambda done, total: told.append((done, total)))
    method = segments(kind)
    cost = method.forward_passes(job)
    method.attribute(job)
    assert told[-1] == (cost, cost)

    def cancel(done, total):
        raise Cancelled

    object.__setattr__(job, "progress", cancel)
    with pytest.raises(Cancelled):
        method.attribute(job)


@pytest.mark.parametrize("kind", METHODS)
def test_at_its_deadline_it_gives_the_best_map_it_has(task, kind):
    published = []
    game = Game(np.arange(14.0), np.zeros((14, 14)))
    job = game_task(
        task,
        game,
        batch_size=4,
        deadline=time.perf_counter() - 1,
        publish=lambda maps, share: published.append((maps[""], share)),
    )
    method = segments(kind)
    values, figures = played(method, job)
    assert figures["samples"] < method.forward_passes(job)
    assert published[-1][1] < 1
    torch.testing.assert_close(published[-1][0], values)
    assert np.corrcoef(values[:, 0], np.arange(14))[0, 1] > 0.5


def test_a_segment_outside_of_the_networks_view_has_no_value(task):
    job = picture_task(task, 2)
    object.__setattr__(job, "region_names", (*job.region_names, "beyond"))
    _, figures = played(segments(Shapley), job)
    beyond = next(row for row in figures["regions"] if row["name"] == "beyond")
    assert beyond["voxels"] == 0
    assert beyond["value"] is beyond["low"] is beyond["high"] is None
    object.__setattr__(job, "regions", torch.zeros_like(job.regions))
    with pytest.raises(InputError, match="No segment"):
        segments(Shapley).attribute(job)


@pytest.mark.parametrize("kind", METHODS)
def test_segments_are_asked_for(task, kind):
    job = task(ScoreNetwork(random_game(4), "none"), torch.ones(1, 1, 4, 1))
    with pytest.raises(InputError, match=r"give a segmentation \(-s\)"):
        segments(kind).attribute(job)


@pytest.mark.parametrize("kind", METHODS)
def test_an_image_of_which_nothing_can_be_taken_counts_nothing(task, kind):
    job = picture_task(task, 2)
    object.__setattr__(job, "input", torch.ones_like(job.input))
    values, figures = played(kind(regions="segments", fill="mean"), job)
    assert float(values.abs().max()) == 0
    assert all(row["value"] == 0 for row in figures["regions"])


@pytest.mark.parametrize("kind", METHODS)
def test_of_two_segments_the_planted_tumour_counts_and_its_mirror_does_not(kind):
    honest = load_classifier(classifier_folder("phantom-3d-honest"))
    phantom = draw_phantom(GLIOMA, SEED)
    tumour = phantom.masks["tumour"]
    # The head is symmetric in its first axis, and the tumour lies in one half of it.
    mirror = np.flip(tumour, 0) & ~tumour
    segments_given = tuple(
        Segment(name, (1.0, 0.0, 0.0), mask)
        for name, mask in (("tumour", tumour), ("mirror", mirror))
    )
    given = Given(Segmentation(segments_given, phantom.image.affine.numpy(), ()))
    found = explain(
        phantom.image, honest, [kind(regions="segments")], target=GLIOMA, given=given
    ).attributions[0]
    value = {row["name"]: row["value"] for row in found.provenance["figures"]["regions"]}
    assert set(value) == {"tumour", "mirror", "elsewhere"}
    assert value["tumour"] > 0.05
    assert value["tumour"] > 3 * abs(value["mirror"])


@pytest.mark.parametrize("kind", METHODS)
def test_of_supervoxels_those_in_the_planted_tumour_count(kind):
    honest = load_classifier(classifier_folder("phantom-2d-honest"))
    phantom = draw_phantom(GLIOMA, SEED, dimensions=2)
    more = {"pairs": 3} if kind is Shapley else {"samples": 300}
    method = kind(output="score", **more)
    found = explain(phantom.image, honest, [method], target=GLIOMA).attributions[0]
    tumour = phantom.masks["tumour"]
    values = np.asarray(found.values).reshape(tumour.shape)
    assert values[tumour].mean() > np.quantile(values, 0.9)
    best = max(found.provenance["figures"]["regions"], key=lambda row: row["value"])
    assert best["low"] > 0
