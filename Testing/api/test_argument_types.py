"""Arguments of the wrong type or form are refused by name, with a code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import SaliencyExplain as se
from SaliencyExplain.demo.phantoms import Phantom
from SaliencyExplain.errors import ErrorCode
from SaliencyExplain.models.classifier import Classifier
from Testing.expected_errors import error_with

PLACE = (0, 0, 0)


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)
    )


@pytest.mark.parametrize("target", [None, True, 1.0, ["glioma-like"]])
def test_a_target_is_a_target_a_name_or_an_index(
    target: Any, phantom: Phantom, model: Classifier
) -> None:
    with error_with(ErrorCode.VALUE_FORM, "target"):
        se.explain(phantom.image, model, "gradient", target=target)


def test_each_form_of_a_target_means_the_same_class(phantom: Phantom, model: Classifier) -> None:
    index = model.classes.index("glioma-like")
    for target in ("glioma-like", index, np.int64(index), se.Target("class", "glioma-like")):
        found = se.explain(phantom.image, model, "gradient", target=target)
        assert found.target_name == "glioma-like"


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        ({"at": "10,-3,40"}, ErrorCode.VALUE_FORM, "at"),
        ({"at": ("a", "b", "c")}, ErrorCode.VALUE_FORM, "at"),
        ({"at": (1, [2], 3)}, ErrorCode.VALUE_FORM, "at"),
        ({"at": 5}, ErrorCode.VALUE_FORM, "5.0"),
        ({"at": PLACE, "radii_mm": "5mm"}, ErrorCode.VALUE_FORM, "radii_mm"),
        ({"at": PLACE, "radii_mm": None}, ErrorCode.VALUE_FORM, "radii_mm"),
        ({"at": PLACE, "radii_mm": -5}, ErrorCode.VALUE_RANGE, "-5"),
        ({"at": PLACE, "value": "low"}, ErrorCode.VALUE_FORM, "value"),
    ],
)
def test_arguments_of_probe(
    arguments: dict[str, Any], code: ErrorCode, named: str, phantom: Phantom, model: Classifier
) -> None:
    with error_with(code, named):
        se.probe(phantom.image, model, **arguments)


def test_a_single_number_is_one_radius(phantom: Phantom, model: Classifier) -> None:
    centre = np.append((np.array(phantom.image.shape[1:]) - 1) / 2, (0, 1))
    at = (phantom.image.affine.numpy() @ centre)[:3]
    one, listed = (se.probe(phantom.image, model, at=at, radii_mm=radii) for radii in (5, [5.0]))
    assert [removal.radius_mm for removal in one.removals] == [5.0]
    assert one.removals == listed.removals


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"classes": 2}, "classes"),
        ({"classes": "ab"}, "classes"),
        ({"classes": [1, 2]}, "classes"),
        ({"channels": "t1"}, "channels"),
        ({"spacing": 1}, "spacing"),
        ({"spacing": ["1", "1"]}, "spacing"),
        ({"size": 16}, "size"),
        ({"network": lambda image: image}, "network"),
    ],
)
def test_arguments_of_a_model(arguments: dict[str, Any], named: str) -> None:
    with error_with(ErrorCode.VALUE_FORM, named):
        se.Model(**{"network": network(), "classes": ["a", "b"], **arguments})


def test_arguments_of_load_model() -> None:
    with error_with(ErrorCode.VALUE_FORM, "source", "5"):
        se.load_model(5)  # type: ignore[arg-type]
    with error_with(ErrorCode.NAME_UNKNOWN, "'spacin'", "'spacing'"):
        se.load_model("weights.pth", network="DenseNet121", classes=["a", "b"], spacin=(1, 1))
    with error_with(ErrorCode.VALUE_FORM, "size"):
        se.load_model("weights.pth", network="DenseNet121", classes=["a", "b"], size=64)


def test_arguments_for_a_result(result: se.Result, phantom: Phantom) -> None:
    with error_with(ErrorCode.VALUE_FORM, "seed"):
        se.compare(result, phantom.masks, seed="a")  # type: ignore[arg-type]
    with error_with(ErrorCode.VALUE_FORM, "tolerance_mm", "5mm"):
        se.compare(result, phantom.masks, tolerance_mm="5mm")  # type: ignore[arg-type]
    with error_with(ErrorCode.VALUE_FORM, "attributions"):
        se.compare(3, phantom.masks)  # type: ignore[arg-type]
    with error_with(ErrorCode.VALUE_FORM, "out", "5"):
        result.save(5)  # type: ignore[arg-type]
    with error_with(ErrorCode.VALUE_FORM, "out", "5"):
        se.evaluate(result, out=5)  # type: ignore[arg-type]


@pytest.mark.parametrize("affine", [np.eye(3), (1.0, 1.0), ["a"]])
def test_an_array_with_a_wrong_affine_is_not_taken_for_two_channels(
    affine: Any, model: Classifier
) -> None:
    values = np.random.default_rng(0).random((64, 64))
    with error_with(ErrorCode.IMAGE_GEOMETRY, "affine"):
        se.explain((values, affine), model, "gradient")


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        ({"target": "a"}, ErrorCode.VALUE_FORM, "target"),
        ({"target": True}, ErrorCode.VALUE_FORM, "target"),
        ({"target": None}, ErrorCode.VALUE_FORM, "target"),
        ({"tensor": np.ones((1, 1, 8, 8))}, ErrorCode.VALUE_FORM, "tensor"),
        ({"network": lambda image: image}, ErrorCode.VALUE_FORM, "network"),
        ({"spacing": "1"}, ErrorCode.VALUE_FORM, "spacing"),
        ({"seed": "a"}, ErrorCode.VALUE_FORM, "seed"),
        ({"method": ["gradient", "cam"]}, ErrorCode.OPTION_CONFLICT, "2"),
        ({"tensor": torch.full((1, 1, 8, 8), torch.nan)}, ErrorCode.IMAGE_VALUES, "64"),
        ({"tensor": torch.full((1, 1, 8, 8), torch.inf)}, ErrorCode.IMAGE_VALUES, "64"),
    ],
)
def test_arguments_of_attribute(arguments: dict[str, Any], code: ErrorCode, named: str) -> None:
    usual = {
        "network": network(), "tensor": torch.ones(1, 1, 8, 8), "method": "gradient", "target": 1
    }  # fmt: skip
    with error_with(code, named):
        se.attribute(**{**usual, **arguments})


def test_a_map_of_attribute_that_is_not_finite_is_refused() -> None:
    class RootOfZero(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            sums = images.sqrt().flatten(1).mean(1, keepdim=True)
            return torch.cat([sums, -sums], dim=1)

    with error_with(ErrorCode.MAP_NOT_FINITE, "gradient"):
        se.attribute(RootOfZero(), torch.zeros(1, 1, 8, 8), "gradient", 0)
