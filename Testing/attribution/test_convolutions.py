from __future__ import annotations

import itertools
from contextlib import nullcontext

import pytest
import torch
from monai.networks.nets import DenseNet121, resnet18
from torch import nn
from torch.nn import functional

from SaliencyExplain.attribution.methods.gradient import input_gradients
from SaliencyExplain.attribution.network.convolutions import FrozenConvolutions
from SaliencyExplain.attribution.network.frozen_network import untouched
from SaliencyExplain.attribution.network.score_network import ScoreNetwork

CONVOLUTIONS = {2: functional.conv2d, 3: functional.conv3d}

#: Channels in and out, groups, kernel, stride, padding, dilation, batch.
SETTINGS = [
    *itertools.product((1, 3, 4), (5,), (1,), (7,), (1, 2), (3,), (1,), (1, 2)),
    *itertools.product((1, 2, 24), (6,), (1,), (3,), (1, 2, 3), (0, 1, 4), (1,), (1,)),
    *itertools.product((24,), (300,), (1,), (3,), (1,), (1,), (1,), (1,)),
    *itertools.product((1, 20), (5,), (1,), (1, 2, 4), (1, 2), (0, 1), (1, 2), (1,)),
    *itertools.product((6,), (12,), (2, 6), (3,), (1, 2), (1,), (1, 2), (1,)),
]


@pytest.mark.parametrize("axes", [2, 3])
def test_values_and_gradients_are_those_of_torch(axes):
    convolve = CONVOLUTIONS[axes]
    for inside, outside, groups, kernel, stride, padding, dilation, batch in SETTINGS:
        image = torch.randn(batch, inside, *(13, 9, 10)[:axes])
        weight = torch.randn(outside, inside // groups, *(kernel,) * axes)
        bias = torch.randn(outside)
        settings = (stride, padding, dilation, groups)
        found = []
        for faster in (False, True):
            voxels = image.clone().requires_grad_()
            if faster:
                with FrozenConvolutions():
                    result = convolve(voxels, weight, bias, *settings)
            else:
                result = convolve(voxels, weight, bias, *settings)
            wanted = torch.linspace(-1, 1, result.numel()).reshape(result.shape)
            found.append((result, torch.autograd.grad(result, voxels, wanted)[0]))
        (result, gradient), (other, other_gradient) = found
        # Rounding: sums of up to 8,000 products in another order.
        scale = [float(values.detach().abs().max()) for values in (result, gradient)]
        torch.testing.assert_close(other, result, rtol=0, atol=1e-5 * scale[0])
        torch.testing.assert_close(other_gradient, gradient, rtol=0, atol=1e-5 * scale[1])


def test_kernel_stride_and_padding_may_differ_per_axis():
    image, weight = torch.randn(1, 1, 17, 12, 11), torch.randn(4, 1, 7, 3, 5)
    found = []
    for faster in (False, True):
        voxels = image.clone().requires_grad_()
        settings = {"stride": (2, 1, 1), "padding": (3, 0, 2)}
        if faster:
            with FrozenConvolutions():
                result = functional.conv3d(voxels, weight, **settings)
        else:
            result = functional.conv3d(voxels, weight, **settings)
        found.append(torch.autograd.grad(result.square().sum(), voxels)[0])
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-4 * float(found[0].max()))


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_padding_in_words_is_left_to_torch(padding):
    image, weight = torch.randn(1, 2, 9, 9, 9), torch.randn(3, 2, 3, 3, 3)
    with FrozenConvolutions():
        found = functional.conv3d(image, weight, padding=padding)
    assert torch.equal(found, functional.conv3d(image, weight, padding=padding))


def test_weights_that_ask_for_a_gradient_get_theirs():
    body = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 3), torch.nn.Flatten(), torch.nn.Linear(16, 2))
    ScoreNetwork(body)(torch.randn(1, 1, 4, 4, 4)).sum().backward()
    wanted = [p.grad.clone() for p in body.parameters()]
    assert all(float(grad.abs().max()) > 0 for grad in wanted)


@pytest.mark.slow
@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize(
    "make",
    [
        lambda axes: resnet18(spatial_dims=axes, n_input_channels=2, num_classes=3),
        lambda axes: DenseNet121(spatial_dims=axes, in_channels=2, out_channels=3),
    ],
    ids=["resnet18", "densenet121"],
)
@pytest.mark.parametrize("batch", [1, 2])
def test_gradients_of_networks_are_those_of_torch(make, axes, batch):
    network = ScoreNetwork(make(axes)).eval()
    # DenseNet121 halves an image five times; odd sizes leave cells over.
    sizes = (36, 33, 34) if isinstance(network.network, DenseNet121) else (21, 17, 18)
    images = torch.randn(batch, 2, *sizes[:axes])
    with untouched(network):
        found = input_gradients(network, images, 1)
        voxels = images.clone().requires_grad_()
        expected = torch.autograd.grad(network.network(voxels)[:, 1].sum(), voxels)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5 * float(expected.abs().max()))


def test_what_the_backward_pass_keeps_are_no_inputs_of_convolutions():
    kept = []

    def pack(tensor):
        kept.append(tensor.numel())
        return tensor

    layer = torch.nn.Conv3d(32, 32, 3, padding=1).requires_grad_(False)
    voxels = torch.randn(1, 32, 12, 12, 12, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        with FrozenConvolutions():
            layer(voxels)
        ours = sum(kept)
        kept.clear()
        layer(voxels)
    assert ours == layer.weight.numel()
    assert sum(kept) >= voxels.numel()


@pytest.mark.parametrize("axes", [0, 2, 3])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norms_have_torchs_values_and_gradients_and_keep_no_input(axes, affine):
    kind = {0: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[axes]
    norm = kind(6, affine=affine, eps=1e-3).eval()
    for values in norm.state_dict().values():
        if values.is_floating_point():
            nn.init.uniform_(values, 0.5, 2.0)
    image, found = torch.randn(4, 6, *(7, 5, 3)[:axes]), []
    for faster in (False, True):
        voxels, kept = image.clone().requires_grad_(), []
        mode = FrozenConvolutions() if faster else nullcontext()
        hooks = torch.autograd.graph.saved_tensors_hooks(
            lambda values, kept=kept: kept.append(values.numel()) or values, lambda values: values
        )
        with untouched(norm), mode, hooks:
            result = norm(voxels).square()
            found.append((result.detach(), torch.autograd.grad(result.sum(), voxels)[0], sum(kept)))
    torch.testing.assert_close(found[1][:2], found[0][:2])
    assert found[1][2] < found[0][2]


def test_batch_norms_in_training_or_to_be_trained_stay_torchs():
    norm, image = nn.BatchNorm2d(6), torch.randn(4, 6, 5, 5, requires_grad=True)
    with FrozenConvolutions():
        (gradient,) = torch.autograd.grad(norm.eval()(image).sum(), norm.weight)
        expected = (image / (1 + norm.eps) ** 0.5).sum((0, 2, 3))
        torch.testing.assert_close(gradient, expected.detach(), rtol=1e-4, atol=1e-4)
        norm.train()(image)
    assert float(norm.running_mean.abs().sum()) > 0
