"""Methods that share a pass give the maps that each of them gives alone."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from monai.networks.nets import DenseNet121, resnet18
from torch import nn

from SaliencyExplain.attribution.methods.cam import CAM, GradCAM, GradCAMPlusPlus
from SaliencyExplain.attribution.methods.gradient import Gradient, SmoothGrad
from SaliencyExplain.attribution.methods.guided_backpropagation import GuidedBackpropagation
from SaliencyExplain.attribution.methods.layer_sweep import LayerSweep
from SaliencyExplain.attribution.methods.respond_cam import RespondCAM
from SaliencyExplain.attribution.methods.score_cam import ScoreCAM
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.attribution.passes.pass_spec import PassSpec
from SaliencyExplain.attribution.passes.shared_pass import SharedPass, run
from SaliencyExplain.errors import ErrorCode
from Testing.expected_errors import error_with

METHODS = (Gradient(), GradCAM(), GradCAMPlusPlus())
OTHERS = (RespondCAM(), LayerSweep(), LayerSweep(which="all"), ScoreCAM(channels=3))


class Small(nn.Module):
    """Two convolutions, each with a ReLU in place behind it; mean and linear layer."""

    def __init__(self, dims=2, channels=1, classes=2):
        super().__init__()
        convolution = nn.Conv2d if dims == 2 else nn.Conv3d
        self.first = convolution(channels, 6, 3, padding=1)
        self.second = convolution(6, 4, 3, stride=2)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(4, classes)
        # Otherwise a map of a small random network may be 0 everywhere.
        self.fc.weight.data[-1].abs_()
        self.passes = 0

    def forward(self, images):
        self.passes += 1
        features = self.relu(self.second(self.relu(self.first(images))))
        return self.fc(features.flatten(2).mean(2))


def shared(task, methods):
    return dataclasses.replace(task, shared=SharedPass.of(methods, task))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (Small(), (1, 1, 11, 8)),
        (Small(3, channels=3), (1, 3, 9, 8, 7)),
        (resnet18(spatial_dims=2, n_input_channels=2, num_classes=3), (1, 2, 45, 40)),
        (DenseNet121(spatial_dims=3, in_channels=1, out_channels=3), (1, 1, 65, 34, 40)),
    ],
    ids=["2D", "several channels", "resnet18", "densenet121"],
)
def test_maps_are_those_of_each_method_alone(task, network, shape):
    job = task(network, torch.randn(shape))
    methods = (*METHODS, *OTHERS)
    if not isinstance(network, DenseNet121):
        methods += (CAM(),)
    alone = [method.attribute(job) for method in methods]
    together = shared(job, methods)
    for method, expected in zip(methods, alone, strict=True):
        found = method.attribute(together)
        assert list(found) == list(expected)
        for name, values in found.items():
            torch.testing.assert_close(
                values, expected[name], rtol=1e-5, atol=1e-5 * float(expected[name].abs().max())
            )


def test_one_forward_pass_serves_all(task):
    body = Small()
    methods = (*METHODS, *OTHERS[:-1], GradCAM(layers=("first",)), CAM())
    job = shared(task(body, torch.randn(1, 1, 12, 9)), methods)
    for method in methods:
        method.attribute(job)
    assert body.passes == 1


@pytest.mark.parametrize("target", [0, 1])
def test_one_logit_has_both_classes(task, target):
    network = ScoreNetwork(Small(classes=1), one_logit=True)
    job = task(network, torch.randn(1, 1, 12, 9), target)
    together = shared(job, METHODS)
    for method in METHODS:
        (expected,), (found,) = method.attribute(job).values(), method.attribute(together).values()
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("change", ["image", "target", "precision"])
def test_another_question_gets_a_pass_of_its_own(task, change):
    body = Small()
    job = shared(task(body, torch.randn(1, 1, 12, 9)), METHODS)
    Gradient().attribute(job)
    others = {"image": {"input": job.input + 1}, "target": {"target": 0}}
    other = dataclasses.replace(job, **others.get(change, {"precision": "bfloat16"}))
    found = Gradient().raw(other)
    assert torch.equal(found, Gradient().raw(dataclasses.replace(other, shared=None)))
    assert not torch.equal(found, Gradient().raw(job))


def test_a_method_that_nobody_foresaw_has_its_own_pass(task):
    body = Small()
    job = shared(task(body, torch.randn(1, 1, 12, 9)), [Gradient()])
    Gradient().attribute(job)
    named = GradCAM(layers=("first",))
    assert torch.equal(
        named.attribute(job)["first"],
        named.attribute(dataclasses.replace(job, shared=None))["first"],
    )


def test_where_memory_is_short_for_all_each_runs_alone(task):
    class Large(Small):
        """Runs out of memory where the image's gradient is wanted."""

        def forward(self, images):
            if images.requires_grad:
                raise RuntimeError("not enough memory: you tried to allocate 10 bytes")
            return super().forward(images)

    job = shared(task(Large(), torch.randn(1, 1, 12, 9)), METHODS)
    alone = dataclasses.replace(job, shared=None)
    assert torch.equal(GradCAM().attribute(job)["relu"], GradCAM().attribute(alone)["relu"])
    with error_with(ErrorCode.MEMORY, "(12, 9)"):
        Gradient().attribute(job)


