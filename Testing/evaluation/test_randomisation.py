"""Random weights: on copies, every weight once, and maps that ignore them are found out."""

from __future__ import annotations

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from monai.networks.nets import DenseNet, resnet10

from SaliencyExplain.attribution.methods.cam import GradCAM
from SaliencyExplain.attribution.methods.control_maps import CentreMap
from SaliencyExplain.attribution.methods.gradient import Gradient
from SaliencyExplain.attribution.methods.guided_backpropagation import GuidedBackpropagation
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.errors import ErrorCode
from SaliencyExplain.evaluation.image.answers import NO, PARTLY, UNKNOWN, YES, depends_on_weights
from SaliencyExplain.evaluation.image.changed_maps import MapMaker
from SaliencyExplain.evaluation.image.evaluation_passes import Work
from SaliencyExplain.evaluation.image.randomisation import randomised, sanity, stages_of
from SaliencyExplain.evaluation.image.similarity import similarity
from Testing.expected_errors import error_with


def evaluated(method, made, **settings):
    maker = MapMaker(method, 1.0, Work(1e9))
    settings = {"stages": 4, "draws": 3, "independent": True, **settings}
    found = sanity(maker, made, maker.maps(made), None, **settings)
    return next(iter(found.values()))


@pytest.mark.parametrize(
    "network",
    [
        DenseNet(3, 1, 2, init_features=4, growth_rate=4, block_config=(2, 2)),
        resnet10(spatial_dims=3, n_input_channels=1, num_classes=2),
    ],
    ids=["DenseNet", "ResNet"],
)
@pytest.mark.parametrize("most", [1, 3, 6])
def test_the_stages_hold_every_weight_once_and_begin_with_the_last_layer(network, most):
    stages = stages_of(ScoreNetwork(network), most)
    names = [name for stage in stages for name in stage.parameters]
    assert sorted(names) == sorted(name for name, _ in network.named_parameters())
    assert len(stages) == most
    if most > 1:
        last = [name for name, _ in network.named_parameters()][-1].rpartition(".")[0]
        assert {name.rpartition(".")[0] for name in stages[0].parameters} == {last}


def test_random_weights_are_the_trained_ones_in_another_order_and_the_network_keeps_its_own(small):
    network = small()
    before = copy.deepcopy(network.state_dict())
    stages = stages_of(network, 3)
    changed = randomised(network, stages[:1], seed=1)
    names = {f"network.{name}" for name in stages[0].parameters}
    for name, values in changed.state_dict().items():
        assert torch.equal(network.state_dict()[name], before[name])
        same = torch.equal(values, before[name])
        assert same == (name not in names)
        assert torch.equal(values.flatten().sort()[0], before[name].flatten().sort()[0])
    again = randomised(network, stages[:1], seed=1).state_dict()
    assert all(torch.equal(again[name], value) for name, value in changed.state_dict().items())


def test_a_linear_networks_random_gradient_is_its_weights_in_another_order(linear, task):
    weights = torch.rand(1, 12, 11)
    made = task(linear(weights), torch.rand(1, 1, 12, 11))
    found = evaluated(Gradient(), made)
    assert abs(found.all_random[0].similarity.rank_correlation) < 0.3
    shuffled = randomised(made.network, stages_of(made.network, 1), made.seed)
    expected = similarity(
        weights[0].numpy(), shuffled.network.weights.detach().abs()[0].numpy()
    ).rank_correlation
    assert found.all_random[0].similarity.rank_correlation == pytest.approx(expected)
    assert depends_on_weights(found, "").answer == YES


def test_a_map_that_knows_nothing_of_the_network_is_flagged(small, task):
    made = task(small(), torch.rand(1, 1, 12, 12, 12))
    found = evaluated(CentreMap(), made)
    assert found.alike_at_random == pytest.approx(1.0)
    answer = depends_on_weights(found, "")
    assert answer.answer == NO
    assert "explains nothing" in answer.words


def test_weights_that_are_equal_within_each_layer_tell_nothing(small, task):
    network = small()
    with torch.no_grad():
        for weights in network.parameters():
            weights.fill_(0.1)
    found = evaluated(Gradient(), task(network, torch.rand(1, 1, 12, 12, 12)))
    assert not found.outputs_change
    assert found.all_random[0].output_change == 0
    answer = depends_on_weights(found, "")
    assert answer.answer == UNKNOWN


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_a_network_that_answers_otherwise_is_told_from_one_that_does_not(small, task, scale):
    network = small()
    with torch.no_grad():
        network.network.last.weight.mul_(scale)
        network.network.last.bias.zero_()
    found = evaluated(Gradient(), task(network, torch.rand(1, 1, 12, 12, 12)))
    assert found.outputs_change


