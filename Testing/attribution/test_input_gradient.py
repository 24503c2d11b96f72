from __future__ import annotations

import dataclasses

import captum.attr
import pytest
import torch

from SaliencyExplain.attribution.methods.gradient import Gradient
from SaliencyExplain.attribution.methods.guided_gradcam import GuidedGradCAM
from SaliencyExplain.attribution.methods.input_gradient import GradientTimesInput
from SaliencyExplain.attribution.passes.shared_pass import SharedPass

SIZES = {2: (14, 11), 3: (9, 8, 7)}


@pytest.mark.parametrize("shape", [(1, 5, 6), (3, 5, 6), (2, 4, 5, 6)])
def test_adds_up_to_a_linear_score(task, linear, shape):
    weights, image = torch.randn(shape), torch.randn(1, *shape)
    values = GradientTimesInput().attribute(task(linear(weights), image))[""]
    torch.testing.assert_close(values, (weights * image[0]).sum(0))
    assert float(values.sum()) == pytest.approx(float((weights * image).sum()), abs=1e-4)


@pytest.mark.parametrize("dims", [2, 3])
def test_equals_captum(task, convolutional, dims):
    network, image = convolutional(dims, 2), torch.randn(1, 2, *SIZES[dims])
    theirs = captum.attr.InputXGradient(network).attribute(image.clone().requires_grad_(), target=2)
    ours = GradientTimesInput().raw(task(network, image, 2))
    torch.testing.assert_close(ours, theirs[0].detach(), rtol=1e-5, atol=1e-7)


def test_the_two_classes_of_one_logit_are_opposite(task, convolutional):
    network, image = convolutional(3, one_logit=True), torch.randn(1, 1, *SIZES[3])
    yes, no = (
        GradientTimesInput().attribute(task(network, image, target))[""] for target in (1, 0)
    )
    torch.testing.assert_close(yes, -no)
    assert float(yes.abs().max()) > 0


def test_shares_its_pass_with_the_gradient(task, convolutional):
    network, image = convolutional(2), torch.randn(1, 1, *SIZES[2])
    passes = []
    network.network.register_forward_hook(lambda *_: passes.append(1))
    methods = [Gradient(), GradientTimesInput(), GuidedGradCAM()]
    alone = [method.attribute(task(network, image)) for method in methods]
    passes.clear()
    job = task(network, image)
    job = dataclasses.replace(job, shared=SharedPass.of(methods, job))
    together = [method.attribute(job) for method in methods]
    assert len(passes) == 2  # one for all three, and the guided one
    for one, other in zip(alone, together, strict=True):
        for layer, values in one.items():
            torch.testing.assert_close(other[layer], values)
