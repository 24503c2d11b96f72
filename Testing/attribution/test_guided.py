from __future__ import annotations

import pytest
import torch
from monai.networks.blocks import MemoryEfficientSwish, Mish, Swish
from monai.networks.nets import DenseNet121, EfficientNetBN, resnet18
from monai.networks.utils import replace_modules_temp
from monai.visualize import GuidedBackpropGrad, GuidedBackpropSmoothGrad, VanillaGrad
from monai.visualize.gradient_based import _GradReLU
from torch import nn
from torch.nn import functional

from SaliencyExplain.attribution.methods.gradient import Gradient, noise_like
from SaliencyExplain.attribution.methods.guided_backpropagation import (
    GuidedBackpropagation,
    GuidedSmoothGrad,
)
from SaliencyExplain.errors import ErrorCode
from Testing.expected_errors import error_with


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))


@pytest.mark.slow
@pytest.mark.parametrize("dims", [2, 3])
def test_densenet_equals_monai(task, dims):
    network = DenseNet121(spatial_dims=dims, in_channels=1, out_channels=3).eval()
    image = torch.randn(1, 1, *(40, 36, 33)[:dims])
    theirs = GuidedBackpropGrad(network)(image.clone(), index=1)[0]
    close(GuidedBackpropagation().raw(task(network, image)), theirs)


@pytest.mark.slow
@pytest.mark.parametrize("dims", [2, 3])
def test_resnet_equals_monai_told_where_the_relus_are(task, dims):
    # MONAI looks for modules named "relu"; those of its ResNet are named "act", and its guided
    # backpropagation is then the plain gradient.
    network = resnet18(spatial_dims=dims, n_input_channels=1, num_classes=3).eval()
    image = torch.randn(1, 1, *(40, 36, 33)[:dims])
    with replace_modules_temp(network, "act", _GradReLU(), strict_match=False):
        theirs = VanillaGrad(network)(image.clone(), index=1)[0]
    ours = GuidedBackpropagation().raw(task(network, image))
    close(ours, theirs)
    assert not torch.allclose(ours, Gradient().raw(task(network, image)), rtol=0.1)


@pytest.mark.slow
def test_guided_smoothgrad_equals_monai_with_the_same_noise(task, monkeypatch):
    network = DenseNet121(spatial_dims=2, in_channels=1, out_channels=3).eval()
    image = torch.randn(1, 1, 36, 33)
    drawn = iter(range(9))
    with monkeypatch.context() as patch:
        patch.setattr(
            torch, "normal", lambda m, s, size, **_: noise_like(image, 5, next(drawn)) * s + m
        )
        theirs = GuidedBackpropSmoothGrad(network, 0.15, 2, magnitude=True, verbose=False)(
            image.clone(), index=1
        )[0]
    job = task(network, image, seed=5, batch_size=1)
    close(GuidedSmoothGrad(samples=2).raw(job), theirs * 2**0.5)


class Body(nn.Module):
    def __init__(self, activation):
        super().__init__()
        self.first, self.second = nn.Linear(12, 9), nn.Linear(9, 2)
        self.activation = activation

    def forward(self, images):
        return self.second(self.activation(self.first(images.flatten(1))))


def ignoring_the_result(values):
    functional.relu_(values)
    return values


@pytest.mark.parametrize(
    "activation",
    [
        nn.ReLU(),
        nn.ReLU(inplace=True),
        functional.relu,
        lambda values: functional.relu(values, True),
        lambda values: functional.relu(values, inplace=True),
        functional.relu_,
        torch.relu,
        torch.relu_,
        torch.Tensor.relu,
        torch.Tensor.relu_,
        ignoring_the_result,
    ],
)
def test_every_way_to_write_a_relu_gets_the_rule(task, activation):
    network, image = Body(activation), torch.randn(1, 1, 3, 4)
    found = GuidedBackpropagation().raw(task(network, image))
    with torch.no_grad():
        open_ = network.first(image.flatten(1))[0] > 0
        expected = (network.second.weight[1].relu() * open_) @ network.first.weight
    torch.testing.assert_close(found, expected.reshape(1, 3, 4))
    with torch.no_grad():
        scores = network(image)
    assert torch.equal(scores, network.second(network.first(image.flatten(1)).relu()))


