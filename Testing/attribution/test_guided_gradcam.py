from __future__ import annotations

import captum.attr
import pytest
import torch
from monai.networks.nets import resnet18
from torch import nn

from SaliencyExplain.attribution.methods.cam import GradCAM
from SaliencyExplain.attribution.methods.guided_backpropagation import GuidedBackpropagation
from SaliencyExplain.attribution.methods.guided_gradcam import GuidedGradCAM
from SaliencyExplain.errors import ErrorCode
from Testing.expected_errors import error_with

SIZES = {2: (14, 11), 3: (9, 8, 7)}


@pytest.mark.filterwarnings("ignore:Setting backward hooks")
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("layer", ["0", "3"])
def test_equals_captum_where_the_cells_are_voxels(task, convolutional, dims, layer):
    network, image = convolutional(dims, 2), torch.randn(1, 2, *SIZES[dims])
    theirs = captum.attr.GuidedGradCam(network, network.layer(layer)).attribute(
        image.clone(), target=2
    )[0]
    found = GuidedGradCAM(layers=(layer,)).attribute(task(network, image, 2))
    assert list(found) == [layer]
    expected = theirs.abs().amax(0).detach()
    assert float(expected.max()) > 0
    torch.testing.assert_close(found[layer], expected, rtol=1e-4, atol=1e-5 * float(expected.max()))


def test_is_the_product_of_its_two_parts_for_each_layer(task):
    network = resnet18(spatial_dims=2, n_input_channels=1, num_classes=2).eval()
    job = task(network, torch.randn(1, 1, 33, 40))
    layers = ("layer1", "layer2")
    found = GuidedGradCAM(layers=layers).attribute(job)
    detail = GuidedBackpropagation().attribute(job)[""]
    places = GradCAM(layers=layers).attribute(job)
    assert list(found) == list(layers)
    for layer in layers:
        torch.testing.assert_close(found[layer], detail * places[layer])


def test_the_last_layer_that_sees_places_is_taken_where_none_is_named(task, convolutional):
    job = task(convolutional(2), torch.randn(1, 1, *SIZES[2]))
    assert list(GuidedGradCAM().attribute(job)) == list(GradCAM().attribute(job)) == ["4"]


def test_other_activations_are_refused_with_grad_cam_among_what_would_work(task, convolutional):
    job = task(convolutional(2, activation=nn.LeakyReLU), torch.randn(1, 1, *SIZES[2]))
    with error_with(ErrorCode.METHOD_NETWORK, "LeakyReLU", "gradcam"):
        GuidedGradCAM().attribute(job)


def test_a_network_without_convolution_is_refused(task):
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 2))
    with error_with(ErrorCode.LAYER_UNSUITABLE, "Sequential"):
        GuidedGradCAM().attribute(task(network, torch.randn(1, 1, 3, 4)))
