from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from captum.attr import LRP
from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule, GammaRule
from monai.networks.nets import DenseNet121, EfficientNetBN, resnet18
from torch import nn
from torch.nn import functional

from SaliencyExplain.attribution.methods.layer_wise_relevance import (
    LayerwiseRelevance,
    linear_layer,
)
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.attribution.passes.relevance_rules import (
    COMPOSITES,
    Composite,
    alpha2_beta1,
    box,
    flat,
    gamma,
    plus,
)
from SaliencyExplain.demo.phantoms import draw_phantom
from SaliencyExplain.demo.study import STUDY_SEEDS, classifier_folder
from SaliencyExplain.demo.tumours import GLIOMA
from SaliencyExplain.errors import ErrorCode
from SaliencyExplain.explanation.explain import explain
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.models.loading import load_classifier
from Testing.builders import observe
from Testing.expected_errors import error_with

SEED = STUDY_SEEDS + 92_000_000
CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def relevance(job, **settings):
    observed = observe(LayerwiseRelevance(**settings), job)
    return observed.map, observed.figures


class Plain(nn.Module):
    """What captum's LRP supports in 2D and 3D; it has no rule for nn.Flatten."""

    def __init__(self, dims, *, bias=True):
        super().__init__()
        self.features = nn.Sequential(
            CONVOLUTION[dims](2, 5, 3, padding=1, bias=bias),
            nn.ReLU(),
            {2: nn.MaxPool2d, 3: nn.MaxPool3d}[dims](2),
            CONVOLUTION[dims](5, 6, 3, bias=bias),
            nn.ReLU(),
        )
        self.classes = nn.Sequential(
            nn.Linear(6 * 2**dims, 7, bias=bias), nn.ReLU(), nn.Linear(7, 3, bias=bias)
        )

    def forward(self, images):
        return self.classes(self.features(images).flatten(1))


def plain_network(dims, *, bias=True):
    return Plain(dims, bias=bias).eval()


def captum_relevance(network, image, rules):
    # captum's LRP knows a Conv3d only when it is told the rule.
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.Linear)):
            module.rule = rules(module)
    found = LRP(network).attribute(image.clone().requires_grad_(), target=1)
    return found.detach()[0].sum(0)


@pytest.fixture(params=[2, 3], ids=["2D", "3D"])
def dims(request):
    return request.param


def test_a_linear_network_gives_each_voxel_its_own_contribution(task):
    dense = nn.Linear(24, 3, bias=False)
    image = torch.randn(1, 1, 4, 6)
    values, _ = relevance(task(nn.Sequential(nn.Flatten(), dense), image), rules="epsilon")
    expected = (dense.weight[1] * image.flatten()).reshape(4, 6).detach()
    torch.testing.assert_close(values, expected, rtol=1e-4, atol=1e-5)


