"""MSFI of methods that have a map for each channel, and of those that have one for all."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from captum.attr import Saliency
from monai.data import MetaTensor
from monai.transforms import Compose, Orientationd
from torch import nn

from SaliencyExplain.attribution.methods.gradient import Gradient, SmoothGrad
from SaliencyExplain.attribution.methods.input_gradient import GradientTimesInput
from SaliencyExplain.attribution.methods.integrated_gradients import IntegratedGradients
from SaliencyExplain.attribution.methods.occlusion import Occlusion
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.attribution.registry import methods
from SaliencyExplain.errors import ErrorCode
from SaliencyExplain.evaluation.image.changed_maps import MapMaker
from SaliencyExplain.evaluation.image.evaluation_passes import Work
from SaliencyExplain.evaluation.image.map_evaluation import evaluate_maps
from SaliencyExplain.explanation.compute import Compute
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.images.reading import to_image
from SaliencyExplain.images.segmentation import Segment, Segmentation
from SaliencyExplain.json_text import json_text
from SaliencyExplain.models.classifier import Classifier
from Testing.expected_errors import error_with

CHANNELS = ("t1", "t2")
SHAPE = (16, 12, 10)
#: Stored as LPS: the network's RAS grid is turned against the image's.
AFFINE = np.diag([-2.0, -2.0, 2.0, 1.0])
T1, T2 = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
T1[2:6, 2:5, 3:6] = True
T2[10:13, 7:10, 5:8] = True


class TwoFeatures(nn.Module):
    """Reads one place in t1 and another in t2, the first with three times the weight."""

    def __init__(self) -> None:
        super().__init__()
        t1, t2 = (torch.from_numpy(mask[::-1, ::-1].copy()).double() for mask in (T1, T2))
        weights = torch.stack([3 * t1 / t1.sum(), t2 / t2.sum()]).float()
        self.weights = nn.Parameter(weights)

    def forward(self, images):
        score = (images * self.weights).flatten(1).sum(1) - 1.5
        return torch.stack([-score, score], dim=1)


@pytest.fixture(scope="module")
def case():
    classifier = Classifier(
        name="two features",
        classes=("other", "lesion"),
        channels=CHANNELS,
        spatial_dims=3,
        network=ScoreNetwork(TwoFeatures().eval()),
        preprocessing=Compose(
            [Orientationd(["image"], axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S")))]
        ),
        identity="0" * 64,
        source=Path("two"),
    )
    random = np.random.default_rng(5)
    image = random.random((2, *SHAPE), dtype=np.float32) * 0.2
    image[0][T1] += 0.7
    image[1][T2] += 0.7
    return prepare(to_image(image, AFFINE, name="two"), classifier, "lesion", Compute("cpu"))


def modalities(**masks):
    return {
        name: Segmentation((Segment(name, (1.0, 0.0, 0.0), mask),), AFFINE, ())
        for name, mask in masks.items()
    }


def msfi_of(case, *asked, masks=None, **settings):
    masks = modalities(t1=T1, t2=T2) if masks is None else masks
    costs = []
    found = evaluate_maps(case, asked, modalities=masks, parts=["channels"],
                  announce=costs.append, **settings).evaluation  # fmt: skip
    assert found.forward_passes == costs[0].forward_passes
    return found


@pytest.mark.parametrize(
    "method",
    [Gradient(), IntegratedGradients(steps=4), GradientTimesInput(), SmoothGrad(samples=2)],
)
def test_a_gradient_of_each_channel_lies_on_that_channels_feature_alone(case, method):
    msfi = msfi_of(case, method).maps[0].msfi
    assert msfi.per_channel
    assert msfi.value == pytest.approx(1.0, abs=1e-5)
    assert msfi.shares == pytest.approx({"t1": 1.0, "t2": 1.0}, abs=1e-5)
    assert msfi.chance < 0.05
    # The same features, each looked for in the other channel.
    swapped = msfi_of(case, method, masks=modalities(t1=T2, t2=T1)).maps[0].msfi
    assert swapped.value == pytest.approx(0.0, abs=1e-5)


def test_one_map_for_all_channels_is_held_against_each_and_says_so(case):
    both = MetaTensor(
        torch.from_numpy((T1 | T2)[None].astype(np.float32)), affine=case.image.affine
    )
    found = msfi_of(case, given_maps={"both": both})
    msfi = found.maps[0].msfi
    assert not msfi.per_channel
    inside = T1.sum() / (T1.sum() + T2.sum())
    assert msfi.shares == pytest.approx({"t1": inside, "t2": 1 - inside}, abs=1e-5)
    weights = dict(zip(found.channels.channels, found.channels.values, strict=True))
    expected = (weights["t1"] * inside + weights["t2"] * (1 - inside)) / sum(weights.values())
    assert weights["t1"] > 2 * weights["t2"] > 0
    assert msfi.value == pytest.approx(expected, abs=1e-5)
    assert "one map for all channels" in msfi.words


def test_occlusion_of_each_channel_has_their_own_maps_and_of_all_together_one(case):
    sizes = {"window_mm": 2.0, "stride_mm": 2.0}
    each = msfi_of(case, Occlusion(channel="each", **sizes))
    assert [one.label for one in each.maps] == ["occlusion@t1", "occlusion@t2"]
    assert {one.msfi.value for one in each.maps} == {each.maps[0].msfi.value}
    assert each.maps[0].msfi.per_channel
    assert each.maps[0].msfi.value > 0.95
    together = msfi_of(case, Occlusion(**sizes)).maps[0].msfi
    assert not together.per_channel
    assert together.value < 0.8
    assert json_text(each.as_json()).count('"per_channel": true') == 2


def test_a_map_of_another_channel_alone_has_none_and_the_reason_is_said(case):
    found = msfi_of(case, Occlusion(channel="t1", window_mm=4.0, stride_mm=4.0))
    assert found.maps[0].msfi is None
    assert any("no map of the channel t2" in note for note in found.maps[0].notes)
    own = msfi_of(case, Occlusion(channel="t1", window_mm=2.0, stride_mm=2.0),
                  masks=modalities(t1=T1))  # fmt: skip
    assert own.maps[0].msfi.value > 0.95


def test_without_the_values_of_the_channels_the_reason_is_said(case):
    found = evaluate_maps(
        case, [Gradient()], modalities=modalities(t1=T1), parts=["agreement"]
    ).evaluation
    assert found.maps[0].msfi is None
    assert any("wants the part channels" in note for note in found.notes)


def test_a_segmentation_of_no_channel_is_refused_before_anything_is_computed(case):
    with error_with(ErrorCode.NAME_UNKNOWN, "'pet'", "t1, t2"):
        evaluate_maps(case, [Gradient()], modalities=modalities(pet=T1),
              progress=lambda done, total: pytest.fail("a forward pass was made"))  # fmt: skip


def test_the_page_names_the_methods_that_have_a_map_for_each_channel():
    page = Path(__file__).resolve().parents[2] / "docs" / "METHODS.md"
    told = page.read_text(encoding="utf-8").partition("computed again: ")[2].partition(";")[0]
    own = {name for name, method in methods().items() if method.per_channel}
    assert set(re.findall(r"`([^`]+)`", told)) == own


def test_the_gradient_of_each_channel_is_captums(small, task):
    image = torch.rand(1, 2, 9, 8)
    job = task(small(axes=2, channels=2), image, channels=CHANNELS)
    maker = MapMaker(Gradient(), 2.0, Work(1e9))
    found = maker.channel_maps(job, maker.maps(job))
    theirs = Saliency(lambda images: job.network(images)).attribute(image, target=1)
    for name, expected in zip(CHANNELS, theirs[0], strict=True):
        np.testing.assert_allclose(found[name], expected.numpy(), rtol=1e-5, atol=1e-8)
