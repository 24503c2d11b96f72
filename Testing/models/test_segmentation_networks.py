"""Segmentation networks as models: which output is the segmentation, and what a bundle says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from monai.networks import nets
from torch import Tensor, nn

import SaliencyExplain as se
from SaliencyExplain.errors import ErrorCode
from SaliencyExplain.models.loading import load_classifier
from SaliencyExplain.models.sliding_window import SlidingWindow, sliding_window
from SaliencyExplain.models.wrapping import wrap
from Testing.expected_errors import error_with
from Testing.models.bundles import INFERENCE, METADATA

NAMES = ("background", "tumour", "edema")


def networks() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {
        "UNet": nets.UNet(3, 1, 3, channels=(4, 8), strides=(2,)),
        "SegResNet": nets.SegResNet(3, init_filters=8, in_channels=1, out_channels=3),
        "SwinUNETR": nets.SwinUNETR(1, 3, feature_size=12, depths=(1, 1, 1, 1)),
        "DynUNet": nets.DynUNet(
            3,
            1,
            3,
            [3, 3, 3],
            [1, 2, 2],
            [2, 2],
            filters=[4, 8, 8],
            deep_supervision=True,
            deep_supr_num=1,
        ),
    }


@pytest.mark.parametrize("name", ["UNet", "SegResNet", "SwinUNETR", "DynUNet"])
def test_monais_segmentation_networks_segment(name: str) -> None:
    model = se.Model(networks()[name], NAMES, activation="softmax")
    assert model.windows is not None
    assert model.classes == NAMES
    images = torch.randn(1, 1, *[64 if name == "SwinUNETR" else 32] * 3)
    with torch.no_grad():
        expected = networks()[name].eval()(images).mean(dim=(2, 3, 4))
    torch.testing.assert_close(model.network(images), expected, atol=1e-5, rtol=1e-4)


class DeepSupervision(nn.Module):
    """Maps at the image's resolution and at half of it, and a vector of features."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 3, 1), nn.Conv2d(1, 3, 2, stride=2)

    def forward(self, images: Tensor) -> dict[str, object]:
        maps = [self.second(images), self.first(images)]
        return {"maps": maps}


def test_of_several_outputs_it_is_the_one_at_the_images_resolution() -> None:
    torch.manual_seed(0)
    network = DeepSupervision()
    model = se.Model(network, NAMES, activation="softmax")
    assert any("'maps.1'" in note for note in model.notes)
    images = torch.randn(2, 1, 16, 16)
    with torch.no_grad():
        expected = network.first(images).mean(dim=(2, 3))
    torch.testing.assert_close(model.network(images), expected)


def test_one_channel_is_two_classes() -> None:
    model = se.Model(nn.Conv2d(1, 1, 1), ["vessel"], activation="sigmoid")
    assert model.classes == ("not vessel", "vessel")
    scores = model.network(torch.randn(1, 1, 8, 8))
    torch.testing.assert_close(scores[:, 0], -scores[:, 1])


def test_a_segmentation_needs_a_name_for_each_channel() -> None:
    with error_with(ErrorCode.MODEL_CLASSES, "tumour"):
        se.Model(nn.Conv2d(1, 3, 1), ["background", "tumour"], activation="softmax")


def test_a_wrapped_network_is_a_bundle_of_a_segmentation(tmp_path: Path) -> None:
    arguments = {
        "spatial_dims": 2, "in_channels": 1, "out_channels": 2, "channels": [4, 8], "strides": [2],
    }  # fmt: skip
    network = nets.UNet(**arguments)
    bundle = wrap(
        "monai.networks.nets.UNet",
        network.state_dict(),
        ["background", "tumour"],
        tmp_path / "unet",
        network_args=arguments,
        activation="softmax",
        size=[32, 32],
    )
    content = json.loads((bundle / METADATA).read_text())
    assert content["task"] == "segmentation"
    assert content["network_data_format"]["outputs"]["pred"]["format"] == "segmentation"
    assert load_classifier(bundle).windows == SlidingWindow()
    inference = json.loads((bundle / INFERENCE).read_text())
    inference["roi"] = [16, 16]
    inference["inferer"] = {
        "_target_": "SlidingWindowInferer", "roi_size": "@roi", "sw_batch_size": 4, "overlap": 0.5,
        "mode": "gaussian", "device": "$torch.device('cpu')",
    }  # fmt: skip
    (bundle / INFERENCE).write_text(json.dumps(inference))
    assert load_classifier(bundle).windows == SlidingWindow((16, 16), 0.5, "gaussian")


@pytest.mark.parametrize(
    "inferer",
    [
        {"_target_": "SlidingWindowInferer", "roi_size": [16, 16]},
        {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, "x"]},
        {"_target_": "SlidingWindowInferer", "roi_size": 16, "overlap": 1.5},
        {"_target_": "SlidingWindowInferer", "roi_size": 16, "mode": "median"},
        {"_target_": "my.Inferer"},
        "text",
    ],
)
def test_an_inferer_that_makes_no_sense_is_refused(inferer: object) -> None:
    with error_with(ErrorCode.MODEL_CONFIGURATION, "inferer"):
        sliding_window({"inferer": inferer}, 3)


def test_a_window_may_take_an_axis_whole() -> None:
    inferer = {"_target_": "monai.inferers.SlidingWindowInferer", "roi_size": [96, 96, -1]}
    windows = sliding_window({"inferer": inferer}, 3)
    assert windows.size == (96, 96, None)
    assert windows.of_explanation((200, 200, 40)) == (96, 96, 40)
