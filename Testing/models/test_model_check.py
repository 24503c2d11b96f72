"""A model's predictions against known ones, and the settings that are found where they differ."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import nn

import SaliencyExplain as se
from SaliencyExplain.errors import ErrorCode
from SaliencyExplain.explanation.explain import explain
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.models.bundle_correction import corrected_bundle
from SaliencyExplain.models.bundle_settings import Setting
from SaliencyExplain.models.check_record import (
    FILE,
    CheckRecord,
    check_setting,
    write_record,
)
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.known_predictions import KnownPrediction, known_prediction
from SaliencyExplain.models.loading import load_classifier
from SaliencyExplain.models.model_check import Attempt, check_predictions
from Testing.expected_errors import error_with
from Testing.quick_methods import quick
from Testing.weighted_network import CLASSES, TRUE, Weighted, network, write_weighted


def model(channels: int = 1, **changes) -> Classifier:
    names = ("red", "green", "blue") if channels == 3 else ("image",)
    return se.Model(network(channels), CLASSES, channels=names, **{**TRUE, **changes})


def images(channels: int = 1, count: int = 3) -> list[MetaTensor]:
    random = np.random.default_rng(8)
    made = []
    for _ in range(count):
        values = random.gamma(2, 40, size=(channels, 31, 40)).clip(0, 255).astype(np.float32)
        values[:, :10, :12] += 60
        made.append(MetaTensor(torch.from_numpy(values), affine=torch.eye(4)))
    return made


def known_of(true: Classifier, channels: int = 1, count: int = 3) -> list[KnownPrediction]:
    """What the model with the true settings says, to three decimals, as a user would note it."""
    return [
        known_prediction(
            str(number),
            image,
            [f"{name}:{p:.3f}" for name, p in zip(CLASSES, true.predict(image), strict=True)],
            CLASSES,
        )
        for number, image in enumerate(images(channels, count))
    ]


def test_the_model_itself_agrees_and_nothing_else_is_tried():
    true = model()
    found = check_predictions(true, known_of(true), tolerance=0.002)
    assert found.agrees
    assert found.own.error < 0.001
    assert all(set(one.changes) <= {"activation"} for one in found.attempts)
    assert found.record == CheckRecord(true.identity, 3, found.own.error)


@pytest.mark.parametrize(
    ("wrong", "named", "value"),
    [
        ({"orientation": "PL"}, "orientation", "LP"),
        ({"intensity": "scale"}, "intensity", "window:0,255"),
        ({"fit": "crop"}, "size", "resize"),
        ({"activation": "sigmoid"}, "activation", "softmax"),
    ],
)
def test_one_wrong_setting_is_found(wrong, named, value):
    found = check_predictions(model(**wrong), known_of(model()), tolerance=0.002)
    assert not found.agrees
    (fitting,) = found.fitting
    assert fitting.changes == {named: value}
    assert found.attempts[0] is fitting


def test_two_wrong_settings_and_the_activation_are_found():
    wrong = model(orientation="PL", intensity="zscore", activation="sigmoid")
    found = check_predictions(wrong, known_of(model()), tolerance=0.002)
    (fitting,) = found.fitting
    assert fitting.changes == {
        "orientation": "LP", "intensity": "window:0,255", "activation": "softmax"
    }  # fmt: skip


def test_exchanged_channels_are_found():
    true, wrong = model(3), model(3)
    wrong = dataclasses.replace(wrong, network=true.network)
    known = known_of(true, 3)
    turned = [
        dataclasses.replace(
            one, image=MetaTensor(one.image.as_tensor().flip(0), affine=torch.eye(4))
        )
        for one in known
    ]
    (fitting,) = check_predictions(wrong, turned, tolerance=0.002).fitting
    assert fitting.changes == {"channel order": "blue, green, red"}
    assert fitting.channels == (2, 1, 0)


class Pooled(nn.Module):
    """Scores that do not depend on the place of a voxel."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(1, 3)
        self.convolution = nn.Conv2d(1, 1, 1)

    def forward(self, images):
        return self.last(self.convolution(images).mean((2, 3)))


def test_a_fit_that_chance_explains_is_not_believed():
    wrong, known = model(orientation="PL", intensity="zscore"), known_of(model())
    probability = float(model().predict(known[0].image).max())
    one = known_prediction("0", known[0].image, [f"{probability:.3f}"], CLASSES)
    found = check_predictions(wrong, [one], tolerance=0.01)
    assert found.chance == pytest.approx(0.02)
    assert found.expected_by_chance == pytest.approx(0.02 * len(found.attempts))
    assert found.found is None
    found = check_predictions(wrong, known, tolerance=0.002)
    assert found.chance == pytest.approx(0.004**9)
    assert found.found is found.fitting[0]


