"""The incremental scores are those of plain forward passes, for every network of MONAI."""

from __future__ import annotations

import dataclasses
import logging
import threading
from itertools import product

import numpy as np
import pytest
import torch
from monai.networks.nets import DenseNet121, ResNet, resnet18
from torch import nn

from SaliencyExplain.attribution.graph.symbolic_trace import NotTraceable
from SaliencyExplain.attribution.incremental import box_propagation
from SaliencyExplain.attribution.incremental.inference import IncrementalInference
from SaliencyExplain.attribution.methods.occlusion import Occlusion
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.attribution.perturbation import occlusion_scorer
from SaliencyExplain.errors import Cancelled
from Testing.attribution.incremental_checks import LAYERS, Branches, largest_difference
from Testing.networks import MONAI_NETWORKS, monai_network, trained
from Testing.waiting import HUNG


@pytest.mark.slow
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", [name for name in MONAI_NETWORKS if name != "ViT"])
def test_equals_plain_forward_passes(name, dims):
    shape = (32,) * dims if name not in ("DenseNet", "ResNet", "EfficientNet") else (41, 33, 38)
    network = trained(monai_network(name, dims))
    image = torch.randn(1, 1, *shape[:dims])
    difference, _ = largest_difference(network, image, (9, 6, 5)[:dims], 7)
    assert difference < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(64, 64), (97, 61)])
def test_equals_plain_forward_passes_of_the_real_sizes(shape):
    for network in (
        DenseNet121(spatial_dims=2, in_channels=2, out_channels=3),
        resnet18(spatial_dims=2, n_input_channels=2, num_classes=3),
    ):
        image = torch.randn(1, 2, *shape)
        difference, inference = largest_difference(trained(network), image, (8, 6), 5)
        assert difference < 1e-5
        assert inference.share(np.zeros((1, 2), dtype=int), (8, 6)) < 0.9


@pytest.mark.parametrize("name", list(LAYERS))
def test_each_kind_of_layer_in_the_middle_of_a_network(name):
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        LAYERS[name],
        nn.LazyConv2d(5, 2),
        nn.Flatten(),
        nn.LazyLinear(3),
    ).eval()
    image = torch.randn(1, 1, 29, 34)
    with torch.no_grad():
        network(image)
    assert largest_difference(network, image, (4, 7), 3)[0] < 1e-5


def test_branches():
    assert largest_difference(Branches().eval(), torch.randn(1, 3, 24, 26), (5, 3), 4)[0] < 1e-5


def test_pruned_normalisation_is_exact_too():
    network = trained(monai_network("DenseNet", 2))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data[:2] = torch.tensor([0.0, 1e-20])
    assert largest_difference(network, torch.randn(1, 1, 40, 40), (6, 6), 9)[0] < 1e-5


def job_of(task, network, **settings):
    image = torch.randn(1, 1, 48, 40)
    return task(network, image, 1, **settings), Occlusion(window_mm=8, stride_mm=8, fill="value")


def test_map_is_that_of_plain_passes_and_far_fewer_run(task, monkeypatch):
    network, passes = trained(monai_network("ResNet", 2)), []
    wrapped = ScoreNetwork(network)
    job, method = job_of(task, wrapped)
    inner = ScoreNetwork.forward
    monkeypatch.setattr(
        ScoreNetwork, "forward", lambda self, x: passes.append(len(x)) or inner(self, x)
    )
    found = method.attribute(job)[""]
    assert sum(passes) < 5
    monkeypatch.setattr(occlusion_scorer, "_PASSES_WORTHWHILE", float("inf"))
    expected = method.attribute(job)[""]
    assert sum(passes) > 30
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_weights_changed_between_two_maps_are_noticed(task):
    network = trained(monai_network("ResNet", 2))
    job, method = job_of(task, network)
    before = method.attribute(job)[""]
    with torch.no_grad():
        network.fc.weight.mul_(-1)
        network.layer2[0].bn1.running_mean.add_(0.5)
    after = method.attribute(job)[""]
    with torch.no_grad():
        original, covered = job.input, job.input.clone()
        covered[..., :8, :8] = 0
        drop = job.network(original).softmax(1)[0, 1] - job.network(covered).softmax(1)[0, 1]
    assert after[0, 0] == pytest.approx(float(drop), abs=1e-6)
    assert (before - after).abs().max() > 1e-4


