"""What a loaded classifier answers: its classes, its layers, images that do not fit."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from SaliencyExplain.errors import ClassifierError, InputError
from SaliencyExplain.models.inspection import describe
from SaliencyExplain.models.loading import load_classifier
from SaliencyExplain.models.wrapping import wrap
from Testing.models.conftest import (
    CLASSES,
    affine_of,
    image_of,
    make_bundle,
)

METADATA = "configs/metadata.json"
INFERENCE = "configs/inference.json"


def test_an_image_that_does_not_fit_says_what_is_wanted(bundle) -> None:
    classifier = load_classifier(bundle)
    affine = affine_of(3, "straight")
    with pytest.raises(InputError, match=r"takes 1 channel \(image\), and the image has 2"):
        classifier.prepare(image_of(np.zeros((2, 8, 8, 8)), affine))
    with pytest.raises(InputError, match="takes 3D images"):
        classifier.prepare(image_of(np.zeros((1, 8, 8)), affine))
    with pytest.raises(InputError, match="non-finite"):
        classifier.prepare(image_of(np.full((1, 8, 8, 8), np.nan), affine))


def test_a_class_is_found_by_name_index_or_prediction(bundle) -> None:
    classifier = load_classifier(bundle)
    probabilities = np.array([0.2, 0.5, 0.3])
    assert classifier.class_index("glioma", probabilities) == 0
    assert classifier.class_index("Pituitary", probabilities) == 2
    assert classifier.class_index("2", probabilities) == 2
    assert classifier.class_index("predicted", probabilities) == 1
    with pytest.raises(InputError, match="Did you mean 'meningioma'"):
        classifier.class_index("menigioma", probabilities)
    for wrong in ("3", "-1"):
        with pytest.raises(InputError, match="classes 0 to 2"):
            classifier.class_index(wrong, probabilities)


def test_inspection_says_what_a_user_needs(bundle) -> None:
    classifier = load_classifier(bundle)
    said = describe(classifier)
    json.dumps(said)
    assert said["classes"] == CLASSES
    assert said["spacing"] == [2, 2, 2]
    assert said["input_size"] == [16, 18, 20]
    assert said["activation"] == "softmax"
    assert said["identity"] == classifier.identity
    assert len(said["identity"]) == 64
    expected = sum(p.numel() for p in classifier.network.parameters())
    assert said["parameters"] == expected > 1000
    names = [layer["name"] for layer in said["candidate_layers"]]
    assert names == classifier.network.convolutions()
    assert said["candidate_layers"][0] == {
        "name": "features.conv0",
        "channels": 4,
        "size": [8, 9, 10],
    }


def test_loading_leaves_a_frozen_network_in_eval_mode(bundle) -> None:
    classifier = load_classifier(bundle)
    assert not any(module.training for module in classifier.network.modules())
    assert not any(parameter.requires_grad for parameter in classifier.network.parameters())
    assert classifier.to("cpu") is classifier
    assert classifier.device == torch.device("cpu")


def test_multi_label_and_one_logit_classifiers_give_their_probabilities(tmp_path, image) -> None:
    labels = load_classifier(make_bundle(tmp_path / "labels", activation="sigmoid"))
    scores = labels.scores(labels.prepare(image))
    np.testing.assert_allclose(labels.predict(image), scores.double().sigmoid().numpy())

    from monai.networks.nets import DenseNet

    arguments = {
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 1,
        "init_features": 4,
        "growth_rate": 2,
        "block_config": [1, 1],
    }
    torch.manual_seed(0)
    state = DenseNet(**arguments).state_dict()
    for names in (["healthy", "tumour"], ["tumour"]):
        path = wrap(
            "monai.networks.nets.DenseNet",
            state,
            names,
            tmp_path / names[0],
            network_args=arguments,
            size=[16, 18, 20],
            activation="sigmoid",
        )
        binary = load_classifier(path)
        probabilities = binary.predict(image)
        assert binary.classes[1] == "tumour"
        assert len(binary.classes) == 2
        with torch.no_grad():
            logit = binary.network.network(binary.prepare(image).as_tensor()[None])[0, 0]
        assert probabilities[1] == pytest.approx(float(logit.double().sigmoid()))
        assert probabilities.sum() == pytest.approx(1)
    with pytest.raises(ClassifierError, match="'tumour'"):
        wrap(
            "monai.networks.nets.DenseNet",
            state,
            ["healthy", "tumour"],
            tmp_path / "wrong",
            network_args=arguments,
            size=[16, 18, 20],
        )
