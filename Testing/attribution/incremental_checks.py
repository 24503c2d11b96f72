"""Incremental scores beside those of plain forward passes, and networks to compare them on."""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from torch import nn

from SaliencyExplain.attribution.incremental.inference import IncrementalInference
from SaliencyExplain.attribution.network.score_network import ScoreNetwork


def starts_of(shape, window, stride):
    return tuple(
        tuple(dict.fromkeys((*range(0, n - w, stride), n - w)))
        for n, w in zip(shape, window, strict=True)
    )


def largest_difference(network, image, window, stride, most=12):
    """Of the scores, relative to the largest: incremental and plain, evenly spread windows."""
    if not isinstance(network, ScoreNetwork):
        network = ScoreNetwork(network)
    starts = starts_of(image.shape[2:], window, stride)
    inference = IncrementalInference(network, image, window)
    corners = np.array(list(product(*starts)))
    corners = corners[inference.ranks(corners, window)]
    corners = corners[:: max(1, len(corners) // most)]
    contents = 20 * torch.randn(len(corners), image.shape[1], *window)
    covered = image.repeat(len(corners), *[1] * (image.ndim - 1))
    for one, corner, content in zip(covered, corners.tolist(), contents, strict=True):
        inside = (slice(n, n + size) for n, size in zip(corner, window, strict=True))
        one[(slice(None), *inside)] = content
    with torch.no_grad():
        expected = network(covered)
        original = network(image)
    batches = [slice(i, i + 5) for i in range(0, len(corners), 5)]
    found = torch.cat([inference.scores(corners[batch], contents[batch]) for batch in batches])
    scale = expected.abs().max()
    assert (expected - original).abs().max() > 1e-6 * scale, "the windows must matter"
    unchanged = (inference.scores_unchanged - original).abs().max() / scale
    return float(max(unchanged, (found - expected).abs().max() / scale)), inference


LAYERS = {
    "stride and dilation": nn.Conv2d(4, 4, 3, stride=3, dilation=2, padding=1),
    "even kernel, same size": nn.Conv2d(4, 4, 4, padding="same"),
    "no padding": nn.Conv2d(4, 4, (5, 2), padding="valid"),
    "groups": nn.Conv2d(4, 8, 3, groups=2, padding=1),
    "stride beyond the kernel": nn.Conv2d(4, 4, 2, stride=5),
    "reflecting padding": nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
    "maximum, ceil mode": nn.MaxPool2d(3, stride=2, ceil_mode=True),
    "maximum with padding": nn.MaxPool2d(3, stride=2, padding=1),
    "average": nn.AvgPool2d(2),
    "average with padding": nn.AvgPool2d(3, stride=2, padding=1),
    "average that counts no padding": nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False),
    "uneven padding": nn.ConstantPad2d((1, 2, 0, 3), 0.7),
    "adaptive": nn.AdaptiveAvgPool2d(3),
    "instance norm": nn.InstanceNorm2d(4),
    "group norm": nn.GroupNorm(2, 4),
    "enlarged": nn.Upsample(scale_factor=2, mode="bilinear"),
    "transposed": nn.ConvTranspose2d(4, 4, 3, stride=2),
    "in place": nn.ReLU(inplace=True),
    "PReLU": nn.PReLU(4),
}


class Branches(nn.Module):
    """Sums, products and concatenations of maps whose boxes differ; a ReLU on a branch in place."""

    def __init__(self):
        super().__init__()
        self.small, self.large = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 7, padding=3)
        self.relu, self.last = nn.ReLU(inplace=True), nn.Conv2d(15, 2, 1)

    def forward(self, images):
        small, large = self.small(images), self.large(images)
        active = self.relu(small)
        first = torch.cat([small + large, small * large], dim=1)
        second = torch.cat([first, active - 0.5], dim=1)
        other = first.mean((2, 3), keepdim=True)[:, :3] * images
        scores = self.last(torch.cat([second, other], 1)).mean((2, 3))
        return scores + second.sigmoid().amax((1, 2, 3))[:, None]
