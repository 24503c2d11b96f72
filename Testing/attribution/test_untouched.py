"""Whatever a method does, the user's network is afterwards what it was before."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from monai.networks.nets import resnet18
from torch import nn

from SaliencyExplain.attribution.network.frozen_network import untouched
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.attribution.registry import find_method
from SaliencyExplain.errors import Cancelled
from Testing.quick_methods import names, quick

NAMES = names(control_maps=False)


def state(network):
    return {
        "training": {name: module.training for name, module in network.named_modules()},
        "wants": {name: p.requires_grad for name, p in network.named_parameters()},
        "gradients": {name: p.grad for name, p in network.named_parameters()},
        "hooks": [
            hook
            for module in network.modules()
            for hooks in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
            for hook in hooks
        ],
        "modules": [id(module) for module in network.modules()],
        "in place": [getattr(module, "inplace", None) for module in network.modules()],
    }


@pytest.fixture
def job(task):
    """A task on a network in an uncommon state: partly frozen, partly training, with gradients."""
    network = resnet18(spatial_dims=2, n_input_channels=1, num_classes=2)
    made = task(
        network,
        torch.randn(1, 1, 32, 32, requires_grad=True),
        batch_size=2,
        backgrounds=torch.randn(2, 1, 32, 32),
    )
    network.layer1.train()
    network.conv1.weight.requires_grad_(False)
    network.fc.weight.grad = torch.full_like(network.fc.weight, 7.0)
    return made


def same(before, after, weights_before, network):
    assert {k: v for k, v in before.items() if k != "gradients"} == {
        k: v for k, v in after.items() if k != "gradients"
    }
    assert all(before["gradients"][name] is grad for name, grad in after["gradients"].items())
    assert (network.network.fc.weight.grad == 7).all()
    for name, values in network.state_dict().items():
        assert torch.equal(values, weights_before[name]), name


def copy_of(network):
    return {name: values.clone() for name, values in network.state_dict().items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_after_a_map(job, name):
    before, weights, image = state(job.network), copy_of(job.network), job.input.detach().clone()
    for values in quick(name).attribute(job).values():
        assert values.shape == (32, 32)
        assert values.dtype == torch.float32
        assert not values.requires_grad
    same(before, state(job.network), weights, job.network)
    assert torch.equal(job.input, image)
    assert job.input.grad is None


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_after_a_cancel(job, name):
    def cancel(done, total):
        raise Cancelled

    before, weights = state(job.network), copy_of(job.network)
    job = dataclasses.replace(job, progress=cancel)
    with pytest.raises(Cancelled):
        quick(name).attribute(job)
    same(before, state(job.network), weights, job.network)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_after_an_error_in_the_network(job, name):
    def fail(_module, _inputs, _output):
        raise ArithmeticError("broken")

    handle = job.network.network.layer4.register_forward_hook(fail)
    before, weights = state(job.network), copy_of(job.network)
    with pytest.raises(ArithmeticError):
        quick(name).attribute(job)
    same(before, state(job.network), weights, job.network)
    handle.remove()


@pytest.mark.parametrize("name", NAMES)
def test_progress_ends_at_the_cost_said_before(job, name):
    told = []
    job = dataclasses.replace(job, progress=lambda done, total: told.append((done, total)))
    method = quick(name)
    cost = method.forward_passes(job)
    method.attribute(job)
    assert told[-1] == (cost, cost)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_eval_mode_is_used_even_where_the_caller_forgot_it(task):
    body = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.Linear(16, 2))
    job = task(ScoreNetwork(body), torch.randn(1, 1, 4, 4))
    body.train()
    values = find_method("gradient")().attribute(job)[""]
    torch.testing.assert_close(values.flatten(), body[2].weight[1].detach().abs())
    assert body.training


def test_meanwhile_no_parameter_asks_for_a_gradient_and_nothing_trains():
    twice = nn.Conv2d(1, 2, 3)
    network = nn.Sequential(twice, nn.BatchNorm2d(2), nn.Sequential(nn.Conv2d(2, 2, 1), twice))
    network[1].weight.requires_grad_(False)
    before = {name: one.requires_grad for name, one in network.named_parameters()}
    network.train()
    with untouched(network):
        assert not any(one.requires_grad for one in network.parameters())
        assert not any(module.training for module in network.modules())
    assert {name: one.requires_grad for name, one in network.named_parameters()} == before
    assert all(module.training for module in network.modules())