class Unlike(nn.Module):
    """Traces well, but does something else when it runs: the trace must not be believed."""

    def __init__(self):
        super().__init__()
        self.body, self.calls = monai_network("ResNet", 2), 0

    def forward(self, images):
        return self.body(images) * (1 if isinstance(images, torch.fx.Proxy) else 2)


@pytest.mark.parametrize("kind", ["ViT", "unlike", "hooks"])
def test_what_cannot_be_traced_runs_plainly_and_says_so(task, caplog, kind):
    network = (
        Unlike() if kind == "unlike" else monai_network("ViT" if kind == "ViT" else "ResNet", 2)
    )
    if kind == "hooks":
        network.layer2.register_forward_hook(lambda _module, _inputs, output: output + 1)
    shape = (32, 32)
    job = task(network, torch.randn(1, 1, *shape))
    with caplog.at_level(logging.INFO):
        found = Occlusion(window_mm=8, stride_mm=4, fill="value").attribute(job)[""]
    assert "whole forward passes" in caplog.text.lower()
    image = job.input.clone()
    image[..., :8, :8] = 0
    with torch.no_grad():
        expected = job.network(job.input).softmax(1)[0, 1] - job.network(image).softmax(1)[0, 1]
    assert found[0, 0] == pytest.approx(float(expected), abs=1e-6)


def test_memory_that_does_not_suffice_for_the_maps_of_the_image(task):
    network, image = ScoreNetwork(monai_network("ResNet", 2)).eval(), torch.randn(1, 1, 32, 32)
    with pytest.raises(NotTraceable, match="not free"):
        IncrementalInference(network, image, (4, 4), memory=1000.0)


def changed_by_hand(image, corners, contents):
    """The images with a box each replaced."""
    changed = image.repeat(len(corners), *[1] * (image.ndim - 1))
    for one, corner, content in zip(changed, corners, contents, strict=True):
        inside = (slice(n, n + m) for n, m in zip(corner, content.shape[1:], strict=True))
        one[(slice(None), *inside)] = content
    return changed


@pytest.mark.slow
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", [name for name in MONAI_NETWORKS if name != "ViT"])
def test_one_state_serves_boxes_of_any_size_at_any_place(name, dims):
    shape = (32,) * dims if name not in ("DenseNet", "ResNet", "EfficientNet") else (41, 33, 38)
    network = ScoreNetwork(trained(monai_network(name, dims)))
    image = torch.randn(1, 1, *shape[:dims])
    warm = IncrementalInference(network, image, (1,) * dims)
    for corners, sizes in (
        ([(0, 0, 0)], [(1, 1, 1)]),
        ([(30, 31, 31), (3, 8, 1), (12, 1, 17)], [(2, 1, 1), (20, 17, 22), (5, 9, 3)]),
        ([(6, 5, 4), (0, 0, 0)], [(4, 5, 6), shape]),
    ):
        places = [corner[:dims] for corner in corners]
        contents = [20 * torch.randn(1, *size[:dims]) for size in sizes]
        with torch.no_grad():
            expected = network(changed_by_hand(image, places, contents))
        found = warm.scores_of(places, contents)
        assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_small_and_large_boxes_run_apart_until_they_fill_the_maps(monkeypatch):
    network = ScoreNetwork(trained(DenseNet121(2, 1, 3)))
    image = torch.randn(1, 1, 192, 192)
    warm = IncrementalInference(network, image, (1, 1))
    corners, contents = [(0, 3), (90, 90)], [torch.ones(1, 150, 160), torch.ones(1, 2, 2)]
    joined, inner = [], box_propagation.Run.joined.__func__
    monkeypatch.setattr(
        box_propagation.Run,
        "joined",
        classmethod(lambda cls, runs: joined.append(len(runs)) or inner(cls, runs)),
    )
    found = warm.scores_of(corners, contents)
    assert joined == [2]
    with torch.no_grad():
        expected = network(changed_by_hand(image, corners, contents))
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert warm.cached_bytes > 64 * 96 * 96 * 4, "at least the maps of the first layer are kept"