@pytest.mark.parametrize(
    ("activation", "named"),
    [
        (nn.LeakyReLU(0.1), "LeakyReLU"),
        (nn.PReLU(), "PReLU"),
        (nn.GELU(), "GELU"),
        (nn.SiLU(), "SiLU"),
        (nn.ELU(), "ELU"),
        (nn.ReLU6(), "ReLU6"),
        (functional.leaky_relu, "leaky_relu"),
        (functional.silu, "silu"),
        (lambda values: values.clamp(min=0), "clamp"),
        (lambda values: torch.clamp_min(values, 0), "clamp"),
    ],
)
def test_other_activations_are_refused_by_name(task, activation, named):
    with error_with(ErrorCode.METHOD_NETWORK, named):
        GuidedBackpropagation().raw(task(Body(activation), torch.randn(1, 1, 3, 4)))


@pytest.mark.parametrize("method", [GuidedBackpropagation(), GuidedSmoothGrad(samples=2)])
def test_network_without_relu_is_refused(task, method):
    with error_with(ErrorCode.METHOD_NETWORK, method.name):
        method.attribute(task(Body(torch.tanh), torch.randn(1, 1, 3, 4)))


class Gated(nn.Module):
    """A SiLU that no module and no function of torch names, beside a ReLU that is one."""

    def __init__(self, written):
        super().__init__()
        self.first, self.second = nn.Linear(12, 9), nn.Linear(9, 2)
        self.written = written

    def forward(self, images):
        return self.second(self.written(self.first(images.flatten(1))).relu())


class SwishMe(nn.Module):
    """As timm names a writing of its own, whose gradient no rule can change."""

    def forward(self, values):
        return torch.sigmoid(values) * values


@pytest.mark.parametrize(
    ("written", "named"),
    [
        (lambda values: values * torch.sigmoid(values), "SiLU written as a product"),
        (lambda values: torch.sigmoid(values) * values, "SiLU written as a product"),
        (lambda values: values.mul(values.sigmoid()), "SiLU written as a product"),
        (lambda values: values.mul_(values.sigmoid()), "SiLU written as a product"),
        (lambda values: torch.mul(values, functional.sigmoid(values)), "SiLU"),
        (Swish(), "Swish"),
        (MemoryEfficientSwish(), "MemoryEfficientSwish"),
        (Mish(), "Mish"),
        (SwishMe(), "SwishMe"),
        (functional.relu6, "relu6"),
        (functional.hardtanh, "hardtanh"),
        (functional.elu_, "elu"),
        (lambda values: functional.leaky_relu(values, inplace=True), "leaky_relu"),
        (lambda values: functional.threshold(values, 0.0, 0.0), "threshold"),
        (functional.mish, "mish"),
        (functional.softplus, "softplus"),
    ],
)
def test_an_activation_beside_relus_is_refused_however_it_is_written(task, written, named):
    with error_with(ErrorCode.METHOD_NETWORK, named, "gradient, smoothgrad"):
        GuidedBackpropagation().raw(task(Gated(written), torch.randn(1, 1, 3, 4)))


@pytest.mark.parametrize(
    "gate",
    [
        lambda values: values * torch.sigmoid(values.mean(1, keepdim=True)),
        lambda values: values * torch.sigmoid(values + 1),
        torch.tanh,
        torch.sigmoid,
    ],
)
def test_gates_and_saturating_functions_keep_their_own_gradient(task, gate):
    # Squeeze-and-excitation and attention are no rectifiers: the ReLU alone has a rule.
    network, image = Gated(gate), torch.randn(1, 1, 3, 4)
    found = GuidedBackpropagation().raw(task(network, image))
    given = image.clone().requires_grad_()
    before = gate(network.first(given.flatten(1)))
    coming = network.second.weight[1].detach().relu() * (before > 0)
    (expected,) = torch.autograd.grad(before, given, coming)
    torch.testing.assert_close(found, expected[0])


def test_networks_of_monai_with_other_activations_are_refused_by_name(task):
    network = EfficientNetBN("efficientnet-b0", pretrained=False, spatial_dims=2, in_channels=1)
    with error_with(ErrorCode.METHOD_NETWORK, "MemoryEfficientSwish"):
        GuidedBackpropagation().attribute(task(network, torch.randn(1, 1, 32, 32)))
