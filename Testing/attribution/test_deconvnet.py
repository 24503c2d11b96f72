from __future__ import annotations

import captum.attr
import pytest
import torch
from torch import nn
from torch.nn import functional

from SaliencyExplain.attribution.methods.deconvnet import DeConvNet
from SaliencyExplain.attribution.methods.guided_backpropagation import GuidedBackpropagation
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.errors import ErrorCode
from Testing.expected_errors import error_with

SIZES = {2: (14, 11), 3: (9, 8, 7)}


def modules_of_their_own(dims):
    """A network as captum needs it: each ReLU a module that runs once, and a maximum pooling."""
    conv, pool = (nn.Conv2d, nn.MaxPool2d) if dims == 2 else (nn.Conv3d, nn.MaxPool3d)
    mean = nn.AdaptiveAvgPool2d if dims == 2 else nn.AdaptiveAvgPool3d
    return nn.Sequential(
        conv(2, 5, 3),
        nn.ReLU(),
        pool(2),
        conv(5, 6, 2),
        nn.ReLU(),
        mean(1),
        nn.Flatten(),
        nn.Linear(6, 3),
    ).eval()


@pytest.mark.parametrize("dims", [2, 3])
def test_equals_captum(task, dims):
    network, image = modules_of_their_own(dims), torch.randn(1, 2, *SIZES[dims])
    with pytest.warns(UserWarning, match="backward hooks"):
        theirs = captum.attr.Deconvolution(network).attribute(image.clone(), target=1)[0]
    job = task(network, image)
    ours = DeConvNet().raw(job)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))
    assert not torch.allclose(ours, GuidedBackpropagation().raw(job), rtol=0.1)
    torch.testing.assert_close(DeConvNet().attribute(job)[""], theirs.abs().amax(0))
    torch.testing.assert_close(
        DeConvNet(channels="sum").attribute(job)[""], theirs.abs().sum(0), rtol=1e-5, atol=1e-6
    )


class Body(nn.Module):
    def __init__(self, activation):
        super().__init__()
        self.first, self.second = nn.Linear(12, 9), nn.Linear(9, 2)
        self.activation = activation

    def forward(self, images):
        return self.second(self.activation(self.first(images.flatten(1))))


@pytest.mark.parametrize(
    "activation",
    [nn.ReLU(), nn.ReLU(inplace=True), functional.relu, functional.relu_, torch.Tensor.relu_],
)
def test_what_comes_back_is_rectified_whether_the_relu_was_open_or_not(task, activation):
    network, image = Body(activation), torch.randn(1, 1, 3, 4)
    found = DeConvNet().raw(task(network, image))
    expected = network.second.weight[1].detach().relu() @ network.first.weight.detach()
    torch.testing.assert_close(found, expected.reshape(1, 3, 4))


def test_one_logit_and_its_opposite_bring_back_other_signs(task):
    network = ScoreNetwork(nn.Sequential(nn.Flatten(), nn.Linear(6, 1), nn.ReLU()), one_logit=True)
    image = torch.ones(1, 1, 2, 3)
    yes, no = (DeConvNet().raw(task(network, image, target)) for target in (1, 0))
    torch.testing.assert_close(yes, network.network[1].weight.detach().reshape(1, 2, 3))
    assert not no.any()


@pytest.mark.parametrize(
    ("activation", "named"),
    [(nn.LeakyReLU(0.1), "LeakyReLU"), (functional.gelu, "gelu"), (nn.PReLU(), "PReLU")],
)
def test_other_activations_are_refused_with_methods_that_would_work(task, activation, named):
    with error_with(ErrorCode.METHOD_NETWORK, "deconvnet", named, "gradient"):
        DeConvNet().attribute(task(Body(activation), torch.randn(1, 1, 3, 4)))
