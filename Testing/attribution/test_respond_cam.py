from __future__ import annotations

import pytest
import torch
from monai.networks.nets import DenseNet121, resnet18
from torch import nn

from SaliencyExplain.attribution.methods.respond_cam import RespondCAM
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.errors import ErrorCode
from Testing.expected_errors import error_with


def network(dims, *, channels=1, classes=3, bias=True):
    """Two convolutions, and behind them a mean, a hidden layer and the scores."""
    convolution, pool = (
        (nn.Conv2d, nn.AdaptiveAvgPool2d) if dims == 2 else (nn.Conv3d, nn.AdaptiveAvgPool3d)
    )
    return nn.Sequential(
        convolution(channels, 4, 3, padding=1),
        nn.ReLU(inplace=True),
        convolution(4, 6, 3, stride=2, padding=1),
        nn.ReLU(inplace=True),
        pool(2),
        nn.Flatten(),
        nn.Linear(6 * 2**dims, 8, bias=bias),
        nn.ReLU(),
        nn.Linear(8, classes, bias=bias),
    )


@pytest.mark.parametrize(("dims", "layer"), [(2, 1), (2, 3), (3, 1), (3, 2), (3, 3)])
def test_equals_the_papers_equations(task, dims, layer):
    body, image = network(dims), torch.randn(1, 1, *(12, 10, 14)[:dims])
    found = RespondCAM(layers=(str(layer),)).raw(task(body, image, 2))[str(layer)].values
    features = body[: layer + 1](image).detach().clone().requires_grad_()
    # A ReLU in place would write into what the gradient is taken for.
    score = body[layer + 1 :](features * 1)[0, 2]
    (gradient,) = torch.autograd.grad(score, features)
    expected = torch.zeros(features.shape[2:])
    for maps, slopes in zip(features[0].detach(), gradient[0], strict=True):
        if float(maps.abs().sum()) > 0:
            expected += float((slopes * maps).sum() / maps.sum()) * maps
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("target", [0, 2])
def test_the_sum_of_the_map_is_the_score_of_a_network_without_biases(task, dims, target):
    body, image = network(dims, channels=2, bias=False), torch.randn(1, 2, *(9, 12, 11)[:dims])
    figures = {}
    with torch.no_grad():
        body[2].bias.zero_()
    for layer in ("1", "3"):
        job = task(body, image, target, record=figures.update)
        values = RespondCAM(layers=(layer,)).raw(job)[layer].values
        with torch.no_grad():
            score = body(image)[0, target]
        torch.testing.assert_close(values.sum(), score, rtol=1e-4, atol=1e-6)
        assert figures["sum_of_map"][layer] == pytest.approx(float(score), rel=1e-4, abs=1e-6)
        assert figures["score"] == pytest.approx(float(score), rel=1e-5)


@pytest.mark.parametrize(("target", "sign"), [(0, -1), (1, 1)])
def test_one_logit_gives_both_classes_the_same_map_with_opposite_signs(task, target, sign):
    body, image = network(3, classes=1), torch.randn(1, 1, 10, 10, 10)
    found = RespondCAM().raw(task(ScoreNetwork(body, one_logit=True), image, target))["3"].values
    plus = RespondCAM().raw(task(body, image, 0))["3"].values
    torch.testing.assert_close(found, sign * plus)


@pytest.mark.slow
def test_default_is_behind_the_last_activation_function(task):
    image = torch.randn(1, 1, 40, 40)
    dense = DenseNet121(spatial_dims=2, in_channels=1, out_channels=2)
    assert list(RespondCAM().raw(task(dense, torch.randn(1, 1, 64, 64)))) == ["class_layers.relu"]
    residual = resnet18(spatial_dims=2, n_input_channels=1, num_classes=2)
    assert list(RespondCAM().raw(task(residual, image))) == ["layer4.1.act"]
    conv = nn.Sequential(nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert list(RespondCAM().raw(task(conv, image))) == ["0"]


def test_the_last_run_of_a_layer_that_runs_twice_counts(task):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3, padding=1)
            self.relu = nn.ReLU(inplace=True)

        def forward(self, images):
            first = self.relu(self.conv(images))
            return self.relu(self.conv(first)).flatten(1)[:, :2] * 2

    body, image = Twice(), torch.randn(1, 1, 6, 6)
    with torch.no_grad():
        body.conv.bias += 1
        last = body.conv(body.conv(image).relu()).relu()[0, 0]
    found = RespondCAM(layers=("relu",)).raw(task(body, image, 0))["relu"].values
    torch.testing.assert_close(found, last * (2 * last[0, 0] / last.sum()))


def test_a_detector_of_one_cell_lands_on_its_voxel(task):
    class Detector(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv3d(1, 1, 3, stride=4, padding=1, bias=False)
            with torch.no_grad():
                self.conv.weight.zero_()
                self.conv.weight[0, 0, 1, 1, 1] = 1

        def forward(self, images):
            features = self.conv(images)
            return torch.stack([-features[:, 0, 3, 1, 2], features[:, 0, 3, 1, 2]], dim=1)

    image = torch.zeros(1, 1, 21, 17, 19)
    image[0, 0, 12, 4, 8] = 1.0
    for target, extreme in ((1, torch.argmax), (0, torch.argmin)):
        values = RespondCAM().attribute(task(Detector(), image, target))["conv"]
        place = torch.unravel_index(extreme(values), values.shape)
        assert tuple(int(i) for i in place) == (12, 4, 8)


def test_a_layer_without_places_and_one_that_does_not_run_are_refused(task):
    body, image = network(2), torch.randn(1, 1, 12, 12)
    with error_with(ErrorCode.LAYER_UNSUITABLE, "'6'", "(1, 8)", "'3'"):
        RespondCAM(layers=("6",)).attribute(task(body, image))
    body.append(nn.Identity())
    body.spare = nn.Conv2d(3, 3, 1)
    body.forward = lambda images: nn.Sequential(*list(body)[:-1])(images)
    with error_with(ErrorCode.LAYER_UNSUITABLE, "'spare'"):
        RespondCAM(layers=("spare",)).attribute(task(body, image))
