"""LRP and DeepLIFT: where they begin, networks that look at shapes, and when a map is refused."""

from __future__ import annotations

import pytest
import torch
from captum.attr import LRP
from captum.attr._utils.lrp_rules import EpsilonRule
from torch import nn
from torch.nn import functional

from SaliencyExplain.attribution.methods.cam import GradCAM
from SaliencyExplain.attribution.methods.deep_lift import DeepLift, DeepShap
from SaliencyExplain.attribution.methods.gradient import Gradient
from SaliencyExplain.attribution.methods.integrated_gradients import IntegratedGradients
from SaliencyExplain.attribution.methods.layer_wise_relevance import LayerwiseRelevance
from SaliencyExplain.attribution.methods.occlusion import Occlusion
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.demo.phantoms import draw_phantom
from SaliencyExplain.demo.study import STUDY_SEEDS, classifier_folder
from SaliencyExplain.demo.tumours import CLASSES
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.explanation.explain import explain
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.models.loading import load_classifier
from Testing.builders import observe

SEED = STUDY_SEEDS + 94_000_000


@pytest.fixture(autouse=True)
def _same_random_numbers():
    torch.manual_seed(0)


def told(method, job):
    """The map, its figures and its notes."""
    observed = observe(method, job)
    return observed.map, observed.figures, observed.notes


def body(outputs=3):
    return nn.Sequential(
        nn.Conv2d(1, 5, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(5 * 16, outputs),
    ).eval()


class Ends(nn.Module):
    def __init__(self, inner, end):
        super().__init__()
        self.inner, self.end = inner, end

    def forward(self, images):
        return self.end(self.inner(images))


ENDS = {
    "softmax": (nn.Softmax(1), "none", "softmax"),
    "log-softmax": (nn.LogSoftmax(dim=1), "softmax", "softmax"),
    "sigmoid": (nn.Sigmoid(), "none", "sigmoid"),
    "function": (lambda x: functional.softmax(x, dim=-1), "none", "softmax"),
    "method": (lambda x: x.log_softmax(1), "softmax", "softmax"),
    "torch.sigmoid and a shape": (
        lambda x: torch.sigmoid(x)[:, :, None].flatten(1),
        "none",
        "sigmoid",
    ),
    "a tuple": (lambda x: (torch.softmax(x, 1), None), "none", "softmax"),
}


@pytest.mark.parametrize("kind", list(ENDS))
@pytest.mark.parametrize(
    "method", [LayerwiseRelevance(), DeepLift(), DeepShap()], ids=lambda m: m.name
)
def test_a_final_activation_is_left_out_and_a_note_says_so(task, kind, method):
    end, activation, before = ENDS[kind]
    inner, image = body(), torch.randn(1, 1, 8, 8)
    settings = {"backgrounds": torch.randn(2, 1, 8, 8)}
    whole = task(ScoreNetwork(Ends(inner, end).eval(), activation), image, 2, **settings)
    bare = task(ScoreNetwork(inner, before), image, 2, **settings)
    found, figures, notes = told(method, whole)
    expected, its_figures, nothing = told(method, bare)
    torch.testing.assert_close(found, expected)
    assert figures == pytest.approx(its_figures)
    assert found.abs().max() > 1e-3
    assert len(notes) == len(nothing) + 1
    assert "score before it" in notes[0]


@pytest.mark.parametrize("method", [LayerwiseRelevance(), DeepLift()], ids=lambda m: m.name)
@pytest.mark.parametrize("target", [0, 1])
def test_one_probability_of_two_classes_is_that_of_the_logit_before(task, method, target):
    inner, image = body(1), torch.randn(1, 1, 8, 8)
    whole = ScoreNetwork(Ends(inner, nn.Sigmoid()).eval(), "none", one_logit=True)
    found, _, _ = told(method, task(whole, image, target))
    expected, _, _ = told(method, task(ScoreNetwork(inner, one_logit=True), image, target))
    torch.testing.assert_close(found, expected)


def test_a_softmax_in_the_middle_is_refused_as_before(task):
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Softmax(1), nn.Flatten(), nn.Linear(72, 2))
    with pytest.raises(InputError) as error:
        LayerwiseRelevance().attribute(task(network.eval(), torch.randn(1, 1, 8, 8)))
    assert error.value.code is ErrorCode.METHOD_NETWORK
    assert "Softmax" in str(error.value)


