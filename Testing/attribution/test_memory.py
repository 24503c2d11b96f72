"""What occlusion takes of the memory, and that it keeps within what it may take."""

from __future__ import annotations

import logging
import math
from itertools import product

import numpy as np
import pytest
import torch
from monai.networks.nets import DenseNet121
from torch.profiler import ProfilerActivity, profile

from SaliencyExplain.attribution import batches
from SaliencyExplain.attribution.incremental.inference import IncrementalInference
from SaliencyExplain.attribution.network import ScoreNetwork
from SaliencyExplain.attribution.occlusion import Occlusion
from SaliencyExplain.cli.options import memory_bytes
from SaliencyExplain.errors import InputError
from Testing.attribution.test_networks import build


def peak_and_left(run):
    """Most bytes that torch held at a time while this ran, and those that it left."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        kept = run()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = np.cumsum([e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())])
    return kept, held.max(), held[-1]


@pytest.mark.parametrize(("dims", "size"), [(2, 96), (3, 48)])
def test_peak_is_at_most_twice_that_of_plain_passes_of_the_same_batch(dims, size):
    network = DenseNet121(dims, 1, 3, init_features=16, growth_rate=8, block_config=(4, 4, 4, 4))
    network = ScoreNetwork(network).eval().requires_grad_(False)
    image, window, count = torch.randn(1, 1, *(size,) * dims), (8,) * dims, 8

    def plain():
        with torch.no_grad():
            network(image.repeat(count, *[1] * (dims + 1)))

    allowed = 2 * peak_and_left(plain)[1]
    warm, opening, held = peak_and_left(lambda: IncrementalInference(network, image, window))
    assert opening <= allowed
    corners = np.array(list(product((*range(0, size - 8, 8), size - 8), repeat=dims)))
    corners = corners[warm.ranks(corners, window)]
    contents = torch.zeros(count, 1, *window)
    for start in (0, len(corners) // 2, len(corners) - count):
        batch = corners[start : start + count]
        for together in (0, warm.together(corners, window)):
            _, peak, left = peak_and_left(
                lambda batch=batch, together=together: warm.scores(batch, contents, together)
            )
            assert held + peak <= allowed
            assert left < 1000, "only the scores are left"


def test_allowed_memory_bounds_batches_and_kept_maps(task, caplog, monkeypatch):
    network = build("ResNet", 3)
    image = torch.randn(1, 1, 32, 32, 32)
    method = Occlusion(window_mm=8.0, stride_mm=8.0, fill="value")
    sizes = [
        batches.batch_size(task(network, image, memory_bytes=most), 1e6) for most in (2e6, 8e6, 1e9)
    ]
    assert sizes == [1, 4, 32]
    whole = method.attribute(task(network, image))[""]
    with caplog.at_level(logging.INFO):
        little = method.attribute(task(network, image, memory_bytes=1e5))[""]
    assert "for the maps of the image are not free" in caplog.text
    torch.testing.assert_close(little, whole, rtol=0, atol=1e-6)


def test_sizes_of_memory_are_read_as_people_write_them():
    for text, expected in (
        ("4G", 4 * 2**30),
        ("1.5gib", 1.5 * 2**30),
        ("800M", 800 * 2**20),
        ("64 kB", 2**16),
        ("1000", 1000),
    ):
        assert memory_bytes(text) == expected
    assert memory_bytes(None) == math.inf
    for text in ("much", "-1G", "0", "4X", "", "G"):
        with pytest.raises(InputError, match=r"--memory wants a size such as 4G"):
            memory_bytes(text)
