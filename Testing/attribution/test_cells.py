"""A heat map lies where the layer's cells look, not where stretching puts it."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import DenseNet121, resnet18
from torch import nn
from torch.nn import functional

from SaliencyExplain.attribution.graph.feature_map_grid import FeatureMap
from SaliencyExplain.attribution.graph.network_structure import analyse
from SaliencyExplain.attribution.methods.cam import CAM, GradCAM
from SaliencyExplain.attribution.network.score_network import ScoreNetwork


class Pooled(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, images):
        return self.body(images).flatten(2).mean(2)


def layout_of(body, shape):
    """Where the cells of a body's output lie."""
    network = ScoreNetwork(Pooled(body).eval())
    return analyse(network, torch.rand(1, 1, *shape)).outputs["body"].spots[-1].layout


def place_of_cell(body, shape, cell):
    """Centre of gravity of what a cell sees: all weights equal, no activation."""
    for module in body.modules():
        if hasattr(module, "weight") and module.weight is not None:
            nn.init.constant_(module.weight, 1.0)
            nn.init.constant_(module.bias, 0.0) if module.bias is not None else None
    image = torch.zeros(1, 1, *shape, requires_grad=True, dtype=torch.float64)
    (seen,) = torch.autograd.grad(body.double()(image)[(0, 0, *cell)], image)
    axes = [torch.arange(size).double() for size in shape]
    total = seen.sum()
    return [
        float((seen[0, 0].sum([a for a in range(len(shape)) if a != axis]) * along).sum() / total)
        for axis, along in enumerate(axes)
    ]


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2d(1, 2, 3, stride=2, padding=1), nn.Conv2d(2, 2, 3, stride=2, padding=1)],
        [nn.Conv2d(1, 2, 7, stride=2, padding=3), nn.AvgPool2d(3, 2, 1)],
        [nn.Conv2d(1, 2, 5), nn.AvgPool2d(2), nn.Conv2d(2, 2, 3)],
        [nn.Conv2d(1, 2, 3, padding="same", dilation=2), nn.Conv2d(2, 2, 3, padding="valid")],
        [nn.ZeroPad2d((1, 0, 2, 1)), nn.Conv2d(1, 2, (4, 2), stride=(4, 2))],
        [nn.Conv2d(1, 2, 8, stride=8)],
        [nn.Conv2d(1, 2, 3, padding=1), nn.AdaptiveAvgPool2d((6, 4))],
    ],
    ids=["odd strides", "resnet stem", "valid", "same", "pads", "patches", "adaptive"],
)
def test_placement_is_the_centre_of_what_a_cell_sees(layers):
    body, shape = nn.Sequential(*layers), (48, 32)
    layout = layout_of(body, shape)
    placement = layout.placement
    cell = tuple(size // 2 for size in layout.counts)
    expected = place_of_cell(body, shape, cell)
    found = [scale * i + offset for i, (scale, offset) in zip(cell, placement, strict=True)]
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("network", "cells", "expected"),
    [
        (resnet18(spatial_dims=2, n_input_channels=1, num_classes=2), 4, (16.0, 0.0)),
        (DenseNet121(spatial_dims=2, in_channels=1, out_channels=2), 2, (32.0, 14.0)),
    ],
)
def test_last_layers_of_the_known_networks(network, cells, expected):
    found = analyse(ScoreNetwork(network.eval()), torch.rand(1, 1, 64, 64)).targets
    (layout,) = (spot.layout for spot in found)
    assert layout.counts == (cells, cells)
    assert layout.placement == (expected,) * 2


class Functions(nn.Module):
    """Strides, pads and pooling by functions and slices."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(2, 1, 4, 3)), None

    def forward(self, images):
        images = functional.pad(images, (2, 1, 0, 3))[:, :, 1::2]
        images = functional.conv2d(images, self.weight.to(images), stride=(1, 2), padding=(1, 0))
        return functional.avg_pool2d(images, 3, 2, 1).flip(-1)[..., 1:]


def test_functions_are_followed_as_layers_are():
    body, shape = Functions(), (48, 33)
    layout = layout_of(body, shape)
    cell = tuple(size // 2 for size in layout.counts)
    expected = place_of_cell(body, shape, cell)
    found = [scale * i + offset for i, (scale, offset) in zip(cell, layout.placement, strict=True)]
    assert found == pytest.approx(expected, abs=1e-6)
    assert layout.scale[1] < 0


@pytest.mark.parametrize(("size", "cells"), [((32, 24), (8, 6)), ((30, 21, 8), (7, 5, 2))])
def test_cells_that_fill_the_image_are_stretched_as_monai_does(size, cells):
    values = torch.rand(cells)
    mode = "bilinear" if len(size) == 2 else "trilinear"
    expected = functional.interpolate(values[None, None], size=size, mode=mode)[0, 0]
    scales = [voxels / count for voxels, count in zip(size, cells, strict=True)]
    placement = tuple((scale, (scale - 1) / 2) for scale in scales)
    torch.testing.assert_close(FeatureMap(values, size, placement).upsampled(), expected)


class SpotDetector(nn.Module):
    """Sees bright spots with strided convolutions of odd kernels, whose cells lie at 4 i."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 1, 3, stride=2, padding=1), nn.Conv2d(1, 1, 3, stride=2, padding=1)
        )
        for convolution in self.body:
            nn.init.constant_(convolution.weight, 1.0)
            nn.init.constant_(convolution.bias, 0.0)
        self.fc = nn.Linear(1, 2, bias=False)
        self.fc.weight.data = torch.tensor([[-1.0], [1.0]])

    def forward(self, images):
        return self.fc(self.body(images).mean((2, 3)))


@pytest.mark.parametrize("method", [GradCAM(), CAM()])
@pytest.mark.parametrize("place", [(20, 40), (32, 12)])
def test_spot_is_found_at_its_voxel(task, method, place):
    image = torch.zeros(1, 1, 64, 64)
    image[(0, 0, *place)] = 1.0
    (values,) = method.attribute(task(SpotDetector(), image)).values()
    peak = divmod(int(values.argmax()), 64)
    assert peak == place
