from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from SaliencyExplain.attribution.methods.gradient import Gradient, SmoothGrad
from SaliencyExplain.attribution.methods.occlusion import Occlusion
from SaliencyExplain.attribution.passes import batches
from SaliencyExplain.errors import ErrorCode
from Testing.expected_errors import error_with


class Hungry(nn.Module):
    """A linear classifier that takes only so many images at a time.

    It looks at values, so that it cannot be traced and all its passes are whole.
    """

    def __init__(self, most, error):
        super().__init__()
        self.fc, self.most, self.error, self.sizes = nn.Linear(64, 2), most, error, []

    def forward(self, images):
        if len(images) > self.most or not bool(images.isfinite().all()):
            raise self.error
        self.sizes.append(len(images))
        return self.fc(images.flatten(1))


ERRORS = [
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    MemoryError(),
]
METHODS = [
    Occlusion(window_mm=2.0, stride_mm=2.0),
    SmoothGrad(samples=9),
]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize("error", ERRORS, ids=["cuda", "cpu", "python"])
def test_out_of_memory_is_answered_with_half_the_batch(task, method, error):
    network, image = Hungry(3, error), torch.randn(1, 1, 8, 8)
    told = []
    job = task(network, image, batch_size=8, progress=lambda done, total: told.append(done))
    found = method.attribute(job)[""]
    assert max(network.sizes) == 2
    assert told == sorted(told)
    network.most = 100
    torch.testing.assert_close(found, method.attribute(dataclasses.replace(job, batch_size=1))[""])


@pytest.mark.parametrize("method", [*METHODS, Gradient()], ids=lambda method: method.name)
def test_memory_for_not_even_one_image_is_told_in_one_line(task, method):
    network = Hungry(0, ERRORS[1])
    with error_with(ErrorCode.MEMORY, "cpu", "(8, 8)"):
        method.attribute(task(network, torch.randn(1, 1, 8, 8)))
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_other_errors_are_not_swallowed(task):
    with pytest.raises(RuntimeError, match="shape mismatch"):
        METHODS[0].attribute(
            task(Hungry(0, RuntimeError("shape mismatch")), torch.randn(1, 1, 8, 8))
        )


@pytest.mark.parametrize(
    "error", [RuntimeError("static shape"), AssertionError("guard"), ValueError("batch must be 1")]
)
def test_network_for_one_image_at_a_time_gets_one_at_a_time(task, error):
    network = Hungry(1, error)
    METHODS[0].attribute(task(network, torch.randn(1, 1, 8, 8), batch_size=4))
    assert set(network.sizes) == {1}


def test_network_that_mixes_up_the_batch_gets_one_at_a_time(task):
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(64, 2)

        def forward(self, images):
            return self.fc(images.flatten(1).mean(0, keepdim=True))

    image = torch.randn(1, 1, 8, 8)
    job = task(Fixed(), image, batch_size=4)
    with error_with(ErrorCode.MODEL_OUTPUT, "batch of 2"):
        job.network(image.repeat(2, 1, 1, 1))
    found = METHODS[0].attribute(job)[""]
    torch.testing.assert_close(
        found, METHODS[0].attribute(dataclasses.replace(job, batch_size=1))[""]
    )


def test_size_follows_the_free_memory(task, monkeypatch):
    job = task(Hungry(99, MemoryError()), torch.randn(1, 1, 64, 64, 64))
    sizes = []
    for free in (10**7, 2 * 10**9, 10**12):
        monkeypatch.setattr(batches, "free_memory", lambda _device, free=free: free)
        sizes.append(batches.batch_size(job, batches.forward_memory(job)))
    assert sizes[0] == 1
    assert sizes == sorted(sizes)
    assert sizes[2] > sizes[1] > 1


def test_free_memory_of_this_machine_is_positive_and_below_its_size():
    import psutil

    assert 0 < batches.free_memory(torch.device("cpu")) <= psutil.virtual_memory().total


def test_need_of_a_gradient_is_what_the_forward_pass_keeps(task, monkeypatch):
    seen = []
    monkeypatch.setattr(batches, "batch_size", lambda _task, need: seen.append(need) or 1)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 1000), nn.Tanh(), nn.Linear(1000, 2))
    job = task(network, torch.randn(1, 1, 8, 8))
    SmoothGrad(samples=2).attribute(job)
    # Kept: tanh's 1000 outputs and the two weight matrices (shared by the batch, yet counted:
    # the estimate errs on the safe side).
    kept = 4 * (1000 + 64 * 1000 + 1000 * 2)
    assert seen[0] - batches.forward_memory(job) == pytest.approx(kept, rel=0.05)
