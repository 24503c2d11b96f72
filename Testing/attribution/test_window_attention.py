"""Occlusion and clicks on networks whose layers mix distant places, and on thin volumes."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn

from SaliencyExplain.attribution.incremental.cached_inference import CachedImage, Change
from SaliencyExplain.attribution.incremental.inference import IncrementalInference
from SaliencyExplain.attribution.methods.occlusion import Occlusion
from SaliencyExplain.attribution.network.score_network import ScoreNetwork

SIDE = 4


class WindowAttention(nn.Module):
    """A convolution, self-attention within windows of patches with the channels last, a head.

    With a shift the patches are rolled by half a window before and back after, as in Swin: a
    patch at one border then speaks with patches at the other.
    """

    def __init__(self, shift: int) -> None:
        super().__init__()
        self.shift = shift
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 4, 4))
        self.mix, self.head = nn.Linear(8, 24), nn.Linear(8, 3)
        self.bias = nn.Parameter(torch.randn(SIDE * SIDE, SIDE * SIDE))

    def forward(self, images):
        x = self.stem(images).permute(0, 2, 3, 1)
        batch, height, width, channels = x.shape
        if self.shift:
            x = torch.roll(x, (-self.shift, -self.shift), (1, 2))
        parts = x.view(batch, height // SIDE, SIDE, width // SIDE, SIDE, channels)
        parts = parts.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, SIDE * SIDE, channels)
        count, places, _ = parts.shape
        query, key, value = self.mix(parts).reshape(count, places, 3, channels).unbind(2)
        weights = (query @ key.transpose(1, 2) + self.bias.unsqueeze(0)).softmax(-1)
        mixed = (weights @ value).view(-1, height // SIDE, width // SIDE, SIDE, SIDE, channels)
        mixed = mixed.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, height, width, channels)
        x = x + mixed
        if self.shift:
            x = torch.roll(x, (self.shift, self.shift), (1, 2))
        # Not a mean: a wrong place must show.
        weigh = torch.arange(height * width, device=x.device).view(height, width, 1).cos()
        return self.head((x * weigh).sum((1, 2)))


def drop_of(network, image, target, first, size):
    covered = image.clone()
    covered[(..., *(slice(n, n + size) for n in first))] = 0
    with torch.no_grad():
        return float((network(image) - network(covered))[0, target])


@pytest.mark.parametrize("shift", [0, 2])
def test_occlusion_of_window_attention_equals_whole_passes(task, shift):
    torch.manual_seed(shift)
    network, image = WindowAttention(shift).eval(), torch.randn(1, 1, 64, 64)
    method = Occlusion(window_mm=8.0, stride_mm=8.0, fill="value", output="score")
    found = method.attribute(task(network, image, 1))[""]
    for first in ((0, 0), (56, 56), (24, 32), (56, 0), (8, 40)):
        expected = drop_of(network, image, 1, first, 8)
        assert float(found[first]) == pytest.approx(expected, abs=1e-4)


def test_a_click_on_window_attention_equals_whole_passes():
    torch.manual_seed(0)
    network, image = WindowAttention(2).eval(), torch.randn(1, 1, 64, 64)
    warm = CachedImage(ScoreNetwork(network), image)
    scores = warm.scores(
        [Change((0, 0), torch.zeros(1, 9, 9)), Change((50, 3), torch.ones(1, 5, 7))]
    )
    changed = image.repeat(2, 1, 1, 1)
    changed[0, :, :9, :9], changed[1, :, 50:55, 3:10] = 0, 1
    with torch.no_grad():
        torch.testing.assert_close(scores, network(changed), rtol=0, atol=1e-4)


SMALL_SWIN = {"embed_dim": 32, "depths": (2, 2), "num_heads": (2, 4)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "side", "arguments"),
    [
        ("swin_tiny_patch4_window7_224", 56, {"img_size": 56, **SMALL_SWIN}),
        ("swinv2_tiny_window8_256", 64, {"img_size": 64, **SMALL_SWIN}),
        ("davit_tiny", 64, {}),
        ("maxvit_nano_rw_256", 64, {"img_size": 64}),
    ],
)
def test_occlusion_of_the_networks_of_timm(timm, task, name, side, arguments):
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=3, in_chans=1, **arguments).eval()
    image = torch.randn(1, 1, side, side)
    window = side // 4
    method = Occlusion(window_mm=window, stride_mm=window, fill="value", output="score")
    found = method.attribute(task(network, image, 1))[""]
    for first in ((0, 0), (3 * window, 2 * window)):
        expected = drop_of(network, image, 1, first, window)
        assert float(found[first]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("error", [KeyError("x"), TypeError("a size"), ValueError(), OSError("y")])
@pytest.mark.parametrize("after", [0, 1, 3])
def test_any_error_of_the_incremental_way_means_whole_passes(
    task, caplog, monkeypatch, error, after
):
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, 4))
    network = nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)).eval()
    image, calls = torch.randn(1, 1, 48, 48), []
    method = Occlusion(window_mm=4.0, stride_mm=4.0, fill="value", output="score")
    inner = IncrementalInference.scores

    def scores(self, *arguments):
        calls.append(None)
        if len(calls) > after:
            raise error
        return inner(self, *arguments)

    monkeypatch.setattr(IncrementalInference, "scores", scores)
    with caplog.at_level(logging.INFO):
        found = method.attribute(task(network, image, 1))[""]
    assert type(error).__name__ in caplog.text
    assert len(calls) == after + 1
    for first in ((0, 0), (20, 24), (44, 44)):
        expected = drop_of(network, image, 1, first, 4)
        assert float(found[first]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("error", [KeyError("x"), TypeError("a size")])
def test_any_error_of_a_click_means_whole_passes(caplog, monkeypatch, error):
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, 4))
    network = nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)).eval()
    image = torch.randn(1, 1, 48, 48)
    warm = CachedImage(ScoreNetwork(network), image)
    assert warm.cached_bytes
    inner = IncrementalInference.scores_of

    def scores_of(self, *arguments):
        inner(self, *arguments)
        raise error

    monkeypatch.setattr(IncrementalInference, "scores_of", scores_of)
    with caplog.at_level(logging.WARNING):
        scores = warm.scores([Change((3, 5), torch.zeros(1, 9, 9))])
    assert type(error).__name__ in caplog.text
    assert not warm.cached_bytes
    changed = image.clone()
    changed[..., 3:12, 5:14] = 0
    with torch.no_grad():
        torch.testing.assert_close(scores, network(changed), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [
        ((40, 44, 1), (1.0, 1.0, 3.0)),
        ((1, 40, 44), (3.0, 1.0, 1.0)),
        ((40, 36, 2), (1.0, 1.0, 3.0)),
        ((40, 4, 2), (1.0, 1.0, 3.0)),
        ((60, 5), (1.0, 1.0)),
        ((60, 2), (1.0, 1.0)),
    ],
)
@pytest.mark.parametrize("fill", ["mean", "inpaint", "window-mean", "blur"])
def test_an_image_no_thicker_than_one_window_has_a_map(task, shape, spacing, fill):
    torch.manual_seed(0)
    three = len(shape) == 3
    conv, pool = (nn.Conv3d, nn.AdaptiveAvgPool3d) if three else (nn.Conv2d, nn.AdaptiveAvgPool2d)
    network = nn.Sequential(
        conv(1, 4, 3, padding=1), nn.ReLU(), pool(1), nn.Flatten(), nn.Linear(4, 2)
    ).eval()
    image = torch.randn(1, 1, *shape)
    method = Occlusion(fill=fill, output="score")
    job = task(network, image, 1, spacing=spacing)
    found = method.attribute(job)[""]
    assert found.shape == shape
    assert found.isfinite().all()
    assert found.abs().max() > 0
    if fill == "mean":
        window = method.windows(shape, spacing).window
        covered = image.clone()
        covered[(..., *(slice(0, width) for width in window))] = image.mean()
        with torch.no_grad():
            expected = float((network(image) - network(covered))[0, 1])
        # The corner voxel lies in the corner's window alone.
        assert float(found[(0,) * len(shape)]) == pytest.approx(expected, abs=1e-5)
