from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from captum.attr import DeepLift as CaptumDeepLift
from captum.attr import DeepLiftShap
from monai.networks.nets import DenseNet121, SEResNet50, resnet18
from torch import nn
from torch.nn import functional

from SaliencyExplain.attribution.methods.deep_lift import DeepLift, DeepShap
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.demo.phantoms import draw_phantom
from SaliencyExplain.demo.study import STUDY_SEEDS, classifier_folder
from SaliencyExplain.demo.tumours import GLIOMA
from SaliencyExplain.errors import Cancelled, ErrorCode
from SaliencyExplain.explanation.explain import explain
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.models.loading import load_classifier
from Testing.builders import observe
from Testing.expected_errors import error_with

SEED = STUDY_SEEDS + 93_000_000


def contributions(method, job):
    observed = observe(method, job)
    return observed.map, observed.figures


def plain_network(dims):
    """What captum is complete for: no activation before max pooling, no windows that overlap."""
    conv, pool = ((nn.Conv2d, nn.MaxPool2d), (nn.Conv3d, nn.MaxPool3d))[dims - 2]
    return nn.Sequential(
        conv(2, 5, 3, padding=1),
        pool(2),
        conv(5, 6, 3),
        nn.ELU(),
        nn.Flatten(),
        nn.Linear(6 * 2**dims, 7),
        nn.ReLU(),
        nn.Linear(7, 7),
        nn.Tanh(),
        nn.Linear(7, 3),
    ).eval()


@pytest.fixture(params=[2, 3], ids=["2D", "3D"])
def dims(request):
    return request.param


def test_deep_lift_equals_captum(task, dims):
    network, image = plain_network(dims), torch.randn(1, 2, *(8,) * dims)
    values, _ = contributions(DeepLift(baseline="value", value=0.3), task(network, image))
    reference = torch.full_like(image, 0.3)
    expected = CaptumDeepLift(network).attribute(image, reference, target=1)[0].sum(0).detach()
    torch.testing.assert_close(values, expected, rtol=1e-3, atol=1e-5)


def test_deep_shap_equals_captum(task, dims):
    network, image = plain_network(dims), torch.randn(1, 2, *(8,) * dims)
    backgrounds = torch.randn(5, 2, *(8,) * dims)
    values, figures = contributions(DeepShap(), task(network, image, backgrounds=backgrounds))
    expected = DeepLiftShap(network).attribute(image, backgrounds, target=1)[0].sum(0).detach()
    torch.testing.assert_close(values, expected, rtol=1e-3, atol=1e-5)
    assert figures["backgrounds"] == 5


def test_of_a_linear_network_it_is_weight_times_difference(task):
    dense, image = nn.Linear(24, 3), torch.randn(1, 1, 4, 6)
    values, _ = contributions(DeepLift("mean"), task(nn.Sequential(nn.Flatten(), dense), image))
    expected = dense.weight[1].reshape(4, 6) * (image - image.mean())[0, 0]
    torch.testing.assert_close(values, expected.detach(), rtol=1e-4, atol=1e-6)


NETWORKS = {
    "DenseNet121": lambda dims: DenseNet121(dims, 1, 3),
    "ResNet18": lambda dims: resnet18(
        spatial_dims=dims, n_input_channels=1, num_classes=3, widen_factor=0.25
    ),
    "SEResNet50": lambda dims: SEResNet50(
        spatial_dims=dims, in_channels=1, num_classes=3, layers=(1, 1, 1, 1)
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(NETWORKS))
def test_contributions_add_up_to_the_difference_of_the_scores(task, dims, kind):
    if (kind, dims) == ("SEResNet50", 3):
        pytest.skip("slow in 3D, and no layer of it is another than in 2D")
    side = 64 if dims == 2 else 32
    network = NETWORKS[kind](dims).eval()
    image, background = torch.randn(2, 1, 1, *(side,) * dims)
    job = task(network, image, backgrounds=background)
    values, figures = contributions(DeepLift(baseline="backgrounds"), job)
    with torch.no_grad():
        expected = float((network(image) - network(background))[0, 1])
    assert float(values.double().sum()) == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert figures["score"] - figures["reference_score"] == pytest.approx(expected, abs=1e-4)
    assert figures["sum"] == pytest.approx(float(values.sum()), rel=1e-3, abs=1e-5)


class Functional(nn.Module):
    def __init__(self, *, modules):
        super().__init__()
        self.body = nn.Conv2d(1, 4, 3)
        self.act = nn.ReLU()
        self.last = nn.Linear(8, 2)
        self.modules_only = modules

    def forward(self, images):
        x = self.body(images)
        if self.modules_only:
            y = self.act(x)
        else:
            x, y = x.clone(), x
            functional.relu_(y)
        return self.last(torch.cat([x, y], 1).mean((2, 3)))


def test_a_relu_that_overwrites_its_input_is_as_one_that_does_not(task):
    one, other = Functional(modules=True), Functional(modules=False)
    other.load_state_dict(one.state_dict())
    image = torch.randn(1, 1, 8, 8)
    expected, _ = contributions(DeepLift(), task(one, image))
    values, _ = contributions(DeepLift(), task(other, image))
    torch.testing.assert_close(values, expected)
    assert float(values.abs().max()) > 0


def test_the_two_classes_of_one_logit_have_opposite_contributions(task):
    body = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 1))
    image = torch.randn(1, 1, 6, 6)
    first, second = (
        contributions(DeepLift(), task(ScoreNetwork(body, one_logit=True), image, target))[0]
        for target in (0, 1)
    )
    torch.testing.assert_close(first, -second)


