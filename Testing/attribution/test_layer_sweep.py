from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.networks.nets import DenseNet121, resnet18
from torch import nn

from SaliencyExplain.attribution.methods.cam import GradCAM
from SaliencyExplain.attribution.methods.layer_sweep import LayerSweep
from SaliencyExplain.attribution.network.score_network import ScoreNetwork


def network(dims, channels=1, classes=2):
    convolution, pool = (nn.Conv2d, nn.AvgPool2d) if dims == 2 else (nn.Conv3d, nn.AvgPool3d)
    return nn.Sequential(
        convolution(channels, 4, 3, padding=1),
        nn.ReLU(inplace=True),
        pool(2),
        convolution(4, 5, 3, padding=1),
        nn.ReLU(inplace=True),
        convolution(5, 5, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.LazyLinear(classes),
    )


def made(dims, image, **settings):
    body = network(dims, image.shape[1], **settings)
    body(image)
    return body


def by_the_paper(body, image, layer, target):
    """Equations 6 and 7 of Jiang et al. 2021."""
    features = body[: layer + 1](image).detach().clone().requires_grad_()
    score = body[layer + 1 :](features * 1)[0, target]
    (gradient,) = torch.autograd.grad(score, features)
    return (gradient[0].relu() * features[0].detach()).sum(0).relu()


@pytest.mark.parametrize(("dims", "channels"), [(2, 1), (3, 2)])
def test_each_layers_map_equals_the_papers_equations(task, dims, channels):
    image = torch.randn(1, channels, *(8, 12, 10)[:dims])
    body = made(dims, image)
    found = LayerSweep(which="all").raw(task(body, image))
    assert list(found) == ["0", "1", "3", "4", "5", "6"]
    for layer, cells in found.items():
        expected = by_the_paper(body, image, int(layer), 1)
        torch.testing.assert_close(cells.values, expected, rtol=1e-4, atol=1e-6)
    assert list(LayerSweep().raw(task(body, image))) == ["1", "6"]
    named = LayerSweep(layers=("5", "0")).raw(task(body, image))
    assert list(named) == ["5", "0"]
    torch.testing.assert_close(named["0"].values, found["0"].values)


@pytest.mark.slow
def test_stages_end_with_their_last_activation_function(task):
    dense = DenseNet121(spatial_dims=2, in_channels=1, out_channels=2)
    assert list(LayerSweep().raw(task(dense, torch.randn(1, 1, 64, 64)))) == [
        "features.relu0",
        "features.transition1.relu",
        "features.transition2.relu",
        "features.transition3.relu",
        "class_layers.relu",
    ]
    # Without any, the last convolutions of two sizes.
    plain = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3)
    )
    body = nn.Sequential(plain, nn.Flatten(), nn.Linear(2 * 36, 2))
    assert list(LayerSweep().raw(task(body, torch.randn(1, 1, 8, 8)))) == ["0.1", "0.2"]


@pytest.mark.parametrize("combine", ["maximum", "mean"])
def test_the_combined_map_is_that_of_the_layers_given_with_it(task, combine):
    image = torch.randn(1, 1, 12, 16)
    body = made(2, image)
    found = LayerSweep(which="all", combine=combine, each=True).attribute(task(body, image))
    combined = found.pop("")
    assert list(found) == ["0", "1", "3", "4", "5", "6"]
    scaled = torch.stack([torch.tanh(2 * values / values.max()) for values in found.values()])
    expected = scaled.amax(0) if combine == "maximum" else scaled.mean(0)
    torch.testing.assert_close(combined, expected)
    if combine == "maximum":
        assert float(combined.max()) == pytest.approx(np.tanh(2))
    alone = LayerSweep(which="all", combine=combine).attribute(task(body, image))
    assert list(alone) == [""]
    assert torch.equal(alone[""], combined)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_sweep_of_gradcam_equals_gradcam_of_each_layer(task, dims):
    body = DenseNet121(spatial_dims=dims, in_channels=1, out_channels=3)
    job = task(body, torch.randn(1, 1, *(64, 48, 40)[:dims]), 2)
    method = LayerSweep(rule="gradcam", each=True)
    found = method.attribute(job)
    names = [name for name in found if name]
    assert names[0] == "features.relu0"
    expected = GradCAM(layers=tuple(names)).attribute(job)
    for name in names:
        scale = float(expected[name].max())
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5 * scale)


def test_all_layers_cost_one_forward_and_one_backward_pass(task):
    body = resnet18(spatial_dims=2, n_input_channels=1, num_classes=2)
    forward, backward = [], []
    body.register_forward_hook(lambda *_: forward.append(1))
    body.fc.register_full_backward_hook(lambda *_: backward.append(1))
    job = task(body, torch.randn(1, 1, 64, 64))
    found = LayerSweep(which="all").raw(job)
    assert len(found) > 25
    assert (len(forward), len(backward)) == (1, 1)
    # And what keeping them takes: measured 2.0 to 2.9 in all; a gradient alone states 2.
    assert LayerSweep().forward_passes(job) == pytest.approx(2.5)
    # Maps of one cell show no place.
    assert all(cells.values.numel() > 1 for cells in found.values())


