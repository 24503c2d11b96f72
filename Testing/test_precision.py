"""A lower precision is used where it was asked for, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from SaliencyExplain.attribution.method_selection import select_methods
from SaliencyExplain.explanation.compute import Compute
from SaliencyExplain.explanation.explain import explain
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.results.image_explanation import Explanation
from SaliencyExplain.specification.spec import Limits
from Testing.comparing import assert_same
from Testing.corner_classifier import bright_image, corner_classifier


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )


def maps(network: nn.Module, precision: str) -> Explanation:
    methods = select_methods(
        ["gradient", "gradcam", "occlusion", "random"],
        ["occlusion.window_mm=20", "occlusion.stride_mm=20"],
    )
    return explain(
        prepare(
            bright_image(),
            corner_classifier(network, 6.0),
            compute=Compute("cpu", Limits(precision=precision)),
        ),
        methods,
    )


def test_only_gradient_methods_change_and_the_results_say_so(network: nn.Module) -> None:
    exact, lower = maps(network, "float32"), maps(network, "bfloat16")
    differs = {
        one.method: not np.array_equal(one.values, other.values)
        for one, other in zip(exact.attributions, lower.attributions, strict=True)
    }
    assert differs == {"gradient": True, "gradcam": True, "occlusion": False, "random": False}
    said = {map_.method: map_.provenance["precision"] for map_ in lower.attributions}
    assert said == {
        "gradient": "bfloat16",
        "gradcam": "bfloat16",
        "occlusion": "float32",
        "random": "float32",
    }
    assert {map_.provenance["precision"] for map_ in exact.attributions} == {"float32"}
    assert [note for note in lower.notes if "float32" in note] == [
        "In float32 all the same: occlusion. What bfloat16 rounds off is as large as what a "
        "covered place changes."
    ]
    assert not [note for note in exact.notes if "float32" in note]
    # The prediction is never made in it.
    assert_same(exact.probabilities, lower.probabilities)