def test_epsilon_equals_captum(task, dims):
    network, image = plain_network(dims), torch.randn(1, 2, *(8,) * dims)
    values, _ = relevance(task(network, image), rules="epsilon", epsilon=1e-4)
    expected = captum_relevance(network, image, lambda _: EpsilonRule(1e-4))
    torch.testing.assert_close(values, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("rules", ["gamma", "plus"])
def test_gamma_and_plus_equal_captum_where_inputs_are_positive(task, dims, rules, monkeypatch):
    network, image = plain_network(dims, bias=False), torch.rand(1, 2, *(8,) * dims)
    convolution = gamma if rules == "gamma" else plus
    monkeypatch.setitem(COMPOSITES, "epsilon", Composite(convolution, None, plus))
    values, _ = relevance(task(network, image), rules="epsilon")

    def rule(module):
        if isinstance(module, nn.Linear):
            return EpsilonRule(1e-6)
        later = module is not network.features[0]
        return GammaRule(0.25) if later and rules == "gamma" else Alpha1_Beta0_Rule()

    expected = captum_relevance(network, image, rule)
    torch.testing.assert_close(values, expected, rtol=2e-3, atol=2e-6)


RULES = {"flat": flat, "box": box, "plus": plus, "alpha2-beta1": alpha2_beta1}


@pytest.mark.parametrize("name", list(RULES))
def test_a_rule_is_that_of_the_paper(name):
    """Of one convolution, written out for each output cell."""
    conv, image = nn.Conv2d(1, 2, 3), torch.randn(1, 1, 5, 5)
    above = torch.randn(1, 2, 3, 3)
    low, high = image.amin((0, 2, 3), keepdim=True), image.amax((0, 2, 3), keepdim=True)
    layer = replace(linear_layer(conv, None), low=low, high=high)
    values = RULES[name](layer, above, image, conv(image).detach())
    expected = torch.zeros(5, 5)
    for channel in range(2):
        w = conv.weight[channel, 0].detach()
        for i in range(3):
            for j in range(3):
                x = image[0, 0, i : i + 3, j : j + 3]
                up, down = (x * w).clamp(min=0), (x * w).clamp(max=0)
                bounded = x * w - low[0, 0] * w.clamp(min=0) - high[0, 0] * w.clamp(max=0)
                shares = {
                    "flat": torch.ones(3, 3) / 9,
                    "box": bounded / bounded.sum(),
                    "plus": up / up.sum(),
                    "alpha2-beta1": 2 * up / up.sum() - down / down.sum(),
                }[name]
                expected[i : i + 3, j : j + 3] += above[0, channel, i, j] * shares
    torch.testing.assert_close(values[0, 0], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("rules", list(COMPOSITES))
def test_without_biases_all_relevance_reaches_the_voxels(task, dims, rules):
    network, image = plain_network(dims, bias=False), torch.randn(1, 2, *(8,) * dims)
    # A cell with a positive value has positive contributions; one with a negative may have none.
    with torch.no_grad():
        scores = network(image)[0]
        score, target = (value.item() for value in scores.max(0))
        if rules == "stable":
            # The score less the mean of the other classes'.
            score = 1.5 * (score - float(scores.mean()))
    assert score > 0
    values, figures = relevance(task(network, image, target), rules=rules)
    assert figures["score"] == pytest.approx(score, rel=1e-5)
    assert figures["relevance"] == pytest.approx(float(values.sum()), rel=1e-4, abs=1e-6)
    assert float(values.sum()) == pytest.approx(score, rel=2e-3)


def test_biases_keep_their_share_under_epsilon(task):
    dense = nn.Linear(16, 2)
    image = torch.randn(1, 1, 4, 4)
    _, figures = relevance(task(nn.Sequential(nn.Flatten(), dense), image), rules="epsilon")
    assert figures["score"] - figures["relevance"] == pytest.approx(
        float(dense.bias[1].detach()), abs=1e-4
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["DenseNet121", "ResNet18", "EfficientNet"])
def test_networks_with_relu_conserve_relevance_and_others_say_what_is_lost(task, dims, kind):
    make = {
        "DenseNet121": lambda: DenseNet121(dims, 1, 3),
        "ResNet18": lambda: resnet18(
            spatial_dims=dims, n_input_channels=1, num_classes=3, widen_factor=0.25
        ),
        "EfficientNet": lambda: EfficientNetBN(
            "efficientnet-b0", spatial_dims=dims, in_channels=1, num_classes=3, pretrained=False
        ),
    }[kind]
    network = make()
    side = 64 if dims == 2 else 32
    for module in network.modules():
        if isinstance(module, nn.Linear):  # its bias keeps its share, and no others do
            nn.init.zeros_(module.bias)
        if isinstance(module, NORM[dims]):
            module.momentum = 1.0
    network.train()
    with torch.no_grad():  # values of about 1 in all layers, as in a trained network
        network(torch.randn(4, 1, *(side,) * dims))
    job = task(network, torch.randn(1, 1, *(side,) * dims))
    values, figures = relevance(job, rules="epsilon-plus-flat")
    assert values.isfinite().all()
    assert float(values.abs().max()) > 0
    assert figures["relevance"] == pytest.approx(float(values.sum()), rel=1e-4, abs=1e-6)
    if kind != "EfficientNet":
        # SiLU gives negative values, and cells that have negative contributions alone lose theirs.
        assert figures["relevance"] == pytest.approx(figures["score"], rel=0.01)


def test_a_normalisation_after_a_convolution_is_part_of_it(task, dims):
    conv, norm = CONVOLUTION[dims](1, 4, 3), NORM[dims](4)
    for values in (norm.running_mean, norm.bias):
        nn.init.uniform_(values, -0.5, 0.5)
    for values in (norm.running_var, norm.weight):
        nn.init.uniform_(values, 0.5, 2.0)
    rest = (nn.ReLU(), nn.Flatten(), nn.Linear(4 * 3**dims, 2))
    image = torch.randn(1, 1, *(5,) * dims)
    values, _ = relevance(task(nn.Sequential(conv, norm, *rest), image), rules="epsilon")
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    folded = CONVOLUTION[dims](1, 4, 3)
    folded.weight.data = conv.weight * scale.reshape(-1, *[1] * (dims + 1))
    folded.bias.data = (conv.bias - norm.running_mean) * scale + norm.bias
    expected, _ = relevance(task(nn.Sequential(folded, *rest), image), rules="epsilon")
    torch.testing.assert_close(values, expected, rtol=1e-3, atol=1e-5)


class Functional(nn.Module):
    """Overwrites, adds, concatenates and pools without modules."""

    def __init__(self, *, modules: bool):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.last = nn.Linear(8, 2)
        self.act = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.modules_only = modules

    def forward(self, images):
        x = self.first(images)
        if self.modules_only:
            x = self.act(x)
            y = self.act(self.second(x) + x)
            return self.last(self.pool(torch.cat([x, y], 1)).flatten(1))
        functional.relu_(x)
        y = self.second(x)
        y += x
        y = functional.relu(y, inplace=True)
        return self.last(torch.cat([x, y], 1).mean((2, 3)))


@pytest.mark.parametrize("rules", ["epsilon", "epsilon-plus-flat"])
def test_operations_that_are_no_modules_are_seen(task, rules):
    one, other = Functional(modules=True), Functional(modules=False)
    other.load_state_dict(one.state_dict())
    image = torch.randn(1, 1, 8, 8)
    expected, _ = relevance(task(one, image), rules=rules)
    values, _ = relevance(task(other, image), rules=rules)
    torch.testing.assert_close(values, expected, rtol=1e-3, atol=1e-6)


class Standardised(nn.Module):
    """A convolution that standardises its weight at each call, as ResNetV2 of timm does."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 1, 3, 3))
        self.bias = nn.Parameter(torch.randn(3))
        self.norm = nn.BatchNorm2d(3)
        self.last = nn.Linear(48, 2)
        nn.init.uniform_(self.norm.weight, 0.5, 2)

    def standardised(self):
        return self.weight - self.weight.mean((1, 2, 3), keepdim=True)

    def forward(self, images):
        x = functional.conv2d(images, self.standardised(), bias=self.bias, padding=1, stride=2)
        n = self.norm
        x = functional.batch_norm(x, n.running_mean, n.running_var, n.weight, n.bias)
        x = functional.relu(x).flatten(1)
        return functional.linear(x, self.last.weight, self.last.bias)


@pytest.mark.parametrize("rules", list(COMPOSITES))
def test_linear_layers_that_are_calls_are_as_those_that_are_modules(task, rules):
    calls, conv = Standardised(), nn.Conv2d(1, 3, 3, padding=1, stride=2)
    conv.weight.data, conv.bias.data = calls.standardised().detach(), calls.bias.data
    # Between a module of its own and the convolution the normalisation is not folded.
    modules = nn.Sequential(conv, nn.Identity(), calls.norm, nn.ReLU(), nn.Flatten(), calls.last)
    image = torch.randn(1, 1, 8, 8)
    expected, _ = relevance(task(modules, image), rules=rules)
    values, _ = relevance(task(calls, image), rules=rules)
    torch.testing.assert_close(values, expected, rtol=1e-4, atol=1e-6)


class Gated(nn.Module):
    def __init__(self, *, gated: bool):
        super().__init__()
        self.body = nn.Conv2d(1, 3, 3, padding=1, bias=False)
        self.gate = nn.Linear(3, 3)
        self.last = nn.Linear(3, 2, bias=False)
        self.gated = gated

    def forward(self, images):
        x = self.body(images)
        gate = torch.sigmoid(self.gate(x.mean((2, 3))))[:, :, None, None]
        return self.last((x * gate if self.gated else gate * x).mean((2, 3)))


@pytest.mark.parametrize("gated", [True, False], ids=["after", "before"])
def test_a_gate_lets_relevance_through_and_takes_none(task, gated):
    network = Gated(gated=gated).eval()
    image = torch.randn(1, 1, 6, 6)
    values, _ = relevance(task(network, image), rules="epsilon")
    x = network.body(image)
    gate = torch.sigmoid(network.gate(x.mean((2, 3)))).detach()
    voxels = image.clone().requires_grad_()
    fixed = network.last(network.body(voxels).mean((2, 3)) * gate)[0, 1]
    expected = (voxels * torch.autograd.grad(fixed, voxels)[0])[0, 0].detach()
    torch.testing.assert_close(values, expected, rtol=1e-2, atol=1e-4)


def test_the_first_of_two_classes_of_one_logit_is_the_other_with_its_sign_turned(task):
    body = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 1))
    image = torch.randn(1, 1, 6, 6)
    maps = [
        relevance(task(ScoreNetwork(body, one_logit=True), image, target))[0] for target in (0, 1)
    ]
    torch.testing.assert_close(maps[0], -maps[1])
    assert float(maps[1].abs().max()) > 0


@pytest.mark.parametrize(
    ("layer", "named"),
    [(nn.Sigmoid(), r"'1' (Sigmoid)"), (nn.Softmax(1), r"'1' (Softmax)")],
)
def test_a_layer_without_a_rule_is_named(task, layer, named):
    network = nn.Sequential(nn.Conv2d(1, 2, 3), layer, nn.Flatten(), nn.Linear(32, 2))
    with error_with(ErrorCode.METHOD_NETWORK, "lrp", named, "occlusion"):
        relevance(task(network, torch.randn(1, 1, 6, 6)))


def test_a_network_whose_way_depends_on_the_values_is_refused(task):
    class Deciding(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(16, 2)

        def forward(self, images):
            x = images.flatten(1)
            return self.last(x if x.sum() > 0 else -x)

    with error_with(ErrorCode.METHOD_NETWORK, "lrp"):
        relevance(task(Deciding(), torch.randn(1, 1, 4, 4)))


def test_hooks_that_change_the_scores_are_noticed(task):
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(32, 2))
    network[0].register_forward_hook(lambda _module, _inputs, output: output * 3)
    with error_with(ErrorCode.METHOD_NETWORK, "lrp"):
        relevance(task(network, torch.randn(1, 1, 6, 6)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["phantom-3d-honest", "phantom-2d-honest"])
def test_relevance_lies_on_the_planted_tumour(name):
    honest = load_classifier(classifier_folder(name))
    gains = []
    for seed in range(3):
        phantom = draw_phantom(GLIOMA, SEED + seed, dimensions=honest.spatial_dims)
        found = explain(prepare(phantom.image, honest, GLIOMA), [LayerwiseRelevance()])
        values = np.clip(np.asarray(found.attributions[0].values), 0, None)
        tumour = phantom.masks["tumour"]
        gains.append(values.reshape(tumour.shape)[tumour].sum() / values.sum() / tumour.mean())
    # Of a map that knows nothing, 1.
    assert min(gains) > 2, gains