class LooksAtShapes(nn.Module):
    """As VGG of timm: a small map is enlarged; and as test-time augmentation: a turned copy."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.last = nn.Linear(4 * 16, 3)

    def forward(self, images):
        x = torch.relu(self.first(images))
        if x.shape[-2] > 4:
            x = functional.max_pool2d(x, 2)
        for _ in range(len(x.shape) - 3):
            x = torch.relu(self.second(torch.flip(x, (2,))))
        assert x.shape[1] == 4
        return self.last(x.flip(-1).flatten(1))


class Unrolled(LooksAtShapes):
    """The same of an image of 8 x 8, in modules that captum knows; without the turns."""

    def __init__(self, other):
        super().__init__()
        self.load_state_dict(other.state_dict())
        self.pool, self.relus = nn.MaxPool2d(2), nn.ModuleList([nn.ReLU(), nn.ReLU()])
        with torch.no_grad():
            # A turn before a convolution is the turned kernel and a turn behind it.
            self.second.weight.copy_(other.second.weight.flip(2))
            weight = other.last.weight.view(3, 4, 4, 4)
            self.last.weight.copy_(weight.flip(2, 3).reshape(3, -1))

    def forward(self, images):
        x = self.pool(self.relus[0](self.first(images)))
        return self.last(self.relus[1](self.second(x)).flatten(1))


def test_networks_that_look_at_shapes_and_turn_maps_equal_captum(task):
    network = LooksAtShapes().eval()
    plain, image = Unrolled(network).eval(), torch.randn(1, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(network(image), plain(image))
    found, _, _ = told(LayerwiseRelevance(rules="epsilon"), task(network, image, 1))
    for module in plain.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.rule = EpsilonRule(epsilon=1e-6)
    expected = LRP(plain).attribute(image.clone().requires_grad_(), target=1).detach()[0, 0]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
    # captum's DeepLIFT is not complete where an activation comes before max pooling.
    found, _, _ = told(DeepLift(baseline="value"), task(network, image, 1))
    expected, _, _ = told(DeepLift(baseline="value"), task(Unrolled(network).eval(), image, 1))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_deep_shap_of_a_network_that_looks_at_shapes_takes_many_backgrounds(task):
    network, image = LooksAtShapes().eval(), torch.randn(1, 1, 8, 8)
    backgrounds = torch.randn(3, 1, 8, 8)
    found, figures, _ = told(DeepShap(), task(network, image, 1, backgrounds=backgrounds))
    with torch.no_grad():
        difference = network(image)[0, 1] - network(backgrounds)[:, 1].mean()
    assert float(found.sum()) == pytest.approx(float(difference), abs=1e-4)
    assert figures["backgrounds"] == 3


def test_occlusion_of_a_network_that_looks_at_shapes_equals_whole_passes(task):
    class Larger(LooksAtShapes):
        def forward(self, images):
            x = torch.relu(self.first(images))
            if x.shape[-2] > 4:
                x = torch.relu(self.second(x))
            return self.last(functional.adaptive_avg_pool2d(x, 4).flatten(1))

    network, image = Larger().eval(), torch.randn(1, 1, 64, 64)
    method = Occlusion(window_mm=8.0, stride_mm=8.0, fill="value", output="score")
    found = method.attribute(task(network, image, 1))[""]
    covered = image.clone()
    covered[..., 56:, :8] = 0
    with torch.no_grad():
        expected = float((network(image) - network(covered))[0, 1])
    assert float(found[63, 0]) == pytest.approx(expected, abs=1e-5)


class Frozen(nn.Module):
    """A backbone that runs without gradients, by no_grad or by detach."""

    def __init__(self, cut):
        super().__init__()
        self.backbone, self.cut = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU()), cut
        self.head = nn.Linear(4, 2)

    def forward(self, images):
        if self.cut == "no_grad":
            with torch.no_grad():
                features = self.backbone(images)
        else:
            features = self.backbone(images)
            features = features.detach() if self.cut == "detach" else features
        return self.head(features.mean((2, 3)))


@pytest.mark.parametrize("cut", ["no_grad", "detach"])
@pytest.mark.parametrize(
    "method", [Gradient(), GradCAM(), IntegratedGradients(steps=2)], ids=lambda m: m.name
)
def test_a_backbone_without_gradients_is_named(task, cut, method):
    with pytest.raises(InputError) as error:
        method.attribute(task(Frozen(cut).eval(), torch.rand(1, 1, 16, 16)))
    assert error.value.code is ErrorCode.NO_GRADIENT
    assert "'backbone'" in str(error.value)
    assert "no_grad" in str(error.value)


@pytest.mark.parametrize("cut", ["no_grad", "detach"])
@pytest.mark.parametrize("method", [LayerwiseRelevance(), DeepLift()], ids=lambda m: m.name)
def test_rules_need_no_gradient_of_the_network(task, cut, method):
    network, image = Frozen(cut).eval(), torch.rand(1, 1, 16, 16)
    found, _, _ = told(method, task(network, image))
    network.cut = ""
    expected, _, _ = told(method, task(network, image))
    torch.testing.assert_close(found, expected)
    assert found.abs().max() > 0


@pytest.mark.slow
@pytest.mark.parametrize(("name", "count"), [("phantom-2d-honest", 9), ("phantom-3d-honest", 4)])
def test_the_default_rules_keep_the_scores_sign(name, count):
    honest = load_classifier(classifier_folder(name))
    for number in range(count):
        phantom = draw_phantom(
            CLASSES[1 + number % 3], SEED + number, dimensions=honest.spatial_dims
        )
        done = explain(prepare(phantom.image, honest), [LayerwiseRelevance()])
        figures = done.attributions[0].provenance["figures"]
        assert figures["score"] > 0
        assert 0.5 < figures["relevance"] / figures["score"] < 2


@pytest.mark.slow
def test_what_has_exploded_is_refused_and_what_is_far_off_is_said():
    honest = load_classifier(classifier_folder("phantom-2d-honest"))
    phantom = draw_phantom(CLASSES[1], SEED, dimensions=2)
    with pytest.raises(InputError) as error:
        explain(prepare(phantom.image, honest), [LayerwiseRelevance(rules="epsilon")])
    assert error.value.code is ErrorCode.METHOD_NETWORK
    assert "epsilon" in str(error.value)
    seen = 0
    for number in range(6):
        phantom = draw_phantom(CLASSES[1], SEED + number, dimensions=2)
        done = explain(
            prepare(phantom.image, honest), [LayerwiseRelevance(rules="epsilon-plus-flat")]
        )
        provenance = done.attributions[0].provenance
        figures = provenance["figures"]
        near = 0.5 <= figures["relevance"] / figures["score"] <= 2
        said = any("adds up" in note for note in provenance.get("notes", ()))
        assert said != near
        seen += said
    assert seen


def test_a_score_whose_own_sign_says_nothing_keeps_the_classs_evidence_positive(task):
    # Softmax is the same when all scores are moved: so is the map.
    network, image = body(), torch.rand(1, 1, 8, 8)
    found, figures, _ = told(LayerwiseRelevance(), task(network, image, 1))
    with torch.no_grad():
        network[4].bias -= 50.0
    moved, its_figures, _ = told(LayerwiseRelevance(), task(network, image, 1))
    assert its_figures["score"] == pytest.approx(figures["score"], rel=1e-3)
    assert moved.shape == found.shape
