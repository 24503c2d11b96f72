"""The nine networks of the published comparison, by name out of timm, through the methods."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch

from SaliencyExplain.attribution.graph.symbolic_trace import NotTraceable
from SaliencyExplain.attribution.incremental.inference import IncrementalInference
from SaliencyExplain.attribution.registry import find_method
from SaliencyExplain.errors import InputError
from SaliencyExplain.explanation.compute import Compute
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.models.loading import load_classifier
from SaliencyExplain.models.networks import network_definition
from SaliencyExplain.models.wrapping import wrap
from SaliencyExplain.studies.discovery import discover
from SaliencyExplain.training.train import train_classifier
from Testing.models.conftest import CLASSES, affine_of, image_of
from Testing.training.conftest import settings, write_pictures

#: Name, arguments, edge of the input, whether guided backpropagation is defined for it. VGG's
#: linear layers of 4096 are cut down to 64: they hold 120 million weights and are no convolution.
NINE = {
    "vgg16": ({"mlp_ratio": 1 / 64}, True),
    "vgg19": ({"mlp_ratio": 1 / 64}, True),
    "resnet50": ({}, True),
    "resnetv2_50": ({}, True),
    "densenet121": ({}, True),
    "legacy_xception": ({}, True),
    "inception_v3": ({}, True),
    "inception_resnet_v2": ({}, True),
    "efficientnet_b0": ({}, False),
}
EDGE = 80
WINDOW = (8, 8)


def state_of(network):
    return {
        "weights": {name: value.clone() for name, value in network.state_dict().items()},
        "training": [module.training for module in network.modules()],
        "in place": [getattr(module, "inplace", None) for module in network.modules()],
        "hooks": [
            len(hooks)
            for module in network.modules()
            for hooks in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
        ],
        "kinds": [type(module) for module in network.modules()],
    }


def assert_same(before, after):
    for name, value in before.pop("weights").items():
        assert torch.equal(value, after["weights"][name]), name
    after.pop("weights")
    assert before == after


@pytest.mark.slow
@pytest.mark.parametrize("name", NINE)
def test_a_network_of_the_comparison_is_wrapped_predicted_and_explained(timm, name, tmp_path):
    arguments, guided = NINE[name]
    torch.manual_seed(1)
    network = timm.create_model(name, num_classes=3, in_chans=3, **arguments).eval()
    path = wrap(
        f"timm.{name}",
        network.state_dict(),
        CLASSES,
        tmp_path / name,
        network_args=arguments,
        channels=["red", "green", "blue"],
        size=[EDGE, EDGE],
        intensity="imagenet",
    )
    classifier = load_classifier(path)
    values = np.random.default_rng(0).uniform(0, 255, (3, EDGE, EDGE)).astype(np.float32)
    image = image_of(values, affine_of(2, "straight"))
    case = prepare(image, classifier, "predicted", Compute("cpu"))
    prepared = case.input.as_tensor()[None]
    with torch.no_grad():
        expected = network(prepared).softmax(1)[0].double().numpy()
    np.testing.assert_allclose(case.prediction.probabilities, expected, atol=1e-5)

    task = case.task()
    before = state_of(classifier.network)
    # Out of place, and with the gradient of torch itself.
    plain = copy.deepcopy(network)
    for module in plain.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    voxels = prepared.clone().requires_grad_()
    plain(voxels)[0, task.target].backward()
    found = find_method("gradient")().attribute(task)[""]
    wanted = voxels.grad[0].abs().amax(0)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4 * float(wanted.max()))
    for one in find_method("gradcam")().attribute(task).values():
        assert one.shape == (EDGE, EDGE)
        assert one.isfinite().all()
    if guided:
        found = find_method("guided-backprop")().attribute(task)[""]
        assert found.isfinite().all()
        assert not torch.allclose(found, wanted, atol=1e-3 * float(wanted.max()))
    else:
        with pytest.raises(InputError, match="ReLU"):
            find_method("guided-backprop")().attribute(task)

    try:
        inference = IncrementalInference(classifier.network, prepared, WINDOW)
    except NotTraceable:
        # The head of timm's VGG asks for the size of its input; whole passes are run then.
        assert name in ("vgg16", "vgg19")
    else:
        corners = np.array([(0, 0), (30, 41), (EDGE - WINDOW[0], 20)])
        covered = prepared.repeat(len(corners), 1, 1, 1)
        for one, (row, column) in zip(covered, corners, strict=True):
            one[:, row : row + WINDOW[0], column : column + WINDOW[1]] = 0
        with torch.no_grad():
            whole = classifier.network(covered)
        quick = inference.scores(corners, torch.zeros(len(corners), 3, *WINDOW))
        torch.testing.assert_close(quick, whole, rtol=1e-3, atol=1e-4 * float(whole.abs().max()))
        assert not torch.equal(whole[0], whole[1])
    assert_same(before, state_of(classifier.network))


def test_a_network_of_timm_by_a_wrong_name_gets_the_nearest(timm):
    with pytest.raises(InputError, match=r"no network of timm 'vgg_16'\. Did you mean 'vgg16'"):
        network_definition("timm.vgg_16", {}, channels=3, classes=2)
    with pytest.raises(InputError, match="it would be downloaded"):
        network_definition("timm.hf-hub:user/net", {}, channels=3, classes=2)
    with pytest.raises(
        InputError, match=r"'efficientnetb0'\. Did you mean '(EfficientNetBN|timm.efficientnet_b0)'"
    ):
        network_definition("efficientnetb0", {}, channels=3, classes=2)


def test_channels_and_classes_are_filled_in_and_nothing_is_fetched(timm):
    definition = network_definition("timm.resnet18", {"pretrained": True}, channels=1, classes=4)
    assert definition == {
        "_target_": "timm.create_model",
        "model_name": "resnet18",
        "pretrained": False,
        "in_chans": 1,
        "num_classes": 4,
    }
    assert json.dumps(definition)


def test_a_network_of_timm_is_trained_into_a_bundle(timm, tmp_path):
    folder = write_pictures(tmp_path / "pictures", {"small": 4, "large": 4})
    wanted = settings(
        network="timm.test_resnet",
        network_args={},
        channels=("red", "green", "blue"),
        size=(32, 32),
        epochs=1,
    )
    result = train_classifier(discover(folder), wanted, tmp_path / "bundle")
    classifier = load_classifier(result.bundle)
    assert classifier.colour
    assert type(classifier.network.network).__module__.startswith("timm.")
