from __future__ import annotations

import pytest
import torch
from monai import visualize
from monai.networks.nets import DenseNet121, resnet18
from torch import nn

from SaliencyExplain.attribution.methods.cam import CAM, GradCAM, GradCAMPlusPlus
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.errors import ErrorCode
from Testing.attribution.monai_maps import monai_map
from Testing.expected_errors import error_with


def make(name, dims):
    if name == "densenet":
        return DenseNet121(spatial_dims=dims, in_channels=1, out_channels=3).eval()
    return resnet18(spatial_dims=dims, n_input_channels=1, num_classes=3).eval()


#: Layers whose map has more than one cell for images of 34 to 40 voxels.
LAYERS = {
    "densenet": ("features.transition3.conv", "features.denseblock2"),
    "resnet": ("layer4.1.conv2", "layer2"),
}


class Small(nn.Module):
    """Two feature maps, their means, a linear layer; a ReLU in place behind the convolution."""

    def __init__(self, dims=2, classes=2):
        super().__init__()
        convolution = nn.Conv2d if dims == 2 else nn.Conv3d
        self.conv = convolution(1, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(4, classes)

    def forward(self, images):
        features = self.relu(self.conv(images))
        return self.fc(features.flatten(2).mean(2))


@pytest.mark.parametrize("dims", [2, 3])
def test_gradcam_equals_the_hand_computation(task, dims):
    network, image = Small(dims), torch.randn(1, 1, *(8, 9, 7)[:dims])
    found = GradCAM(layers=("conv",)).raw(task(network, image))
    with torch.no_grad():
        before = network.conv(image)[0]
    # d score / d conv = w / n where the ReLU is open; its mean over space is the weight.
    places = before[0].numel()
    gradient = network.fc.weight[1].detach()[:, None] * (before.flatten(1) > 0) / places
    weights = gradient.mean(1)
    expected = (weights.reshape(-1, *[1] * dims) * before).sum(0).relu()
    assert list(found) == ["conv"]
    torch.testing.assert_close(found["conv"].values, expected)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("method", [GradCAM, GradCAMPlusPlus])
def test_default_is_behind_the_activation_function_where_there_is_one(task, method, dims):
    network, image = Small(dims), torch.randn(1, 1, *(8, 9, 7)[:dims])
    found = method().raw(task(network, image))
    named = method(layers=("relu",)).raw(task(network, image))
    assert list(found) == ["relu"]
    assert torch.equal(found["relu"].values, named["relu"].values)
    if method is GradCAM:
        # Behind the ReLU the gradient is the linear layer's weight everywhere.
        with torch.no_grad():
            features = network.relu(network.conv(image))[0]
        weights = network.fc.weight[1].detach() / features[0].numel()
        expected = torch.tensordot(weights, features, dims=1).relu()
        torch.testing.assert_close(found["relu"].values, expected)


def test_gradcam_of_a_layer_is_the_same_alone_and_among_others(task):
    network, image = make("resnet", 2), torch.randn(1, 1, 40, 40)
    names = ("layer4", "layer1.0.conv1", "layer3.1.conv2")
    together = GradCAM(layers=names).attribute(task(network, image))
    assert list(together) == list(names)
    for name in names:
        alone = GradCAM(layers=(name,)).attribute(task(network, image))
        torch.testing.assert_close(alone[name], together[name])


@pytest.mark.slow
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", ["densenet", "resnet"])
@pytest.mark.parametrize(
    ("method", "reference"), [(GradCAM, visualize.GradCAM), (GradCAMPlusPlus, visualize.GradCAMpp)]
)
def test_equals_monai_before_upsampling(task, name, dims, method, reference):
    network, image = make(name, dims), torch.randn(1, 1, *(40, 36, 34)[:dims])
    layer = LAYERS[name][0]
    if method is GradCAMPlusPlus:
        # MONAI has a factor exp(score), and 1e-7 in a denominator of squared gradients, which is
        # larger than these: gradients of 1e-4 vanish there. Comparable where gradients are large
        # and the score is near 0.
        # Rectified features, since the denominator has zeros where features are negative.
        layer = "layer4" if name == "resnet" else layer
        last = network.get_submodule("fc" if name == "resnet" else "class_layers.out")
        with torch.no_grad():
            last.weight *= 1e3
            last.bias -= network(image)[0]
    theirs = monai_map(reference, network, image, layer)
    ours = method(layers=(layer,)).raw(task(network, image))[layer].values
    assert float(theirs.max()) > 0
    if method is GradCAMPlusPlus:
        with torch.no_grad():
            ours = ours * network(image)[0, 1].exp()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * float(theirs.max()))