def test_a_larger_smallest_window_keeps_no_more():
    network, image = (
        ScoreNetwork(trained(monai_network("ResNet", 3))),
        torch.randn(1, 1, 32, 32, 32),
    )
    kept = [IncrementalInference(network, image, (n, n, n)).cached_bytes for n in (1, 12, 28)]
    assert kept == sorted(kept, reverse=True)
    assert kept[0] > kept[-1] > 0


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("together", [1, 2, 3, 0])
def test_boxes_of_one_size_for_few_windows_and_then_one_batch(dims, together):
    network = ScoreNetwork(trained(monai_network("DenseNet", dims)))
    shape, window = (41, 38, 33)[:dims], (9, 6, 7)[:dims]
    image = torch.randn(1, 1, *shape)
    warm = IncrementalInference(network, image, window)
    corners = np.array([(0, 0, 0), (3, 20, 26), (32, 32, 1), (15, 9, 12), (31, 4, 7)])[:, :dims]
    contents = torch.randn(5, 1, *window)
    with torch.no_grad():
        expected = network(changed_by_hand(image, corners.tolist(), contents))
    found = warm.scores(corners, contents, together)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_fewer_windows_share_a_size_where_boxes_are_dear():
    found = []
    for features, growth in ((4, 2), (128, 64)):
        network = ScoreNetwork(DenseNet121(3, 1, 3, features, growth, (2, 2)).eval())
        warm = IncrementalInference(network, torch.randn(1, 1, 64, 64, 64), (8, 8, 8))
        found.append(warm.together(np.array(list(product(range(0, 57, 8), repeat=3))), (8, 8, 8)))
    assert found[0] > found[1]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ResNet", "DenseNet", "ViT"])
def test_several_channels_odd_sizes_a_thin_slab_and_a_batch_of_one(task, kind, monkeypatch):
    shape = (37, 41, 9) if kind != "ViT" else (32, 32, 32)
    network = {
        "ResNet": lambda: trained(
            ResNet("basic", (1, 1, 1, 1), (4, 8, 8, 8), n_input_channels=3, num_classes=3)
        ),
        "DenseNet": lambda: trained(DenseNet121(3, 3, 3, 8, 4, (2, 2))),
        "ViT": lambda: monai_network("ViT", 3),
    }[kind]()
    image = torch.randn(1, 1 if kind == "ViT" else 3, *shape)
    # 10 x 5 x 2 voxels, a step that divides no side: the last window lies flush with the border.
    method = Occlusion(window_mm=10, stride_mm=9, fill="inpaint")
    settings = {"spacing": (1.0, 2.0, 5.0), "batch_size": 1}
    if kind == "ViT":
        method = Occlusion(window_mm=20, stride_mm=20, fill="inpaint")
    found = method.attribute(task(network, image, **settings))[""]
    monkeypatch.setattr(occlusion_scorer, "_PASSES_WORTHWHILE", float("inf"))
    expected = method.attribute(task(network, image, **settings))[""]
    assert expected.abs().max() > 1e-6
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_a_cancel_from_another_thread_in_the_middle_leaves_the_network_clean(task):
    network = trained(monai_network("ResNet", 2)).train()
    job, method = job_of(task, network)
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    started, stop, raised = threading.Event(), threading.Event(), []

    def progress(done, total):
        if done > 1:
            started.set()
            stop.wait(HUNG)
        if stop.is_set():
            raise Cancelled

    def work():
        try:
            method.attribute(dataclasses.replace(job, progress=progress, batch_size=2))
        except Cancelled as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert started.wait(HUNG)
    stop.set()
    thread.join(HUNG)
    assert len(raised) == 1
    assert all(module.training for module in network.modules())
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
