"""Maps of a difference of two classes, and of a target with a unit of its own."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from captum.attr import DeepLift as CaptumDeepLift
from captum.attr import IntegratedGradients as CaptumIntegratedGradients
from torch import Tensor, nn

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.attribution.network.score_combination import ScoreCombination
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.attribution.registry import find_method
from SaliencyExplain.errors import ErrorCode
from SaliencyExplain.specification.target import LOGIT, PROBABILITY
from Testing.builders import make_task, observe
from Testing.expected_errors import error_with
from Testing.quick_methods import names, quick

FOR, AGAINST = 2, 0


class Linear(nn.Module):
    """Scores that are weighted sums of the voxels."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, images: Tensor) -> Tensor:
        return torch.einsum("bcxy,kcxy->bk", images, self.weights)


def convolutional() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3, stride=2, padding=1),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
    )  # fmt: skip


def image(seed: int = 1) -> Tensor:
    return torch.randn((1, 1, 32, 32), generator=torch.Generator().manual_seed(seed))


def combined(task: Task, *, unit: str, against: int | None = AGAINST) -> Task:
    """The task with the difference of two classes, or one of them, as its target."""
    network = task.network.with_combination(ScoreCombination(FOR, against, unit))
    return dataclasses.replace(task, network=network, target=3)


def task_of(network: nn.Module, target: int = FOR) -> Task:
    return make_task(
        network, image(), target, backgrounds=image(7), regions=halves(), region_names=("a", "b")
    )


def halves() -> Tensor:
    regions = torch.ones((32, 32), dtype=torch.int64)
    regions[16:] = 2
    return regions


def map_of(method: Method, task: Task) -> Tensor:
    method.forward_passes(task)
    return next(iter(method.attribute(task).values()))


def test_the_gradient_of_a_linear_network_is_the_difference_of_its_weights():
    weights = torch.randn((3, 1, 32, 32), generator=torch.Generator().manual_seed(2))
    task = combined(task_of(Linear(weights)), unit=LOGIT)
    found = map_of(find_method("gradient-times-input")(), task)
    expected = ((weights[FOR] - weights[AGAINST]) * image()[0]).sum(0)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("output", ["probability", "score"])
def test_the_occlusion_of_a_difference_is_the_difference_of_the_occlusions(output):
    method = dataclasses.replace(quick("occlusion"), output=output)
    network = convolutional()
    unit = PROBABILITY if output == "probability" else LOGIT
    found = map_of(method, combined(task_of(network), unit=unit))
    parts = [map_of(method, task_of(network, target)) for target in (FOR, AGAINST)]
    torch.testing.assert_close(found, parts[0] - parts[1], atol=1e-6, rtol=1e-4)
    # Without a unit it is the method's own output.
    task = combined(task_of(network), unit="automatic")
    torch.testing.assert_close(map_of(method, task), found, atol=1e-6, rtol=1e-4)


LINEAR = ("gradient-times-input", "integrated-gradients", "deeplift", "deepshap", "cam")


@pytest.mark.parametrize("name", LINEAR)
def test_a_method_that_is_linear_in_the_scores_gives_the_difference_of_two_maps(name):
    network, method = convolutional(), quick(name)
    if hasattr(method, "output"):
        method = dataclasses.replace(method, output="score")
    found = map_of(method, combined(task_of(network), unit=LOGIT))
    parts = [map_of(method, task_of(network, target)) for target in (FOR, AGAINST)]
    torch.testing.assert_close(found, parts[0] - parts[1], atol=1e-5, rtol=1e-4)


