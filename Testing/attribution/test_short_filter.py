"""The convolution with fewer products against the plain one in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from monai.networks.nets import resnet18
from torch import nn

from SaliencyExplain.attribution.incremental.folding import fold, pack
from SaliencyExplain.attribution.incremental.layer_operations import Convolution
from SaliencyExplain.attribution.incremental.network_steps import network_steps
from SaliencyExplain.attribution.incremental.short_filter import ShortFilter, pays

CONVOLUTIONS = {2: F.conv2d, 3: F.conv3d}
CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}

pytestmark = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_convolution_pointwise"), reason="torch without oneDNN"
)


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("length", [3, 4, 5, 6, 7, 8, 9, 13])
def test_it_is_the_convolution(axes: int, padding: int, length: int) -> None:
    torch.manual_seed(length)
    size = (length, 7, 9)[:axes]
    weight, bias = torch.randn(12, 20, *(3, 5, 2)[:axes]), torch.randn(12)
    stride, holes, borders = [1, 2, 1][:axes], [1, 1, 3][:axes], [padding, 2, 0][:axes]
    values = torch.randn(3, 20, *size).contiguous(memory_format=CHANNELS_LAST[axes])
    short = ShortFilter.of(weight, stride, borders, holes, size)
    found = short(values, borders, bias, relu=True)
    expected = CONVOLUTIONS[axes](
        values.double(), weight.double(), bias.double(), stride, borders, holes
    ).relu()
    assert found.shape == expected.shape
    assert float((found - expected).abs().max() / expected.abs().max()) < 5e-6


def test_images_do_not_depend_on_those_beside_them() -> None:
    """A batch too large for the sums at a time is computed in parts."""
    torch.manual_seed(0)
    weight = torch.randn(8, 32, 3, 3, 3)
    short = ShortFilter.of(weight, [1] * 3, [1] * 3, [1] * 3, (10, 40, 40))
    values = torch.randn(3, 32, 10, 40, 40).contiguous(memory_format=torch.channels_last_3d)
    together = short(values, [1] * 3, None, relu=False)
    alone = torch.cat([short(one[None], [1] * 3, None, relu=False) for one in values])
    assert torch.allclose(together, alone, rtol=0, atol=1e-5 * float(alone.abs().max()))
    expected = F.conv3d(values, weight, padding=1)
    assert torch.allclose(together, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.slow
def test_it_serves_where_products_are_many() -> None:
    assert pays((64, 64, 3, 3, 3), 24, 1)
    assert not pays((64, 1, 3, 3, 3), 24, 1)  # an image's single channel: sums cost more
    assert not pays((32, 128, 3, 3, 3), 3, 1)  # a third of the products meets the border
    network = resnet18(spatial_dims=3, n_input_channels=1, num_classes=3).eval()
    steps = fold(network_steps(network, torch.randn(1, 1, 32, 32, 32)))
    pack(steps, torch.channels_last_3d)
    layers = [step.operation for step in steps if isinstance(step.operation, Convolution)]
    served = [layer for layer in layers if layer.short is not None]
    assert len(served) >= 7
    assert all(layer.kernels[0].size == 3 and layer.kernels[0].stride == 1 for layer in served)
    assert all(layer.packed is None for layer in served)  # no weight is held twice


def test_a_layer_of_few_channels_takes_it_on_one_thread_alone(monkeypatch: Any) -> None:
    """As in a worker with a core of its own; shared by two threads its calls are too small."""
    network = nn.Sequential(
        nn.Conv3d(1, 128, 1), nn.ReLU(), nn.Conv3d(128, 32, 3, padding=1), nn.ReLU()
    ).eval()
    image = torch.randn(1, 1, 16, 16, 16)
    steps = fold(network_steps(network, image))
    pack(steps, torch.channels_last_3d)
    (layer,) = (
        step.operation
        for step in steps
        if isinstance(step.operation, Convolution) and step.operation.short is not None
    )
    assert layer.packed is not None
    taken = []
    serve = ShortFilter.__call__

    def served(*given: Any, **named: Any) -> torch.Tensor:
        taken.append(True)
        return serve(*given, **named)

    monkeypatch.setattr(ShortFilter, "__call__", served)
    values = torch.randn(2, 128, 16, 16, 16).contiguous(memory_format=torch.channels_last_3d)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        shared = layer.whole(values)
        assert not taken
        torch.set_num_threads(1)
        alone = layer.whole(values)
        assert taken
    finally:
        torch.set_num_threads(before)
    assert float((alone - shared).abs().max() / shared.abs().max()) < 1e-5