def test_every_layers_map_takes_its_time_on_the_images_grid(task):
    image = torch.randn(1, 1, 40, 40, 40)
    job = task(network(3), image)
    one = LayerSweep(layers=("0",)).seconds_beside(job)
    # Measured 2.5 ms for a map of 64 x 64 x 64 voxels.
    assert 1e-4 < one < 2e-3
    assert LayerSweep(which="all").seconds_beside(job) == pytest.approx(6 * one)
    assert LayerSweep(layers=("0", "3")).seconds_beside(job) == pytest.approx(2 * one)


def test_one_logit_and_a_score_that_nothing_speaks_for(task):
    image = torch.rand(1, 1, 8, 8)
    body = made(2, image, classes=1)
    for target, sign in ((0, -1), (1, 1)):
        job = task(ScoreNetwork(body, one_logit=True), image, target)
        found = LayerSweep().raw(job)["6"].values
        weights = body[8].weight[0].detach().reshape(5, 4, 4)
        features = body[:7](image)[0].detach()
        expected = ((sign * weights).relu() * features).sum(0)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        body[8].weight.zero_()
    found = LayerSweep().attribute(task(ScoreNetwork(body, one_logit=True), image))[""]
    assert torch.equal(found, torch.zeros(8, 8))


def test_coarse_and_fine_layers_of_a_detector_land_on_its_voxel(task):
    class Detector(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(
                nn.Conv3d(1, 1, 3, stride=stride, padding=1, bias=False) for stride in (1, 2, 2)
            )
            with torch.no_grad():
                for layer in self.layers:
                    layer.weight.zero_()
                    layer.weight[0, 0, 1, 1, 1] = 1

        def forward(self, images):
            for layer in self.layers:
                images = layer(images)
            return torch.stack([-images[:, 0, 3, 1, 2], images[:, 0, 3, 1, 2]], dim=1)

    image = torch.rand(1, 1, 21, 17, 19)
    found = LayerSweep(each=True).attribute(task(Detector(), image, spacing=(1.0, 1.0, 3.0)))
    assert len(found) == 4
    for values in found.values():
        place = torch.unravel_index(values.argmax(), values.shape)
        assert tuple(int(i) for i in place) == (12, 4, 8)


class Streams(nn.Module):
    """Class 1 is a bright spot; what the stream that sees dark ones gives hardly counts.

    Args:
        dims: Of the image.
        kind: How the streams are made and meet.
    """

    def __init__(self, dims, kind):
        super().__init__()
        make = nn.Conv2d if dims == 2 else nn.Conv3d
        self.kind = kind
        self.bright = make(1, 1, 4, stride=4, bias=False)
        self.dark = make(1, 1, 4, stride=8 if kind == "two grids" else 4, bias=False)
        self.later = make(1, 1, 3, stride=2, padding=1, bias=False)
        self.bright.weight.data.fill_(4.0**-dims)
        self.dark.weight.data.fill_(-(4.0**-dims))
        self.later.weight.data.fill_(3.0**-dims)

    def forward(self, images):
        bright, dark = self.bright(images).relu(), self.dark(images).relu()
        if self.kind == "dark stream is deeper":
            dark = self.later(dark).relu()
        elif self.kind == "bright stream is deeper":
            bright = self.later(bright).relu()
        elif self.kind == "shared encoder":
            dark = self.bright(-images[..., ::2]).relu()
        score = bright.flatten(2).mean(2) + 0.05 * dark.flatten(2).mean(2)
        return torch.cat([-score, score], 1)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("combine", ["mean", "maximum"])
@pytest.mark.parametrize(
    "kind",
    [
        "one grid",
        "two grids",
        "shared encoder",
        "dark stream is deeper",
        "bright stream is deeper",
    ],
)
def test_a_stream_that_hardly_counts_stays_faint(task, kind, combine, dims):
    bright, dark = (slice(20, 28), slice(4, 12), slice(4, 12)), (slice(4, 12), slice(20, 32))
    image = torch.zeros(1, 1, *(32, 32, 16)[:dims])
    image[(0, 0, *bright[:dims])] = 1
    image[(0, 0, *dark[:dims])] = -1
    found = LayerSweep(combine=combine).attribute(task(Streams(dims, kind), image))[""]
    place = torch.unravel_index(found.argmax(), found.shape)
    assert all(a.start <= int(n) < a.stop for a, n in zip(bright, place, strict=False))
    assert float(found[dark[:dims]].max()) < 0.7 * float(found.max())