class Difference(nn.Module):
    """The difference of two scores as a network of its own, for captum."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        scores = self.network(images)
        return scores[:, FOR : FOR + 1] - scores[:, AGAINST : AGAINST + 1]


def test_captums_maps_of_the_difference_are_the_same():
    network = convolutional().eval()
    task = combined(task_of(network), unit=LOGIT)
    method = find_method("deeplift")(baseline="value", value=0.0)
    # captum's rescale rule puts hooks on the activations of the network that it gets.
    theirs = CaptumDeepLift(Difference(copy.deepcopy(network))).attribute(image())
    torch.testing.assert_close(map_of(method, task), theirs[0, 0].detach(), atol=1e-5, rtol=1e-4)
    method = find_method("integrated-gradients")(
        baseline="value", value=0.0, steps=20, output="score"
    )
    reference = CaptumIntegratedGradients(Difference(network))
    theirs = reference.attribute(image(), n_steps=20, method="gausslegendre")
    torch.testing.assert_close(map_of(method, task), theirs[0, 0].float(), atol=1e-5, rtol=1e-4)


def test_relevance_adds_up_to_the_difference_of_the_scores():
    network = convolutional()
    for layer in network.modules():
        if getattr(layer, "bias", None) is not None:
            nn.init.zeros_(layer.bias)
    task = combined(task_of(network), unit=LOGIT)
    found = observe(find_method("lrp")(rules="epsilon", epsilon=1e-6), task)
    with torch.no_grad():
        scores = network(image())[0]
    difference = float(scores[FOR] - scores[AGAINST])
    assert found.figures["score"] == pytest.approx(difference, rel=1e-4)
    assert float(found.map.sum()) == pytest.approx(difference, rel=0.02)


@pytest.mark.parametrize("unit", [LOGIT, PROBABILITY])
def test_a_path_adds_up_to_the_change_of_the_watched_unit(unit):
    network = convolutional().eval()
    task = combined(task_of(network), unit=unit)
    method = find_method("integrated-gradients")(baseline="value", value=0.0, steps=60)
    with torch.no_grad():
        outputs = network(torch.cat([image(), torch.zeros_like(image())]))
    outputs = outputs.softmax(1) if unit == PROBABILITY else outputs
    changes = outputs[0] - outputs[1]
    expected = float(changes[FOR] - changes[AGAINST])
    assert float(map_of(method, task).sum()) == pytest.approx(expected, abs=2e-4)


def test_the_gradient_of_a_probability_is_that_of_the_softmax():
    network = convolutional().eval()
    task = combined(task_of(network), unit=PROBABILITY, against=None)
    voxels = image().requires_grad_()
    network(voxels).softmax(1)[0, FOR].backward()
    found = map_of(find_method("gradient-times-input")(), task)
    torch.testing.assert_close(found, (voxels.grad * image())[0, 0], atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("name", names(control_maps=False))
@pytest.mark.parametrize("unit", [LOGIT, PROBABILITY])
def test_every_method_explains_a_difference_or_refuses_the_unit_by_name(name, unit):
    method = quick(name)
    task = combined(task_of(convolutional()), unit=unit)
    if unit == PROBABILITY and not method.explains_probabilities:
        with error_with(ErrorCode.TARGET_KIND, name):
            method.forward_passes(task)
        return
    found = map_of(method, task)
    assert torch.isfinite(found).all()
    assert found.any()


def test_the_classes_of_a_single_logit_are_its_signs():
    torch.manual_seed(5)
    single = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                           nn.Linear(4, 1))  # fmt: skip
    network = ScoreNetwork(single, one_logit=True).eval()
    both = network.with_combination(ScoreCombination(1, 0, LOGIT))
    task = Task(network, image(), 1, (1.0, 1.0), backgrounds=image(7))
    doubled = dataclasses.replace(task, network=both, target=2)
    for name in ("gradient-times-input", "cam", "lrp", "deeplift"):
        method = find_method(name)()
        one, two = map_of(method, task), map_of(method, doubled)
        torch.testing.assert_close(two, 2 * one, atol=1e-5, rtol=1e-3)


def test_the_network_itself_is_left_as_it_was():
    network = ScoreNetwork(convolutional()).eval()
    with torch.no_grad():
        before = network(image())
        further = network.with_combination(ScoreCombination(FOR, AGAINST))
        after = further(image())
        assert network(image()).shape == before.shape == (1, 3)
    torch.testing.assert_close(after[:, :3], before, atol=0, rtol=0)
    probabilities = further.probabilities(after)[0].numpy()
    np.testing.assert_allclose(probabilities[3], probabilities[FOR] - probabilities[AGAINST])
    assert probabilities[:3].sum() == pytest.approx(1)
