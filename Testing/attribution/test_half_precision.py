"""A network in bfloat16 or float16 is computed in float32: its maps are no rounding."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

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
from SaliencyExplain.results.image_explanation import Explanation


class _Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()
        )
        self.head = nn.Linear(8, 3)
        self.head.weight.data.mul_(4)

    def scores(self, images: Tensor) -> Tensor:
        return self.head(self.body(images).mean((2, 3)))

    def forward(self, images: Tensor) -> Tensor:
        return self.scores(images)


class _Casting(_Network):
    """Converts its input and what it returns."""

    def forward(self, images: Tensor) -> Tensor:
        return self.scores(images.to(self.head.weight.dtype)).float()


class _CastingByName(_Network):
    def forward(self, images: Tensor) -> Tensor:
        return self.scores(images.to(dtype=torch.bfloat16)).float()


class _CastingByMethod(_Network):
    def forward(self, images: Tensor) -> Tensor:
        return self.scores(images.bfloat16())


class _Autocast(_Network):
    """Keeps its weights in float32 and computes in less."""

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.scores(images).float()


def _explained(network: nn.Module, method: str) -> Explanation:
    values = np.random.default_rng(0).random((1, 32, 32)).astype(np.float32)
    values[0, 8:14, 16:24] += 1
    classifier = Classifier(
        "half",
        ("a", "b", "c"),
        ("i",),
        2,
        ScoreNetwork(network.eval()),
        Compose([]),
        "0" * 64,
        Path("n"),
    )
    image = to_image(values, np.diag([-1.0, -1, 1, 1]), name="x")
    return explain(
        prepare(image, classifier, "a", compute=Compute("cpu")), select_methods([method])
    )


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        (_Network, torch.bfloat16),
        (_Casting, torch.bfloat16),
        (_Casting, torch.float16),
        (_CastingByName, torch.bfloat16),
        (_CastingByMethod, torch.bfloat16),
        (_Autocast, torch.float32),
    ],
)
@pytest.mark.parametrize("method", ["occlusion", "gradient"])
def test_the_map_is_that_of_the_same_weights_in_float32(
    kind: type[_Network], dtype: torch.dtype, method: str
) -> None:
    network = kind().to(dtype).eval()
    exact = _Network().eval()
    exact.load_state_dict(copy.deepcopy(network).float().state_dict())
    before = pickle.dumps(network)
    done, true = _explained(network, method), _explained(exact, method)
    found, right = done.attributions[0].values, true.attributions[0].values
    assert np.allclose(found, right, atol=1e-4 * np.abs(right).max())
    assert "float32" in "".join(done.attributions[0].provenance["notes"])
    assert "float32" in "".join(done.notes)
    assert not true.notes
    assert pickle.dumps(network) == before


def test_what_hides_its_operations_is_told() -> None:
    network = _CastingByName().to(torch.bfloat16).eval()
    closed = torch.jit.trace(network, torch.zeros(1, 1, 32, 32), check_trace=False)
    done = _explained(closed, "occlusion")
    assert "bfloat16" in "".join(done.notes)
