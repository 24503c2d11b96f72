from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from monai.networks.nets import DenseNet121, resnet18
from torch import nn
from torch.nn import functional

from SaliencyExplain.attribution.methods.score_cam import ScoreCAM
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.attribution.registry import find_method
from SaliencyExplain.errors import Cancelled, ErrorCode
from Testing.expected_errors import error_with


class Pooled(nn.Module):
    """Blocks of 2 x 2 (x 2) are averaged: its cells lie as a stretched map's do."""

    def __init__(self, dims=2, channels=1, classes=3):
        super().__init__()
        convolution = nn.Conv2d if dims == 2 else nn.Conv3d
        self.pool = nn.AvgPool2d(2) if dims == 2 else nn.AvgPool3d(2)
        self.first = convolution(channels, 5, 3, padding=1)
        self.second = convolution(5, 6, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(6, classes)

    def features(self, images):
        return self.second(self.pool(self.first(images))).relu()

    def forward(self, images):
        features = self.relu(self.second(self.pool(self.first(images))))
        return self.fc(features.flatten(2).amax(2) * 10)


def by_the_paper(network, image, target, *, channels=None, score=None, weights="softmax", dark=0.0):
    """Algorithm 1 of Wang et al. 2020, mask by mask, stretched masks."""
    score = score or (lambda images: network(images)[:, target])
    with torch.no_grad():
        maps = network.features(image)[0]
        order = maps.flatten(1).std(1).argsort(descending=True)[:channels]
        gains = []
        for channel in order:
            mask = functional.interpolate(
                maps[channel][None, None],
                size=image.shape[2:],
                mode="bilinear" if image.ndim == 4 else "trilinear",
                align_corners=False,
            )
            mask = (mask - mask.min()) / (mask.max() - mask.min())
            gains.append(score(dark + (image - dark) * mask) - score(torch.full_like(image, dark)))
        alpha = torch.cat(gains)
        if weights == "softmax":
            alpha = alpha.exp() / alpha.exp().sum()
        return (alpha.reshape(-1, *[1] * (maps.ndim - 1)) * maps[order]).sum(0).relu()


@pytest.mark.parametrize("batch_size", [None, 1, 4])
@pytest.mark.parametrize(("dims", "channels"), [(2, 1), (2, 3), (3, 1), (3, 2)])
def test_equals_the_papers_algorithm(task, dims, channels, batch_size):
    network = Pooled(dims, channels)
    image = torch.randn(1, channels, *(12, 16, 8)[:dims])
    found = ScoreCAM(channels=0).raw(task(network, image, 2, batch_size=batch_size))
    assert list(found) == ["relu"]
    expected = by_the_paper(network, image, 2)
    assert float(expected.max()) > 0
    torch.testing.assert_close(found["relu"].values, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("activation", "one_logit"),
    [("softmax", False), ("sigmoid", False), ("none", False), ("sigmoid", True)],
)
@pytest.mark.parametrize("weights", ["softmax", "increase"])
def test_the_probability_is_that_of_the_networks_own_activation(
    task, activation, one_logit, weights
):
    network = Pooled(classes=1 if one_logit else 3)
    image = torch.randn(1, 1, 12, 16)

    def probability(images):
        if one_logit:
            return (-network(images)).sigmoid()[:, 0]
        scores = network(images)
        turn = {"softmax": lambda s: s.softmax(1), "sigmoid": torch.sigmoid, "none": lambda s: s}
        return turn[activation](scores)[:, 0]

    job = task(ScoreNetwork(network, activation, one_logit=one_logit), image, 0)
    found = ScoreCAM(channels=0, output="probability", weights=weights).raw(job)["relu"].values
    expected = by_the_paper(network, image, 0, score=probability, weights=weights)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_only_the_strongest_feature_maps_are_weighed(task, channels):
    network, image, runs = Pooled(), torch.randn(1, 1, 12, 16), []
    network.register_forward_hook(lambda _m, inputs, _o: runs.append(len(inputs[0])))
    method = ScoreCAM(channels=channels)
    job = task(network, image, 1, batch_size=8)
    found = method.raw(job)["relu"].values
    assert sum(runs) == channels + 2 == method.forward_passes(job)
    expected = by_the_paper(network, image, 1, channels=channels)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_what_shows_behind_the_mask_is_chosen(task):
    network, image = Pooled(), torch.randn(1, 1, 12, 16)
    for settings, dark in (
        ({"fill": "minimum"}, float(image.min())),
        ({"fill": "mean"}, float(image.mean())),
        ({"value": 0.7}, 0.7),
    ):
        found = ScoreCAM(channels=0, **settings).raw(task(network, image))["relu"].values
        expected = by_the_paper(network, image, 1, dark=dark)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_masks_lie_where_the_cells_see(task):
    # Convolutions of 3 with stride 2 and padding 1: cell i has its centre at voxel 4 i. A
    # stretched mask would have its peak 1.5 voxels off.
    class Strided(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Conv2d(1, 1, 3, stride=2, padding=1, bias=False)
            self.b = nn.Conv2d(1, 2, 3, stride=2, padding=1, bias=False)
            with torch.no_grad():
                for layer in (self.a, self.b):
                    layer.weight.zero_()
                    layer.weight[:, :, 1, 1] = 1.0
                self.b.weight[1] *= 0.5

        def forward(self, images):
            return self.b(self.a(images)).flatten(2).sum(2)

    image = torch.zeros(1, 1, 33, 29)
    image[0, 0, 20, 8] = 1.0
    seen = []
    network = Strided()
    network.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0].clone()))
    found = ScoreCAM(value=-1.0).attribute(task(network, image, 0))["b"]
    assert np.unravel_index(int(found.argmax()), found.shape) == (20, 8)
    masked = torch.cat(seen)[2:]
    # Of the background -1 shows through with 1 - mask: at the detector's voxel the mask is 1.
    assert (masked[:, 0, 20, 8] == 1).all()
    assert (masked[:, 0, 0, 0] == -1).all()


