"""What the methods of regions do with fills, batches, seeds, deadlines and segments."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest
import torch

from SaliencyExplain.attribution.methods.kernel_shap import KernelShap
from SaliencyExplain.attribution.methods.lime import Lime
from SaliencyExplain.attribution.methods.shapley import Shapley
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.attribution.perturbation.infill_choices import FILLS
from SaliencyExplain.demo.phantoms import draw_phantom
from SaliencyExplain.demo.study import STUDY_SEEDS, classifier_folder
from SaliencyExplain.demo.tumours import GLIOMA
from SaliencyExplain.errors import Cancelled, ErrorCode
from SaliencyExplain.explanation.explain import explain
from SaliencyExplain.explanation.loaded_references import LoadedReferences
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.images.segmentation import Segment, Segmentation
from SaliencyExplain.models.loading import load_classifier
from Testing.attribution.region_games import (
    METHODS,
    Cubed,
    Game,
    game_task,
    picture_task,
    played,
    random_game,
    segments,
)
from Testing.expected_errors import error_with

SEED = STUDY_SEEDS + 94_000_000


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
    job = dataclasses.replace(job, progress=lambda done, total: told.append((done, total)))
    method = segments(kind)
    cost = method.forward_passes(job)
    method.attribute(job)
    assert told[-1] == (cost, cost)

    def cancel(done, total):
        raise Cancelled

    job = dataclasses.replace(job, progress=cancel)
    with pytest.raises(Cancelled):
        method.attribute(job)


@pytest.mark.parametrize("kind", METHODS)
def test_finding_regions_is_in_the_cost(task, kind):
    torch.manual_seed(0)
    images = [torch.rand(1, 1, *shape) for shape in ((40, 40, 20), (40, 40, 40))]
    jobs = [task(random_game(4), image) for image in images]
    method = kind()
    small, large = (method.seconds_beside(job) - method.seconds_to_estimate(50) for job in jobs)
    assert large == pytest.approx(2 * small, rel=1e-6)
    given, names = torch.ones(40, 40, 40, dtype=torch.int64), ("all",)
    told = dataclasses.replace(jobs[1], regions=given, region_names=names)
    segments_alone = segments(kind).seconds_beside(told)
    assert 0 < segments_alone < small / 5, "nothing is searched for"


def test_regions_of_a_size_are_as_many_as_fit_and_intervals_are_those_of_the_samples(task):
    job = task(random_game(4), torch.rand(1, 1, 40, 40, 40))
    coarse, fine = (Shapley(size_mm=size).seconds_beside(job) for size in (20.0, 10.0))
    # 56 regions more, of 64,000 voxels.
    assert fine - coarse == pytest.approx(56 * 64_000 * 7e-9)
    for kind in (Lime, KernelShap):
        few, many = (kind(samples=count).seconds_beside(job) for count in (300, 1000))
        # Measured 0.07 s with 50 regions; orders have their interval from a sum.
        assert 0.05 < many - few < 0.1
        assert few - Shapley().seconds_beside(job) > 0.1


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
    job = dataclasses.replace(job, region_names=(*job.region_names, "beyond"))
    _, figures = played(segments(Shapley), job)
    beyond = next(row for row in figures["regions"] if row["name"] == "beyond")
    assert beyond["voxels"] == 0
    assert beyond["value"] is beyond["low"] is beyond["high"] is None
    job = dataclasses.replace(job, regions=torch.zeros_like(job.regions))
    with error_with(ErrorCode.SEGMENTATION_EMPTY):
        segments(Shapley).attribute(job)


@pytest.mark.parametrize("kind", METHODS)
def test_segments_are_asked_for(task, kind):
    job = task(ScoreNetwork(random_game(4), "none"), torch.ones(1, 1, 4, 1))
    with error_with(ErrorCode.SEGMENTATION_MISSING, "-s"):
        segments(kind).attribute(job)


@pytest.mark.parametrize("kind", METHODS)
def test_an_image_of_which_nothing_can_be_taken_counts_nothing(task, kind):
    job = picture_task(task, 2)
    job = dataclasses.replace(job, input=torch.ones_like(job.input))
    values, figures = played(kind(regions="segments", fill="mean"), job)
    assert float(values.abs().max()) == 0
    assert all(row["value"] == 0 for row in figures["regions"])


@pytest.mark.slow
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
    given = LoadedReferences(Segmentation(segments_given, phantom.image.affine.numpy(), ()))
    found = explain(
        prepare(phantom.image, honest, GLIOMA, references=given), [kind(regions="segments")]
    ).attributions[0]
    value = {row["name"]: row["value"] for row in found.provenance["figures"]["regions"]}
    assert set(value) == {"tumour", "mirror", "elsewhere"}
    assert value["tumour"] > 0.05
    assert value["tumour"] > 3 * abs(value["mirror"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", METHODS)
def test_of_supervoxels_those_in_the_planted_tumour_count(kind):
    honest = load_classifier(classifier_folder("phantom-2d-honest"))
    phantom = draw_phantom(GLIOMA, SEED, dimensions=2)
    more = {"pairs": 3} if kind is Shapley else {"samples": 300}
    method = kind(output="score", **more)
    found = explain(prepare(phantom.image, honest, GLIOMA), [method]).attributions[0]
    tumour = phantom.masks["tumour"]
    values = np.asarray(found.values).reshape(tumour.shape)
    assert values[tumour].mean() > np.quantile(values, 0.9)
    best = max(found.provenance["figures"]["regions"], key=lambda row: row["value"])
    assert best["low"] > 0