def test_backward_goes_on_to_the_image_only_where_that_is_wanted(task):
    network, reached = Small(), []

    def watch(_module, inputs):
        if inputs[0].requires_grad:
            inputs[0].register_hook(reached.append)

    network.second.register_forward_pre_hook(watch)
    job = task(network, torch.randn(1, 1, 12, 9))
    run(job, PassSpec(last=True, gradients=True))
    assert not reached
    run(job, PassSpec(last=True, gradients=True, voxels=True))
    assert len(reached) == 1


@pytest.mark.parametrize(
    "method",
    [*METHODS, CAM(), SmoothGrad(samples=4), GuidedBackpropagation()],
    ids=lambda method: method.name,
)
@pytest.mark.parametrize("dims", [2, 3])
def test_bfloat16_changes_the_map_little_and_the_network_not_at_all(task, method, dims):
    body = Small(dims)
    image = torch.randn(1, 1, *(20, 17, 15)[:dims])
    job = task(body, image)
    exact = next(iter(method.attribute(job).values()))
    lower = next(iter(method.attribute(dataclasses.replace(job, precision="bfloat16")).values()))
    assert lower.dtype == torch.float32
    assert not torch.equal(lower, exact)
    alike = nn.functional.cosine_similarity(lower.flatten(), exact.flatten(), dim=0)
    assert float(alike) > 0.97
    assert {parameter.dtype for parameter in body.parameters()} == {torch.float32}


def test_a_network_that_lets_no_gradient_through_is_refused(task):
    class Cut(Small):
        def forward(self, images):
            return super().forward(images.detach())

    with error_with(ErrorCode.NO_GRADIENT, "occlusion"):
        Gradient().attribute(task(Cut(), torch.randn(1, 1, 12, 9)))
    # Where a layer's gradient is wanted too, scores have a graph all the same.
    job = shared(task(Cut(), torch.randn(1, 1, 12, 9)), METHODS)
    with error_with(ErrorCode.NO_GRADIENT, "occlusion"):
        Gradient().attribute(job)


def test_a_method_that_stays_in_float32_is_not_drawn_into_a_lower_precision(task):
    body = Small()
    job = task(body, torch.randn(1, 1, 12, 9))
    exact = RespondCAM().attribute(job)["relu"]
    lower = shared(dataclasses.replace(job, precision="bfloat16"), (*METHODS, RespondCAM()))
    before = body.passes
    for method in METHODS:
        method.attribute(lower)
    assert torch.equal(RespondCAM().attribute(lower)["relu"], exact)
    assert body.passes == before + 2


def test_a_last_layer_that_is_a_gate_or_does_not_run_is_found_out(task):
    class Gated(Small):
        def __init__(self):
            super().__init__()
            self.gate = nn.Conv2d(4, 4, 1)
            self.spare = nn.ReLU()

        def forward(self, images):
            features = self.relu(self.second(self.first(images)))
            gate = self.gate(features.mean((2, 3), keepdim=True)).sigmoid()
            return self.fc((features * gate).mean((2, 3)))

    body = Gated()
    job = task(body, torch.randn(1, 1, 12, 9))
    found = GradCAM().raw(job)
    del body.spare
    assert list(found) == ["relu"]
    assert torch.equal(found["relu"].values, GradCAM().raw(job)["relu"].values)
    named = GradCAM(layers=("relu",)).raw(job)
    assert torch.equal(found["relu"].values, named["relu"].values)