@pytest.mark.parametrize("dims", [2, 3])
def test_gradcam_plus_plus_equals_the_hand_computation(task, dims):
    network, image = Small(dims), torch.randn(1, 1, *(8, 9, 7)[:dims])
    with torch.no_grad():
        features = network.relu(network.conv(image))[0].flatten(1).double()
    w = network.fc.weight[1].detach().double()[:, None]
    gradient = (w / features.shape[1]).expand_as(features)
    alpha = gradient**2 / (2 * gradient**2 + gradient**3 * features.sum(1, keepdim=True))
    weights = (alpha * gradient.relu()).sum(1, keepdim=True)
    expected = (weights * features).sum(0).relu()
    found = GradCAMPlusPlus(layers=("relu",)).raw(task(network, image))["relu"].values
    torch.testing.assert_close(found.flatten().double(), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize(("dims", "name"), [(2, "densenet"), (3, "resnet")])
def test_cam_equals_monai_without_the_bias(task, name, dims):
    network = make(name, dims)
    layer, fc = (
        ("class_layers.relu", "class_layers.out") if name == "densenet" else ("layer4", "fc")
    )
    image = torch.randn(1, 1, *(80, 70, 40)[:dims])
    ours = CAM(layers=(layer,)).raw(task(network, image))[layer].values
    theirs = monai_map(visualize.CAM, network, image, layer, fc, class_index=torch.tensor([1]))
    expected = theirs - network.get_submodule(fc).bias[1].detach()
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize(("target", "one_logit"), [(0, False), (2, False), (0, True), (1, True)])
def test_mean_of_the_cam_and_the_bias_make_the_score(task, target, one_logit):
    body = Small(classes=1 if one_logit else 3)
    network = ScoreNetwork(body, one_logit=one_logit)
    image = torch.randn(1, 1, 12, 10)
    found = CAM().raw(task(network, image, target))
    with torch.no_grad():
        score = network(image)[0, target]
    bias = body.fc.bias[0] * (2 * target - 1) if one_logit else body.fc.bias[target]
    torch.testing.assert_close(found["relu"].values.mean() + bias.detach(), score)


def test_cam_refuses_a_layer_and_names_those_that_would_do(task):
    job = task(make("resnet", 2), torch.randn(1, 1, 64, 64))
    with error_with(ErrorCode.LAYER_UNSUITABLE, "'layer3'", "layer4"):
        CAM(layers=("layer3",)).attribute(job)


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 36, 2)),
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(2, 2)),
        nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.ReLU(), nn.Linear(4, 2)
        ),
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    ],
    ids=["no pooling", "maximum", "something between", "no linear layer"],
)
def test_cam_refuses_networks_of_another_form(task, network):
    # Means below zero: a ReLU that changes nothing would make it a network for CAM.
    nn.init.constant_(network[0].bias, -10.0)
    with error_with(ErrorCode.METHOD_NETWORK, "cam", "gradcam"):
        CAM().attribute(task(network, torch.randn(1, 1, 8, 8)))


def test_default_is_the_last_layer_that_sees_places(task):
    class Gated(nn.Module):
        """The definition's order differs from the order of running, and a gate runs last."""

        def __init__(self):
            super().__init__()
            self.second = nn.Conv2d(4, 4, 3, padding=1)
            self.gate = nn.Conv2d(4, 4, 1)
            self.first = nn.Conv2d(1, 4, 3, padding=1)
            self.fc = nn.Linear(4, 2)

        def forward(self, images):
            features = self.second(self.first(images).relu())
            gate = self.gate(features.mean((2, 3), keepdim=True)).sigmoid()
            return self.fc((features * gate).mean((2, 3)))

    network, image = Gated(), torch.randn(1, 1, 9, 9)
    found = GradCAM().attribute(task(network, image))
    assert list(found) == ["second"]
    named = GradCAM(layers=("second",)).attribute(task(network, image))
    torch.testing.assert_close(found["second"], named["second"])


def test_backward_ends_at_the_layer(task):
    # The earliest layer's input must not need a gradient: nothing before it is kept.
    network = make("resnet", 2)
    needed = {}
    for name in ("layer2", "layer3", "layer4"):
        network.get_submodule(name).register_forward_pre_hook(
            lambda _module, inputs, name=name: needed.update({name: inputs[0].requires_grad})
        )
    GradCAM(layers=("layer3.0.conv1", "layer4")).attribute(task(network, torch.randn(1, 1, 40, 40)))
    assert needed == {"layer2": False, "layer3": False, "layer4": True}


@pytest.mark.parametrize("method", [GradCAM, GradCAMPlusPlus, CAM])
def test_unknown_layer_is_answered_with_the_nearest_name(task, method):
    job = task(make("resnet", 2), torch.randn(1, 1, 40, 40))
    with error_with(ErrorCode.NAME_UNKNOWN, "'layer4.1.conv'", "'layer4.1.conv2'"):
        method(layers=("layer4.1.conv",)).attribute(job)


def test_layer_without_places_is_refused(task):
    job = task(make("resnet", 2), torch.randn(1, 1, 40, 40))
    with error_with(ErrorCode.LAYER_UNSUITABLE, "'fc'", "(1, 3)", "'layer4.1.act'"):
        GradCAM(layers=("fc",)).attribute(job)


def test_layer_that_does_not_run_is_refused(task):
    network = Small()
    network.spare = nn.Conv2d(1, 2, 3)
    with error_with(ErrorCode.LAYER_UNSUITABLE, "'spare'"):
        GradCAM(layers=("spare",)).attribute(task(network, torch.randn(1, 1, 8, 8)))


@pytest.mark.slow
def test_several_channels_and_anisotropic_voxels_give_the_image_its_shape(task):
    network = resnet18(spatial_dims=3, n_input_channels=2, num_classes=2)
    job = task(network, torch.randn(1, 2, 40, 36, 12), spacing=(1.0, 1.0, 5.0))
    (values,) = GradCAM().attribute(job).values()
    assert values.shape == (40, 36, 12)
    assert values.dtype == torch.float32
    assert not values.requires_grad


def test_cost_grows_with_the_depth_of_the_backward_pass(task):
    job = task(make("resnet", 2), torch.randn(1, 1, 40, 40))
    late, early = (
        GradCAM(layers=names).forward_passes(job)
        for names in (("layer4.1",), ("layer4.1", "conv1"))
    )
    assert 1 < late < early == 2
