"""A classifier that is sure of itself: the probability in float64, or the score by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms import Compose
from torch import Tensor, nn

from SaliencyExplain.attribution.method_selection import select_methods
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.explanation.compute import Compute
from SaliencyExplain.explanation.explain import explain
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.images.reading import to_image
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.results.attribution_map import Attribution
from Testing.comparing import assert_same
from Testing.quick_methods import names


class _Brightness(nn.Module):
    """Its scores are those of two classes, ``margin`` apart for the image below."""

    def __init__(self, margin: float, *, ends: bool = False) -> None:
        super().__init__()
        self.a = nn.Conv2d(1, 1, 3, padding=1)
        self.a.weight.data.fill_(1 / 9)
        self.a.bias.data.zero_()
        self.margin, self.ends = margin, ends

    def forward(self, images: Tensor) -> Tensor:
        score = self.margin * torch.relu(self.a(images)).mean((2, 3)) / 2
        scores = torch.cat([-score, score], dim=1)
        return scores.softmax(1) if self.ends else scores


def _explained(network: nn.Module, method: str, activation: Any = "softmax", **texts: str) -> Any:
    values = np.ones((1, 24, 24), dtype=np.float32)
    values[0, 6:12, 14:20] = 1.8
    classifier = Classifier(
        "sure",
        ("low", "high"),
        ("i",),
        2,
        ScoreNetwork(network.eval(), activation),
        Compose([]),
        "0" * 64,
        Path("n"),
    )
    image = to_image(values, np.diag([-1.0, -1, 1, 1]), name="x")
    chosen = select_methods([method], [f"{method}.{name}={text}" for name, text in texts.items()])
    return explain(prepare(image, classifier, "high", compute=Compute("cpu")), chosen)


def _alike(one: Attribution, other: Attribution) -> float:
    return float(np.corrcoef(one.values.ravel(), other.values.ravel())[0, 1])


#: Methods that compare outputs with and without a part of the image.
_REMOVING = [*names(family="perturbation"), *names(family="surrogate")]


@pytest.mark.parametrize("method", [*_REMOVING, "integrated-gradients"])
def test_what_is_left_of_a_probability_makes_the_same_map_as_the_score(method: str) -> None:
    done = _explained(_Brightness(15.0), method, output="probability")
    true = _explained(_Brightness(15.0), method, output="score")
    assert 0 < np.abs(done.attributions[0].values).max() < 1e-5
    assert _alike(done.attributions[0], true.attributions[0]) > 0.98
    assert done.attributions[0].parameters["output"] == "probability"
    if method != "integrated-gradients":  # its path starts at 0, where nobody is sure
        assert "output=score" in "".join(done.notes)


@pytest.mark.slow
@pytest.mark.parametrize("method", _REMOVING)
@pytest.mark.parametrize("margin", [60.0, 2000.0])
def test_where_the_probability_cannot_move_the_score_is_shown_and_named(
    method: str, margin: float
) -> None:
    done = _explained(_Brightness(margin), method, output="probability")
    true = _explained(_Brightness(margin), method, output="score")
    found = done.attributions[0]
    assert_same(found.values, true.attributions[0].values)
    assert np.abs(found.values).max() > 1e-3
    assert found.parameters["output"] == "score"
    assert "output=score" in "".join(found.provenance["notes"])
    assert "output=score" in "".join(done.notes)
    assert not true.notes


def test_a_path_along_which_the_probability_cannot_move() -> None:
    texts = {"baseline": "value", "value": "0.9"}
    network = _Brightness(2000.0)
    done = _explained(network, "integrated-gradients", output="probability", **texts)
    true = _explained(network, "integrated-gradients", output="score", **texts)
    assert_same(done.attributions[0].values, true.attributions[0].values)
    assert done.attributions[0].parameters["output"] == "score"
    assert "output=score" in "".join(done.notes)


def test_feature_maps_are_weighed_by_the_score_where_the_probability_cannot_move() -> None:
    texts = {"weights": "increase", "value": "0.5"}
    done = _explained(_Brightness(2000.0), "scorecam", output="probability", **texts)
    true = _explained(_Brightness(2000.0), "scorecam", output="score", **texts)
    assert_same(done.attributions[0].values, true.attributions[0].values)
    assert done.attributions[0].parameters["output"] == "score"


def test_a_window_that_turns_a_sure_classifier_round_is_seen_in_the_probability() -> None:
    class Turning(_Brightness):
        def forward(self, images: Tensor) -> Tensor:
            score = 4 * (images.amax((1, 2, 3)) - 1.4)[:, None] * self.margin
            return torch.cat([-score, score], dim=1)

    done = _explained(Turning(60.0), "occlusion", window_mm="8", stride_mm="2")
    found = done.attributions[0]
    assert found.parameters["output"] == "probability"
    assert found.values.max() == pytest.approx(1.0, abs=0.05)
    assert not done.notes


def test_an_unsure_classifier_is_told_nothing() -> None:
    done = _explained(_Brightness(1.0), "occlusion")
    assert done.attributions[0].parameters["output"] == "probability"
    assert not done.notes


def test_a_softmax_of_the_networks_own_that_is_saturated_is_told() -> None:
    done = _explained(_Brightness(60.0, ends=True), "occlusion", activation="none")
    assert not done.attributions[0].values.any()
    assert "softmax" in "".join(done.notes)


@pytest.mark.parametrize("method", _REMOVING)
@pytest.mark.parametrize("ends", ["softmax", "log-softmax"])
def test_the_score_is_not_advised_where_it_has_the_networks_own_end(method: str, ends: str) -> None:
    class Ending(_Brightness):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            scores = super().forward(images)
            return scores.softmax(1) if ends == "softmax" else scores.log_softmax(1)

    activation = "none" if ends == "softmax" else "softmax"
    done = _explained(Ending(15.0), method, activation, output="probability")
    told = "".join(done.notes)
    assert f"it ends in a {ends}" in told
    assert "logits" in told
    assert "output=score" not in told


def test_a_zero_map_of_probabilities_asks_for_a_network_of_logits() -> None:
    done = _explained(_Brightness(60.0, ends=True), "occlusion", activation="none")
    (zero,) = [note for note in done.notes if "zero everywhere" in note]
    assert "output=score" not in zero
    assert "logits" in zero
