"""A GPU's way of carrying windows through a network: the same scores, a few launches a batch.

It runs here on the CPU, and on tensors that know their device but hold no numbers.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from monai.networks.nets import DenseNet121, resnet18
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from SaliencyExplain.attribution.incremental import cutting
from SaliencyExplain.attribution.incremental.box_propagation import Run, Schedule
from SaliencyExplain.attribution.incremental.boxes import Boxes
from SaliencyExplain.attribution.incremental.inference import IncrementalInference
from SaliencyExplain.attribution.incremental.network_steps import network_steps
from SaliencyExplain.attribution.network.frozen_network import exact_convolutions, untouched
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.attribution.passes import batches
from Testing.attribution.incremental_checks import LAYERS, Branches, largest_difference
from Testing.networks import monai_network, trained


@pytest.fixture
def gathers(monkeypatch):
    """Lets the CPU cut boxes as a GPU does."""
    monkeypatch.setattr(cutting, "_BY_SLICES", ())


@pytest.mark.slow
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", ["DenseNet", "ResNet", "EfficientNet", "SENet"])
@pytest.mark.usefixtures("gathers")
def test_networks_equal_plain_forward_passes(name, dims):
    image = torch.randn(1, 1, *(41, 33, 38)[:dims])
    network = trained(monai_network(name, dims))
    assert largest_difference(network, image, (9, 6, 5)[:dims], 7)[0] < 1e-5


@pytest.mark.parametrize("name", list(LAYERS))
@pytest.mark.usefixtures("gathers")
def test_each_kind_of_layer_in_the_middle_of_a_network(name):
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), LAYERS[name], nn.LazyConv2d(5, 2), nn.Flatten()
    )
    network.append(nn.LazyLinear(3)).eval()
    image = torch.randn(1, 1, 29, 34)
    with torch.no_grad():
        network(image)
    assert largest_difference(network, image, (4, 7), 3)[0] < 1e-5


@pytest.mark.usefixtures("gathers")
def test_branches():
    assert largest_difference(Branches().eval(), torch.randn(1, 3, 24, 26), (5, 3), 4)[0] < 1e-5


@pytest.mark.parametrize("axes", [2, 3])
def test_both_ways_cut_the_same_boxes(axes, monkeypatch):
    generator = np.random.default_rng(axes)
    size, count = (11, 9, 8)[:axes], 5
    kept = torch.randn(1, 6, *size)
    for _ in range(30):
        shape = tuple(int(generator.integers(1, n + 1)) for n in size)
        first = np.stack(
            [generator.integers(0, n - w + 1, count) for n, w in zip(size, shape, strict=True)], 1
        )
        value = torch.randn(count, 6, *shape)
        asked = tuple(int(generator.integers(1, n + 4)) for n in size)
        # Boxes that meet those that changed, or not, and stick out of the map.
        boxes = Boxes(first + generator.integers(-4, 3, (count, axes)), asked)
        found = []
        for by_slices in (("cpu",), ()):
            monkeypatch.setattr(cutting, "_BY_SLICES", by_slices)
            found.append(cutting.cut(value, Boxes(first, shape), kept, boxes, size, -7.0))
        assert torch.equal(*found)


class Counting(TorchDispatchMode):
    """Counts operations; each is a launch or two on a GPU, but for views."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.usefixtures("gathers")
def test_many_windows_take_no_more_launches_than_few_and_nothing_waits():
    network = ScoreNetwork(trained(monai_network("DenseNet", 3)))
    image = torch.randn(1, 1, 48, 48, 48)
    corners = np.array(list(product((0, 9, 21, 38), (3, 16, 27, 40), (0, 8))))
    names = {}
    with untouched(network):
        inference = IncrementalInference(network, image, (8, 8, 8))
        for count in (8, 32):
            with Counting() as counting:
                inference.scores(corners[:count], torch.zeros(count, 1, 8, 8, 8))
            names[count] = counting.names
    assert len(names[32]) <= len(names[8])
    waiting = ("_local_scalar_dense", "nonzero", "is_nonzero", "masked_select")
    assert not [name for name in names[32] if any(word in name for word in waiting)]


@pytest.mark.parametrize("build_network", [DenseNet121, resnet18], ids=["DenseNet121", "ResNet18"])
def test_nothing_of_a_batch_is_left_on_another_device(build_network):
    """Tensors without numbers object when another device meets them or a number is asked for."""
    settings = (
        {"in_channels": 1, "out_channels": 3}
        if build_network is DenseNet121
        else {"n_input_channels": 1, "num_classes": 3}
    )
    corners = np.array([[0, 0, 0], [8, 30, 41], [48, 48, 48], [20, 11, 7]])
    with torch.device("meta"), torch.no_grad():
        network = build_network(spatial_dims=3, **settings).eval()
        image = torch.empty(1, 1, 64, 64, 64)
        steps = network_steps(network, image)
        schedule = Schedule(steps, (16, 16, 16), image.device)
        kept = {}
        whole = {step: Boxes.whole(1, step.size) for step in steps if step.is_map}
        last = torch.channels_last_3d
        Run(schedule, whole, 1, kept, last, keep=True).scores(image)
        contents = torch.empty(4, 1, 16, 16, 16)
        boxes = schedule.boxes(corners, (16, 16, 16))
        scores = Run(schedule, boxes, 4, kept, last).scores(contents)
    assert scores.shape == (4, 3)
    assert scores.device.type == "meta"


def gain(network, image, window):
    """Expected gain of a GPU for windows in the middle of an image."""
    with untouched(ScoreNetwork(network)):
        schedule = Schedule(network_steps(network, image), window, torch.device("cuda"))
    corners = np.array(
        list(
            product(
                *(range(0, n - w, w // 2) for n, w in zip(image.shape[2:], window, strict=True))
            )
        )
    )
    return schedule.gain(corners[:128], window)


def test_a_gpu_takes_windows_through_large_networks_and_not_through_small_ones():
    large = DenseNet121(spatial_dims=3, in_channels=1, out_channels=3).eval()
    assert gain(large, torch.zeros(1, 1, 96, 96, 96), (16, 16, 16)) > 1.5
    small = nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    ).eval()
    assert gain(small, torch.zeros(1, 1, 32, 32, 32), (4, 4, 4)) < 1


def test_batches_are_larger_where_an_image_takes_less_of_a_pass(task, monkeypatch):
    monkeypatch.setattr(batches, "free_memory", lambda device: 64 * 2**30)
    on_cpu = task(nn.Flatten(), torch.zeros(1, 1, 96, 96, 96))
    assert batches.batch_size(on_cpu, 2**20, 0.25) == batches.batch_size(on_cpu, 2**20)
    elsewhere = torch.empty(1, 1, 96, 96, 96, device="meta")
    on_gpu = task(nn.Flatten(), elsewhere)
    assert batches.batch_size(on_gpu, 2**20, 0.25) == 4 * batches.batch_size(on_gpu, 2**20)


def test_convolutions_of_a_gpu_are_exact_meanwhile_and_the_callers_setting_comes_back():
    from torch.backends import cudnn

    settings, name = (
        (cudnn.conv, "fp32_precision") if hasattr(cudnn, "conv") else (cudnn, "allow_tf32")
    )
    before = getattr(settings, name), cudnn.deterministic
    with exact_convolutions():
        assert getattr(settings, name) in ("ieee", False)
        assert cudnn.deterministic
    assert (getattr(settings, name), cudnn.deterministic) == before
