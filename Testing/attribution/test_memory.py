"""What occlusion takes of the memory, and that it keeps within what it may take."""

from __future__ import annotations

import gc
import logging
import types
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from monai.networks.nets import DenseNet121
from torch import nn
from torch.profiler import ProfilerActivity, profile

from SaliencyExplain.attribution.graph.symbolic_trace import NotTraceable
from SaliencyExplain.attribution.incremental.inference import IncrementalInference
from SaliencyExplain.attribution.methods.occlusion import Occlusion
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.attribution.passes import batches
from Testing.networks import monai_network


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


def held_by(thing):
    """Every tensor that an object reaches, walked by references, a function's closure included."""
    seen, waiting, found = set(), [thing], []
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, (type, types.ModuleType)):
            continue
        seen.add(id(one))
        if isinstance(one, torch.Tensor):
            found.append(one)
        elif isinstance(one, types.FunctionType):
            waiting += one.__closure__ or ()
        else:
            waiting += gc.get_referents(one)
    return found


def allocated(tensors):
    """Bytes of their storages, each counted once; of oneDNN's own what it says of them."""
    plain = {t.untyped_storage().data_ptr(): t.untyped_storage() for t in tensors if has_storage(t)}
    packed = sum(torch.ops.mkldnn._nbytes(t) for t in tensors if t.is_mkldnn)
    return packed + sum(storage.nbytes() for storage in plain.values())


def has_storage(tensor):
    return not tensor.is_mkldnn and not tensor.is_meta


def of_many_channels():
    """A network whose second convolution has weights for half of the products."""
    return nn.Sequential(
        *(nn.Conv3d(1, 64, 3, padding=1), nn.BatchNorm3d(64), nn.ReLU()),
        *(nn.Conv3d(64, 64, 3, padding=1, bias=False), nn.BatchNorm3d(64), nn.ReLU()),
        *(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(64, 3)),
    )


@pytest.mark.parametrize(
    ("make", "dims"),
    [
        (partial(monai_network, "ResNet", 3), 3),
        (partial(monai_network, "DenseNet", 3), 3),
        (partial(monai_network, "DenseNet", 2), 2),
        (of_many_channels, 3),
    ],
)
def test_what_is_said_to_be_kept_is_what_is_allocated_weights_included(make, dims):
    network = ScoreNetwork(make()).eval()
    image, window = torch.randn(1, 1, *(32,) * dims), (4,) * dims
    own = [tensor for tensor in held_by(network) if has_storage(tensor)]
    warm = IncrementalInference(network, image, window)
    known = {tensor.untyped_storage().data_ptr() for tensor in own}
    # The image, of one channel and so in either memory format, is a map that is kept.
    held = [
        tensor
        for tensor in held_by(warm)
        if not has_storage(tensor) or tensor.untyped_storage().data_ptr() not in known
    ]
    scores = 4 * warm.scores_unchanged.numel()
    assert allocated(held) - scores == warm.cached_bytes
    weights = 4 * sum(tensor.numel() for tensor in own if tensor.ndim > 3)
    assert warm.cached_bytes > weights, "each convolution's weight is held once more"
    if make is of_many_channels:
        # Six weights of nine cells for the second convolution's one of 27.
        assert sum(tensor.is_mkldnn for tensor in held) >= 6
    for memory in (warm.cached_bytes - 1, weights // 2):
        with pytest.raises(NotTraceable, match="maps of the image and the weights are not free"):
            IncrementalInference(network, image, window, memory=memory)
    assert IncrementalInference(network, image, window, memory=warm.cached_bytes)


@pytest.mark.slow
def test_allowed_memory_bounds_batches_and_kept_maps(task, caplog, monkeypatch):
    network = monai_network("ResNet", 3)
    image = torch.randn(1, 1, 32, 32, 32)
    method = Occlusion(window_mm=8.0, stride_mm=8.0, fill="value")
    sizes = [
        batches.batch_size(task(network, image, memory_bytes=most), 1e6) for most in (2e6, 8e6, 1e9)
    ]
    assert sizes == [1, 4, 32]
    whole = method.attribute(task(network, image))[""]
    with caplog.at_level(logging.INFO):
        little = method.attribute(task(network, image, memory_bytes=1e5))[""]
    assert "for the maps of the image and the weights are not free" in caplog.text
    torch.testing.assert_close(little, whole, rtol=0, atol=1e-6)