@pytest.mark.parametrize("method", [DeepLift, DeepShap])
def test_a_normalisation_by_the_image_itself_is_refused_by_name(task, method):
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.InstanceNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2)
    )
    job = task(network, torch.randn(1, 1, 6, 6), backgrounds=torch.randn(2, 1, 6, 6))
    with error_with(ErrorCode.METHOD_NETWORK, "'1' (InstanceNorm2d)", "integrated-gradients"):
        method().attribute(job)


def test_deep_shap_asks_for_backgrounds(task):
    with error_with(ErrorCode.BACKGROUNDS, "--background"):
        DeepShap().attribute(task(plain_network(2), torch.randn(1, 2, 8, 8)))


@pytest.mark.parametrize("size", [1, 3])
def test_deep_shap_does_not_depend_on_the_batches(task, size):
    network, image = plain_network(2), torch.randn(1, 2, 8, 8)
    backgrounds = torch.randn(5, 2, 8, 8)
    expected = DeepShap().attribute(task(network, image, backgrounds=backgrounds))[""]
    job = task(network, image, backgrounds=backgrounds, batch_size=size)
    torch.testing.assert_close(DeepShap().attribute(job)[""], expected, rtol=1e-4, atol=1e-6)


def test_at_its_deadline_deep_shap_gives_the_mean_so_far(task):
    network, image = plain_network(2), torch.randn(1, 2, 8, 8)
    backgrounds = torch.randn(5, 2, 8, 8)
    job = task(
        network, image, backgrounds=backgrounds, batch_size=1, deadline=time.perf_counter() - 1
    )
    values, figures = contributions(DeepShap(), job)
    first = task(network, image, backgrounds=backgrounds[:1])
    torch.testing.assert_close(values, DeepShap().attribute(first)[""])
    assert figures["backgrounds"] == 1


def test_a_cancel_ends_it(task):
    def cancel(done, total):
        assert total == DeepShap().forward_passes(job)
        raise Cancelled

    job = task(
        plain_network(2),
        torch.randn(1, 2, 8, 8),
        backgrounds=torch.randn(3, 2, 8, 8),
        progress=cancel,
    )
    with pytest.raises(Cancelled):
        DeepShap().attribute(job)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["phantom-3d-honest", "phantom-2d-honest"])
def test_against_a_healthy_head_the_tumour_contributes(name):
    """Two phantoms of one seed are the same head, with and without the tumour."""
    honest = load_classifier(classifier_folder(name))
    gains = []
    for seed in range(2):
        ill, healthy = (
            draw_phantom(label, SEED + seed, dimensions=honest.spatial_dims)
            for label in (GLIOMA, "none")
        )
        found = explain(prepare(ill.image, honest, GLIOMA), [DeepLift()])
        assert healthy.image.shape == ill.image.shape
        values = np.clip(np.asarray(found.attributions[0].values), 0, None)
        tumour = ill.masks["tumour"]
        values = values.reshape(tumour.shape)
        gains.append(values[tumour].sum() / values.sum() / tumour.mean())
    assert min(gains) > 2, gains