def test_without_a_body_mask_only_the_same_map_and_another_one_are_an_answer(small, task):
    same = evaluated(CentreMap(), task(small(), torch.rand(1, 1, 12, 12, 12)))
    assert depends_on_weights(same, "", body_known=False).answer == NO
    stage = same.all_random[0]
    for correlation, answer in ((0.3, YES), (0.6, UNKNOWN), (0.8, UNKNOWN)):
        similarity = dataclasses.replace(
            stage.similarity,
            rank_correlation=correlation,
            rank_correlation_absolute=correlation,
        )
        alike = dataclasses.replace(stage, similarity=similarity)
        found = dataclasses.replace(
            same, cascading=(alike,), independent=(), all_random=(alike,) * 3
        )
        assert depends_on_weights(found, "", body_known=False).answer == answer


def test_a_map_that_becomes_constant_has_nothing_of_the_trained_one(small, task):
    network = small()
    with torch.no_grad():
        network.network.last.weight.fill_(1.0)  # in any order the same
        network.network.third.bias.fill_(-100.0)  # no feature, no gradient
    made = task(network, torch.rand(1, 1, 12, 12, 12))
    maker = MapMaker(GradCAM(), 1.0, Work(1e9))
    original = {"third": np.random.default_rng(0).random((12, 12, 12)).astype(np.float32)}
    found = sanity(maker, made, original, None, stages=3, draws=1, independent=False)["third"]
    assert math.isnan(found.cascading[0].similarity.alike)
    assert found.alike_at_random == 0.0 or found.alike_at_random < 0.5


@pytest.mark.slow
def test_guided_backpropagation_ignores_the_layers_that_know_the_classes(phantom_task):
    """As Adebayo et al. 2018 found: it changes only with the first layers' weights."""
    guided = evaluated(GuidedBackpropagation(), phantom_task, stages=6, draws=1, independent=False)
    gradient = evaluated(Gradient(), phantom_task, stages=6, draws=1, independent=False)
    gradcam = evaluated(GradCAM(), phantom_task, stages=6, draws=1, independent=False)
    assert guided.cascading[0].similarity.alike > 0.8
    assert guided.alike_but_first > gradient.alike_but_first
    assert guided.alike_but_first > 0.7 > gradcam.alike_but_first
    assert depends_on_weights(guided, "").answer in (PARTLY, NO)
    assert depends_on_weights(gradcam, "").answer == YES


def test_similarity_of_random_networks_is_quantus(small, task):
    quantus = pytest.importorskip("quantus", exc_type=ImportError)
    image = torch.rand(1, 1, 14, 14)
    network = small(axes=2)
    original = Gradient().attribute(task(network, image))[""].numpy()

    def explained(model, inputs, targets, **_):
        made = task(model.eval(), torch.as_tensor(inputs), int(targets[0]))
        return Gradient().attribute(made)[""].numpy()[None, None]

    theirs = quantus.MPRT(
        layer_order="top_down", seed=5, normalise=False, disable_warnings=True
    )(
        model=network, x_batch=image.numpy(), y_batch=np.array([1]),
        a_batch=original[None, None], explain_func=explained, device="cpu",
    )  # fmt: skip
    # Their networks, drawn the same way; our similarity.
    changed = copy.deepcopy(network)
    layers = [m for m in changed.named_modules() if hasattr(m[1], "reset_parameters")][::-1]
    for name, layer in layers:
        torch.manual_seed(6)
        layer.reset_parameters()
        values = Gradient().attribute(task(changed, image))[""].numpy()
        assert similarity(original, values).rank_correlation == pytest.approx(
            theirs[name][0], abs=1e-6
        )


def test_a_network_without_weights_is_refused():
    class Mean(torch.nn.Module):
        def forward(self, images):
            return images.flatten(1).mean(1, keepdim=True).repeat(1, 2)

    with error_with(ErrorCode.LAYERS_HIDDEN):
        stages_of(ScoreNetwork(Mean()), 3)


def test_torchscript_is_randomised_on_a_copy_too(small):
    network = small(axes=2)
    scripted = ScoreNetwork(torch.jit.script(network.network)).eval()
    image = torch.rand(1, 1, 14, 14)
    before = scripted(image)
    changed = randomised(scripted, stages_of(scripted, 2), seed=0)
    assert torch.equal(scripted(image), before)
    assert not torch.allclose(changed(image), before)