def test_a_network_of_other_colours_is_not_written(tmp_path):
    true = model(3)
    found = Attempt({"channel order": "blue, green, red"}, "softmax", 0.0, None, (2, 1, 0))
    folder = tmp_path / "bundle"
    (folder / "configs").mkdir(parents=True)
    (folder / "configs" / "inference.json").write_text("{}")
    with error_with(ErrorCode.MODEL_CONFIGURATION, true.name):
        corrected_bundle(dataclasses.replace(true, source=folder), found, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_settings_that_cannot_be_told_apart_are_all_named():
    torch.manual_seed(2)
    pooled = Pooled().eval()
    nn.init.constant_(pooled.last.weight, 1.0)
    pooled.last.weight.data[1] = -3.0
    words = {"size": [16, 16], "activation": "softmax"}
    true = se.Model(pooled, CLASSES, intensity="window:0,255", **words)
    wrong = se.Model(pooled, CLASSES, intensity="zscore", **words)
    found = check_predictions(wrong, known_of(true, count=1), tolerance=0.002)
    assert not found.agrees
    assert len(found.fitting) > 1
    assert {"intensity": "window:0,255"} in [one.changes for one in found.fitting]


def test_a_model_of_which_the_preprocessing_is_not_known_in_words_is_turned():
    true = model()

    def turned(image: MetaTensor) -> MetaTensor:
        return MetaTensor(true.prepare(image).as_tensor().flip(1), affine=image.affine)

    wrong = dataclasses.replace(
        true, words=None, preprocessing=lambda data: {**data, "image": turned(data["image"])}
    )
    found = check_predictions(wrong, known_of(true), tolerance=0.002)
    (fitting,) = found.fitting
    assert fitting.changes == {"axes of the input": "0, 1, reversed 0"}


def test_wrong_weights_fit_with_no_settings():
    torch.manual_seed(9)
    other = Weighted()
    other(torch.zeros(1, 1, 24, 20))
    wrong = se.Model(other, CLASSES, **{**TRUE, "size": [24, 20]})
    found = check_predictions(wrong, known_of(model()), tolerance=0.0005)
    assert not found.fitting
    assert found.attempts[0].error > 0.0005


@pytest.mark.parametrize(
    ("said", "code", "named"),
    [
        ([], ErrorCode.OPTION_MISSING, "image"),
        (["d"], ErrorCode.NAME_UNKNOWN, "d"),
        (["d:0.5"], ErrorCode.NAME_UNKNOWN, "d"),
        (["1.5"], ErrorCode.VALUE_RANGE, "1.5"),
        (["a:nan"], ErrorCode.VALUE_RANGE, "nan"),
    ],
)
def test_what_is_known_must_make_sense(said, code, named):
    with error_with(code, named):
        known_prediction("image", images(count=1)[0], said, CLASSES)


def test_the_likeliest_class_and_its_probability_are_compared():
    image = images(count=1)[0]
    probabilities = np.array([0.2, 0.7, 0.1])
    assert known_prediction("", image, ["0.75"], CLASSES).error(probabilities) == pytest.approx(
        0.05
    )
    assert known_prediction("", image, ["b"], CLASSES).error(probabilities) == 0
    assert known_prediction("", image, ["a"], CLASSES).error(probabilities) == 1


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle whose orientation and intensity are wrong."""
    return write_weighted(tmp_path, orientation="PL", intensity="zscore")


def test_a_copy_with_the_settings_that_were_found_agrees_and_says_so(bundle, tmp_path):
    loaded = load_classifier(bundle, trust=True)
    assert {one.name: one.source for one in loaded.settings}["checked"] == "unchecked"
    known = known_of(model())
    (fitting,) = check_predictions(loaded, known, tolerance=0.002).fitting
    path = corrected_bundle(loaded, fitting, tmp_path / "corrected")
    right = load_classifier(path, trust=True)
    found = check_predictions(right, known, tolerance=0.002)
    assert found.agrees
    settings = {one.name: one for one in right.settings}
    assert (settings["orientation"].value, settings["orientation"].source) == ("LP", "checked")
    assert settings["size"].source == "given"
    write_record(path, found.record)
    checked = load_classifier(path, trust=True)
    assert checked.identity == right.identity
    setting = {one.name: one for one in checked.settings}["checked"]
    assert setting.source == "checked"
    assert setting.value.startswith("3 images, largest difference")


def test_the_record_of_another_model_does_not_count(bundle):
    write_record(bundle, CheckRecord("0" * 64, 3, 0.001))
    assert {one.name: one.source for one in load_classifier(bundle, trust=True).settings}[
        "checked"
    ] == "unchecked"
    (bundle / FILE).write_text("[]")
    load_classifier(bundle, trust=True)


def test_every_provenance_says_whether_the_model_was_checked():
    unchecked = model()
    result = explain(prepare(images(count=1)[0], unchecked), [quick("gradient")])
    said = result[0].provenance["classifier_settings"]["checked"]
    assert "never compared" in said
    trained = check_setting(None, "", [Setting("size", "8 x 8 voxels", "trained")])
    assert trained.source == "trained"