@pytest.mark.slow
def test_several_layers_each_have_their_map(task):
    network = resnet18(spatial_dims=2, n_input_channels=2, num_classes=2)
    image = torch.randn(1, 2, 64, 60)
    job = task(network, image, spacing=(1.0, 2.0))
    names = ("layer3", "layer2.0.conv1")
    together = ScoreCAM(layers=names, channels=5).attribute(job)
    assert list(together) == list(names)
    for name in names:
        alone = ScoreCAM(layers=(name,), channels=5).attribute(job)
        torch.testing.assert_close(alone[name], together[name], rtol=1e-4, atol=1e-6)
        assert together[name].shape == (64, 60)


def test_the_map_grows_and_ends_as_the_returned_one(task, monkeypatch):
    from SaliencyExplain.attribution.passes import anytime

    monkeypatch.setattr(anytime, "_INTERVAL", 0.0)
    monkeypatch.setattr(anytime, "_PARTS", 0)
    told = []
    network, image = Pooled(), torch.randn(1, 1, 12, 16)
    job = task(network, image, 1, batch_size=2, publish=lambda m, s: told.append((m["relu"], s)))
    found = ScoreCAM(channels=0).attribute(job)["relu"]
    shares = [share for _, share in told]
    assert len(shares) > 2
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert torch.equal(told[-1][0], found)
    first = ScoreCAM(channels=2).attribute(task(network, image))["relu"]
    torch.testing.assert_close(told[0][0], first)


def test_a_deadline_gives_the_strongest_feature_maps_alone(task):
    network, image, figures = Pooled(), torch.randn(1, 1, 12, 16), {}
    late = task(network, image, batch_size=2, deadline=time.perf_counter(), record=figures.update)
    found = ScoreCAM(channels=0).attribute(late)["relu"]
    expected = ScoreCAM(channels=2).attribute(task(network, image))["relu"]
    torch.testing.assert_close(found, expected)
    assert figures["feature_maps"] == {"relu": 2}


def test_feature_maps_that_are_the_same_everywhere_get_no_weight(task):
    network, image = Pooled(), torch.randn(1, 1, 12, 16)
    with torch.no_grad():
        network.second.weight[2] = 0.0
        network.second.bias[2] = 3.0
    figures = {}
    found = ScoreCAM(channels=0).raw(task(network, image, record=figures.update))["relu"].values
    assert figures["feature_maps"]["relu"] == 5
    with torch.no_grad():
        assert (network.features(image)[0, 2] == 3).all()
    assert float(found.max()) < 3
    with torch.no_grad():
        network.second.weight[:] = 0.0
    with error_with(ErrorCode.LAYER_UNSUITABLE, "'relu'", "6 x 8 cells"):
        ScoreCAM().attribute(task(network, image))


def test_a_network_without_a_convolution_is_refused_with_methods_that_work(task):
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 2))
    job = task(network, torch.randn(1, 1, 8, 8))
    for name in ("scorecam", "respondcam", "layer-sweep"):
        with error_with(ErrorCode.LAYER_UNSUITABLE, "Sequential", "occlusion, gradient") as error:
            find_method(name)().attribute(job)
        assert "\n" not in str(error.value)
    for name in ("gradient", "integrated-gradients"):
        assert float(find_method(name)().attribute(job)[""].abs().max()) > 0


@pytest.mark.parametrize(
    ("make", "shape", "passes"),
    [
        (lambda: DenseNet121(spatial_dims=2, in_channels=1, out_channels=2), (64, 64), 1026),
        (lambda: resnet18(spatial_dims=2, n_input_channels=1, num_classes=2), (64, 64), 514),
    ],
)
def test_cost_of_the_whole_algorithm_is_told_before(task, make, shape, passes):
    job = task(make(), torch.randn(1, 1, *shape))
    assert ScoreCAM(channels=0).forward_passes(job) == passes
    assert ScoreCAM().forward_passes(job) == 66


def test_a_cancel_leaves_at_once(task):
    def cancel(done, total):
        raise Cancelled

    runs, network = [], Pooled()
    network.register_forward_hook(lambda *_: runs.append(1))
    job = task(network, torch.randn(1, 1, 12, 16), batch_size=1, progress=cancel)
    with pytest.raises(Cancelled):
        ScoreCAM(channels=0).attribute(job)
    assert len(runs) == 3
