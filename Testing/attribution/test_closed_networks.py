"""TorchScript and exported programs hide their layers: what works works, the rest says so."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from SaliencyExplain.attribution.registry import find_method
from SaliencyExplain.errors import ErrorCode
from Testing.expected_errors import error_with
from Testing.quick_methods import names, quick


@pytest.fixture(scope="module")
def eager():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    ).eval()


@pytest.fixture(scope="module", params=["script", "trace", "export", "export, one at a time"])
def closed(request, eager):
    image = torch.randn(2, 1, 32, 32)
    if request.param == "script":
        return torch.jit.script(eager)
    if request.param == "trace":
        return torch.jit.trace(eager, image)
    if request.param == "export":
        batch = torch.export.Dim("batch", min=1, max=64)
        return torch.export.export(eager, (image,), dynamic_shapes=({0: batch},)).module()
    return torch.export.export(eager, (image[:1],)).module()


#: Methods that read the network's output or its gradient alone.
NEED_NO_LAYER = [
    *names(family="perturbation"),
    *names(family="path"),
    *("gradient", "gradient-times-input", "smoothgrad"),
]


@pytest.mark.slow
@pytest.mark.parametrize("method", NEED_NO_LAYER)
def test_methods_that_need_no_layer_give_the_same_map(task, eager, closed, method):
    image, backgrounds = torch.randn(1, 1, 32, 32), torch.randn(2, 1, 32, 32)
    chosen = quick(method)
    expected = chosen.attribute(task(eager, image, backgrounds=backgrounds))[""]
    job = task(closed, image, backgrounds=backgrounds)
    found = chosen.attribute(job)[""]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("layers", [(), ("0",)])
@pytest.mark.parametrize("method", names(family="class activation"))
def test_activation_maps_say_what_to_use_instead(task, closed, method, layers):
    job = task(closed, torch.randn(1, 1, 32, 32))
    with error_with(ErrorCode.LAYERS_HIDDEN, "occlusion, gradient or smoothgrad"):
        find_method(method)(layers=layers).attribute(job)


@pytest.mark.parametrize("method", ["guided-backprop", "deconvnet", "guided-gradcam"])
def test_methods_with_rules_for_relus_say_what_to_use_instead(task, closed, method):
    job = task(closed, torch.randn(1, 1, 32, 32))
    with error_with(ErrorCode.LAYERS_HIDDEN, "occlusion, gradient or smoothgrad"):
        find_method(method)().attribute(job)
