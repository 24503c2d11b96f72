"""What networks return: several outputs, probabilities, and outputs that are not class scores."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from SaliencyExplain.attribution.methods.occlusion import Occlusion
from SaliencyExplain.attribution.network.network_outputs import outputs_by_path, scores_in
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.attribution.registry import find_method
from SaliencyExplain.errors import ClassifierError, ErrorCode, InputError
from SaliencyExplain.explanation.explain import explain
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.models.bundle_settings import by_name
from SaliencyExplain.models.inspection import describe
from SaliencyExplain.models.loading import load_classifier
from SaliencyExplain.models.wrapping import wrap
from Testing.models.conftest import affine_of, image_of

NAMES = ["a", "b", "c"]

# One body, and a class for each way in which networks return what they found.
NETWORKS = """
from dataclasses import dataclass
from typing import NamedTuple
import torch
from torch import Tensor, nn
import torch.nn.functional as F

class Body(nn.Module):
    width = 3
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.head = nn.Linear(4, self.width)
        self.other = nn.Linear(4, 3)
    def features(self, x):
        return F.relu(self.conv(x)).mean((2, 3))
    def scores(self, x):
        return self.head(self.features(x))
    def forward(self, x):
        return self.scores(x)

class TwoHeads(Body):
    def forward(self, x):
        f = self.features(x)
        return self.head(f), self.other(f)
class ListOfTwo(TwoHeads):
    def forward(self, x):
        return list(super().forward(x))
class EqualFeatures(Body):
    def forward(self, x):
        f = self.other(self.features(x))
        return f, F.pad(self.scores(x), (0, 0))
class WideFeatures(Body):
    def forward(self, x):
        return self.features(x), self.scores(x)
class Nested(Body):
    def forward(self, x):
        f = self.features(x)
        return {"features": f, "heads": {"grade": self.head(f), "extra": [f, None]}}
class Logits(Body):
    def forward(self, x):
        return {"hidden": self.other(self.features(x)), "logits": self.scores(x)}
class WithProbabilities(Body):
    def forward(self, x):
        s = self.scores(x)
        return s.softmax(1), s, s.argmax(1)
@dataclass
class Found:
    features: Tensor
    grade: Tensor
class Dataclass(Body):
    def forward(self, x):
        return Found(self.features(x), self.scores(x))
class Pair(NamedTuple):
    features: Tensor
    grade: Tensor
class Named(Body):
    def forward(self, x):
        return Pair(self.features(x), self.scores(x))
class Spatial(Body):
    def forward(self, x):
        return self.scores(x)[:, :, None, None]
class Softmax(Body):
    def forward(self, x):
        return (200 * self.scores(x)).softmax(1)
class LogSoftmax(Body):
    def forward(self, x):
        return self.scores(x).log_softmax(1)
class Sigmoid(Body):
    def forward(self, x):
        return self.scores(x).sigmoid()
class ByHand(Body):
    def forward(self, x):
        return 1 / (1 + torch.exp(-self.scores(x)))
class Folds(Body):
    def forward(self, x):
        s = self.scores(x)
        return torch.stack([s.softmax(1), (2 * s).softmax(1)]).mean(0)
class Even(Body):
    # Logits that are always in [0, 1]: the features do not depend on the image's scale.
    def features(self, x):
        return F.normalize(super().features(x) + 1e-3, dim=1)
    def scores(self, x):
        return F.linear(self.features(x), 0.01 * self.head.weight, torch.full((self.width,), 0.4))
class Ordinal(Body):
    def forward(self, x):
        return self.features(x).sum(1, keepdim=True) + torch.tensor([1.0, 0.0, -1.0])
class OrdinalSigmoid(Ordinal):
    def forward(self, x):
        return super().forward(x).sigmoid()
class Survival(Body):
    def forward(self, x):
        return torch.cumprod(1 - self.scores(x).sigmoid(), 1)
class Falling(Body):
    # Three probabilities that fall by themselves, none bound to another.
    def forward(self, x):
        bound = self.scores(x).tanh() * torch.tensor([1.0, 0.8, 0.6])
        return (bound + torch.tensor([3.0, 0.0, -3.0])).sigmoid()
class Percent(Body):
    def forward(self, x):
        return 100 * self.scores(x).softmax(1)
class NegativeLog(Body):
    def forward(self, x):
        return -self.scores(x).log_softmax(1)
class LogSigmoid(Body):
    def forward(self, x):
        return F.logsigmoid(self.scores(x))
class Complex(Body):
    def forward(self, x):
        return torch.fft.fft(self.scores(x), dim=1)
