"""Score-CAM beside the library pytorch-grad-cam (the package grad-cam)."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from SaliencyExplain.attribution.methods.score_cam import ScoreCAM
from SaliencyExplain.attribution.network.score_network import ScoreNetwork


class Conv(nn.Module):
    """Two convolutions, the second behind a pooling where asked for; one logit per class."""

    def __init__(self, channels: int, *, pooled: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 5, 3, padding=1)
        self.pool = nn.AvgPool2d(2) if pooled else nn.Identity()
        self.second = nn.Conv2d(5, 7, 3, padding=1)
        # No feature map is the same everywhere: such ones get no weight here, and theirs do.
        nn.init.constant_(self.second.bias, 0.5)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(7, 3)

    def forward(self, images):
        features = self.relu(self.second(self.pool(self.first(images).relu())))
        return self.fc(features.flatten(2).amax(2) * 10)


@pytest.fixture
def library(torchvision: ModuleType) -> ModuleType:
    return pytest.importorskip("pytorch_grad_cam")


def theirs(library, network, image, target):
    """Their map before it is stretched to [0, 1], on the layer's grid."""
    goal = library.utils.model_targets.ClassifierOutputTarget(target)
    with library.ScoreCAM(network, [network.relu]) as cam:
        cam(image, targets=[goal])
        activations = cam.activations_and_grads.activations[0].numpy()
        found = cam.get_cam_image(image, network.relu, [goal], activations, None)
    return np.maximum(found[0], 0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("target", [0, 2])
def test_equal_where_the_layers_cells_are_voxels(library, task, channels, target):
    network = Conv(channels, pooled=False).eval()
    image = torch.randn(1, channels, 14, 12)
    expected = theirs(library, network, image, target)
    job = task(ScoreNetwork(network), image, target)
    found = ScoreCAM(layers=("relu",), channels=0).attribute(job)["relu"].numpy()
    assert expected.max() > 0.01
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)


def test_on_coarser_layers_only_the_way_that_masks_are_laid_over_the_image_differs(
    library, task, monkeypatch
):
    """Theirs are stretched from corner to corner, ours lie where the cells' receptive fields are.

    With the masks laid as here (half a cell from the border to the first cell's middle) their
    own code gives our map.
    """
    network = Conv(1, pooled=True).eval()
    image = torch.randn(1, 1, 16, 12)
    job = task(ScoreNetwork(network), image, 1)
    found = ScoreCAM(layers=("relu",), channels=0).raw(job)["relu"].values.numpy()
    stretched = theirs(library, network, image, 1)
    assert np.abs(found - stretched).max() > 1e-3

    def laid(size):
        return nn.Upsample(size=size, mode="bilinear", align_corners=False)

    monkeypatch.setattr(torch.nn, "UpsamplingBilinear2d", laid)
    np.testing.assert_allclose(found, theirs(library, network, image, 1), atol=1e-5, rtol=1e-5)


def test_a_feature_map_that_is_the_same_everywhere_makes_theirs_weaker_by_one_factor(library, task):
    """It shows no place: its share of the softmax is taken from the others there, not here."""
    network = Conv(1, pooled=False).eval()
    with torch.no_grad():
        network.second.bias[3], network.second.weight[3] = -1.0, 0.0
    image = torch.randn(1, 1, 14, 12)
    found = (
        ScoreCAM(layers=("relu",), channels=0)
        .attribute(task(ScoreNetwork(network), image, 1))["relu"]
        .numpy()
    )
    expected = theirs(library, network, image, 1)
    factor = found.sum() / expected.sum()
    assert factor > 1.001
    np.testing.assert_allclose(found, factor * expected, atol=1e-5, rtol=1e-5)
