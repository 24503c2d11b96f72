"""Networks that let no gradient through are refused by name, whatever cuts it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from SaliencyExplain.attribution.network.repeatability import examine
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.attribution.registry import find_method
from SaliencyExplain.errors import ClassifierError, ErrorCode, InputError
from Testing.builders import make_task


class _Cut(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.how = how
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.head = nn.Linear(4, 2)

    def forward(self, images: Tensor) -> Tensor:
        if self.how == "inference":
            with torch.inference_mode():
                features = self.conv(images).relu()
            features = features.clone()
        else:
            features = (self.conv(images).relu() > 0.1).float()
        return self.head(features.mean((2, 3)))


def _task(network: nn.Module) -> Task:
    image = torch.rand(1, 1, 12, 12, generator=torch.Generator().manual_seed(1))
    return make_task(network, image)


@pytest.mark.parametrize(
    ("how", "method"),
    [
        ("inference", "gradcam"),
        ("inference", "gradient"),
        ("threshold", "gradcam"),
        ("threshold", "lrp"),
        ("threshold", "deeplift"),
    ],
)
def test_a_cut_gradient_is_refused_by_name(how: str, method: str) -> None:
    with pytest.raises(InputError) as caught:
        find_method(method)().attribute(_task(_Cut(how)))
    assert caught.value.code is ErrorCode.NO_GRADIENT
    assert "cclusion" in str(caught.value)


@pytest.mark.parametrize("how", ["inference", "threshold"])
def test_what_is_advised_instead_runs(how: str) -> None:
    (values,) = find_method("occlusion")().attribute(_task(_Cut(how))).values()
    assert values.abs().max() > 0


def test_layers_that_are_not_initialised_are_named() -> None:
    lazy = nn.Sequential(nn.LazyConv2d(2, 3), nn.Flatten(), nn.LazyLinear(2))
    network = ScoreNetwork(lazy.eval(), "softmax")
    with pytest.raises(ClassifierError) as caught:
        examine(network, torch.rand(1, 1, 6, 6))
    assert caught.value.code is ErrorCode.MODEL_INPUT
    assert "'0.weight'" in str(caught.value)
    with torch.no_grad():
        lazy(torch.rand(1, 1, 6, 6))
    examine(network, torch.rand(1, 1, 6, 6))