class Hard(Body):
    def forward(self, x):
        return F.one_hot(self.scores(x).argmax(1), 3).float()
class Constant(Body):
    def forward(self, x):
        return 0 * self.scores(x) + torch.tensor([1.0, 2.0, 3.0])
class Evidence(Body):
    def forward(self, x):
        return F.softplus(self.scores(x)) + 1
class One(Body):
    width = 1
class OneFlat(One):
    def forward(self, x):
        return self.scores(x).squeeze(1)
class OneSigmoid(One):
    def forward(self, x):
        return self.scores(x).sigmoid()
class Age(One):
    def forward(self, x):
        return self.scores(x) + 60
class AgeFlat(Age):
    def forward(self, x):
        return super().forward(x).squeeze()
class Volume(One):
    def forward(self, x):
        return F.softplus(self.scores(x))
"""


@pytest.fixture(scope="module")
def networks(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("networks") / "returning.py"
    path.write_text(NETWORKS)
    return path


@pytest.fixture
def wrapped(networks, tmp_path):
    """Makes a bundle of one of the networks and loads it."""

    def make(name: str, classes=NAMES, **options):
        torch.manual_seed(1)
        width = 1 if "One" in name or name in ("Age", "AgeFlat", "Volume") else 3
        body = nn.ModuleDict(
            {
                "conv": nn.Conv2d(1, 4, 3, padding=1),
                "head": nn.Linear(4, width),
                "other": nn.Linear(4, 3),
            }
        )
        out = tmp_path / f"bundle-{len(list(tmp_path.iterdir()))}"
        wrap(
            f"{networks}:{name}",
            body.state_dict(),
            classes,
            out,
            size=[12, 12],
            trust=True,
            **options,
        )
        return load_classifier(out, trust=True)

    return make


def plain_scores(classifier, batch: torch.Tensor) -> torch.Tensor:
    network = classifier.network.network
    with torch.no_grad():
        return network.scores(batch)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("WideFeatures", "1"),
        ("Nested", "heads.grade"),
        ("Logits", "logits"),
        ("WithProbabilities", "1"),
        ("Dataclass", "grade"),
        ("Named", "grade"),
    ],
)
def test_of_several_outputs_the_class_scores_are_taken_and_named(wrapped, name, path) -> None:
    classifier = wrapped(name, activation="softmax")
    batch = torch.rand(3, 1, 12, 12)
    with torch.no_grad():
        torch.testing.assert_close(classifier.network(batch), plain_scores(classifier, batch))
    assert any(f"'{path}'" in note for note in classifier.notes)
    assert describe(classifier)["output"] == path
    assert by_name(classifier.settings)["output"].startswith(path)
    metadata = json.loads((classifier.source / "configs/metadata.json").read_text())
    assert metadata["network_data_format"]["outputs"]["pred"]["network_output"] == path


@pytest.mark.parametrize("name", ["TwoHeads", "ListOfTwo", "EqualFeatures"])
def test_outputs_of_equal_width_are_never_chosen_in_silence(wrapped, name) -> None:
    with pytest.raises(ClassifierError) as caught:
        wrapped(name)
    assert caught.value.code is ErrorCode.MODEL_OUTPUT
    assert "--output 0" in str(caught.value)
    assert "'1' (1x3)" in str(caught.value)


def test_a_head_that_is_named_is_the_one_that_is_explained(wrapped) -> None:
    classifier = wrapped("TwoHeads", output="1", activation="softmax")
    network = classifier.network.network
    batch = torch.rand(2, 1, 12, 12)
    with torch.no_grad():
        torch.testing.assert_close(
            classifier.network(batch), network.other(network.features(batch))
        )
    assert by_name(classifier.settings)["output"] == "1 (given)"
    with pytest.raises(InputError) as caught:
        wrapped("TwoHeads", output="2")
    assert caught.value.code is ErrorCode.NAME_UNKNOWN


@pytest.mark.parametrize("method", ["lrp", "deeplift", "occlusion", "gradient"])
def test_methods_explain_the_chosen_output(wrapped, method) -> None:
    classifier = wrapped("TwoHeads", output="1", activation="softmax")
    plain = wrapped("TwoHeads", output="1", activation="softmax")
    inner = plain.network.network
    head = nn.Sequential(inner.conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), inner.other)
    plain.network = ScoreNetwork(head, "softmax").eval()
    values = np.random.default_rng(0).random((1, 12, 12))
    image = image_of(values, affine_of(2, "straight"))
    chosen = Occlusion(window_mm=3.0) if method == "occlusion" else find_method(method)()
    maps = [
        explain(prepare(image, one, "c"), [chosen]).attributions[0] for one in (classifier, plain)
    ]
    scale = np.abs(maps[1].values).max()
    np.testing.assert_allclose(maps[0].values, maps[1].values, atol=1e-5 * scale + 1e-6)
    assert scale > 1e-4


def test_axes_of_length_one_behind_the_scores_are_dropped(wrapped) -> None:
    classifier = wrapped("Spatial", activation="softmax")
    batch = torch.rand(2, 1, 12, 12)
    with torch.no_grad():
        torch.testing.assert_close(classifier.network(batch), plain_scores(classifier, batch))


@pytest.mark.parametrize(
    ("name", "activation", "independent"),
    [
        ("Softmax", "none", False),
        ("Folds", "none", False),
        ("LogSoftmax", "softmax", False),
        ("Sigmoid", "none", True),
        ("ByHand", "none", True),
        ("Body", "softmax", False),
        ("Even", "softmax", False),
    ],
)
def test_an_activation_that_is_not_told_is_found_by_trying(
    wrapped, name, activation, independent
) -> None:
    classifier = wrapped(name)
    network = classifier.network
    assert (network.activation, network.independent) == (activation, independent)
    batch = torch.rand(2, 1, 12, 12)
    with torch.no_grad():
        returned = network.network(batch)
        found = network.probabilities(network(batch))
    made = {"Body": returned.softmax(1), "LogSoftmax": returned.exp()}.get(name, returned)
    torch.testing.assert_close(found, (made.softmax(1) if name == "Even" else made).double())
    source = "guessed" if name in ("Body", "Even") else "tried"
    assert by_name(classifier.settings)["activation"] == f"{activation} ({source})"


@pytest.mark.parametrize(
    ("name", "activation"),
    [
        ("Softmax", "softmax"),
        ("Softmax", "sigmoid"),
        ("Folds", "softmax"),
        ("LogSoftmax", "sigmoid"),
        ("LogSoftmax", "none"),
        ("Sigmoid", "sigmoid"),
        ("ByHand", "softmax"),
        ("Body", "none"),
    ],
)
def test_an_activation_that_would_give_wrong_numbers_is_refused(wrapped, name, activation) -> None:
    with pytest.raises(ClassifierError) as caught:
        wrapped(name, activation=activation)
    assert caught.value.code is ErrorCode.MODEL_ACTIVATION


def test_logits_that_stay_between_0_and_1_are_still_logits(wrapped) -> None:
    assert wrapped("Even", activation="sigmoid").network.activation == "sigmoid"


@pytest.mark.parametrize("classes", [["tumour"], ["healthy", "tumour"]])
def test_a_single_probability_has_two_classes(wrapped, classes) -> None:
    classifier = wrapped("OneSigmoid", classes, activation="none")
    batch = torch.rand(2, 1, 12, 12)
    with torch.no_grad():
        found = classifier.network.probabilities(classifier.network(batch))
        expected = plain_scores(classifier, batch)[:, 0].sigmoid()
    torch.testing.assert_close(found, torch.stack([1 - expected, expected], dim=1).double())
    assert any("'tumour'" in note for note in classifier.notes)
    with pytest.raises(ClassifierError) as caught:
        wrapped("OneSigmoid", classes, activation="sigmoid")
    assert caught.value.code is ErrorCode.MODEL_ACTIVATION
    assert "activation to none" in str(caught.value)


def test_the_gradients_of_a_single_probabilitys_classes_are_opposite(wrapped) -> None:
    classifier = wrapped("OneSigmoid", ["healthy", "tumour"], activation="none")
    image = image_of(np.random.default_rng(0).random((1, 12, 12)), affine_of(2, "straight"))
    first, second = (
        explain(prepare(image, classifier, target), [find_method("gradient-times-input")()])
        .attributions[0]
        .values
        for target in ("healthy", "tumour")
    )
    np.testing.assert_allclose(first, -second, atol=1e-6 * np.abs(first).max())


@pytest.mark.parametrize("activation", ["none", "sigmoid", "softmax", None])
@pytest.mark.parametrize("name", ["Age", "AgeFlat", "Volume"])
def test_a_regression_is_no_set_of_classes(wrapped, name, activation) -> None:
    with pytest.raises(ClassifierError) as caught:
        wrapped(name, ["age"], activation=activation)
    assert caught.value.code is ErrorCode.MODEL_OUTPUT


def test_one_logit_of_one_named_class_is_said_to_be_taken_as_such(wrapped) -> None:
    for name in ("One", "OneFlat"):
        classifier = wrapped(name, ["tumour"], activation="sigmoid")
        assert any("regression" in note for note in classifier.notes)
        batch = torch.rand(2, 1, 12, 12)
        with torch.no_grad():
            logits = plain_scores(classifier, batch)[:, 0]
            torch.testing.assert_close(classifier.network(batch)[:, 1], logits)
    assert wrapped("One", ["healthy", "tumour"], activation="sigmoid").notes == ()


def test_ordinal_thresholds_are_no_set_of_classes(wrapped) -> None:
    with pytest.raises(ClassifierError) as caught:
        wrapped("Ordinal", activation="softmax")
    assert caught.value.code is ErrorCode.MODEL_OUTPUT
    with pytest.raises(ClassifierError) as caught:
        wrapped("Ordinal", ["0", "1", "2", "3"])
    assert caught.value.code is ErrorCode.MODEL_CLASSES
    assert "ordinal" in str(caught.value)


@pytest.mark.parametrize("activation", [None, "softmax", "sigmoid"])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Ordinal", "ordinal regression"),
        ("Percent", "divided by 100"),
        ("NegativeLog", "negative log-likelihoods"),
        ("LogSigmoid", "log-sigmoid"),
        ("Complex", "complex"),
        ("Hard", "decisions"),
    ],
)
def test_outputs_that_are_no_class_scores_are_refused(wrapped, name, words, activation) -> None:
    with pytest.raises(ClassifierError) as caught:
        wrapped(name, activation=activation)
    assert caught.value.code is ErrorCode.MODEL_OUTPUT
    assert words in str(caught.value)


@pytest.mark.parametrize("activation", [None, "none"])
@pytest.mark.parametrize("name", ["OrdinalSigmoid", "Survival"])
def test_cumulative_probabilities_are_no_set_of_classes(wrapped, name, activation) -> None:
    with pytest.raises(ClassifierError) as caught:
        wrapped(name, activation=activation)
    assert caught.value.code is ErrorCode.MODEL_OUTPUT
    assert "cumulative" in str(caught.value)


@pytest.mark.slow
def test_probabilities_that_fall_from_class_to_class_are_said_to_look_cumulative(wrapped) -> None:
    (note,) = wrapped("Falling").notes
    assert "cumulative" in note
    assert "'a' to 'c'" in note
    assert not any("cumulative" in one for one in wrapped("Sigmoid").notes)


def test_a_guessed_activation_is_said_each_time_the_bundle_is_loaded(wrapped) -> None:
    (note,) = wrapped("Body").notes
    assert "softmax was guessed" in note
    assert "never negative" not in note
    (note,) = wrapped("Evidence").notes
    assert "never negative" in note
    assert wrapped("Body", activation="softmax").notes == ()


def test_scores_that_are_the_same_for_every_image_are_told(wrapped) -> None:
    assert any("the same scores" in one for one in wrapped("Constant", activation="softmax").notes)


def test_an_output_that_was_found_is_not_said_to_be_told(wrapped) -> None:
    (note,) = wrapped("Logits", activation="softmax").notes
    assert "because of its name" in note
    (note,) = wrapped("TwoHeads", output="1", activation="softmax").notes
    assert "as the bundle says" in note


def test_a_bundle_says_what_was_guessed_and_what_was_told(wrapped) -> None:
    said = by_name(wrapped("Body").settings)
    assert said["orientation"] == "PL (guessed)"
    assert said["intensity"] == "as in the file (guessed)"
    assert said["size"] == "12 x 12 voxels (given)"
    assert "align_corners" in said["interpolation"]
    assert said["interpolation"].endswith("(guessed)")
    told = wrapped("Body", orientation="PL", intensity="zscore", activation="softmax", fit="resize")
    said = by_name(told.settings)
    for name in ("orientation", "intensity", "activation", "fit"):
        assert said[name].endswith("(given)")
    assert describe(told)["settings"][0]["name"] == "orientation"


def test_an_output_that_is_missing_at_run_time_is_refused() -> None:
    assert list(outputs_by_path({"a": torch.zeros(1), "b": (torch.zeros(1), None)})) == ["a", "b.0"]
    with pytest.raises(ClassifierError) as caught:
        scores_in({"features": torch.zeros(1, 3)}, "logits")
    assert caught.value.code is ErrorCode.MODEL_OUTPUT
    with pytest.raises(ClassifierError):
        scores_in((torch.zeros(1, 3), torch.zeros(1, 3)), None)
