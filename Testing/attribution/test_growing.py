"""Maps that are shown while they grow, and SmoothGrad's, which has to stop."""

from __future__ import annotations

import time

import pytest
import torch
from monai.networks.nets import DenseNet121

from SaliencyExplain.attribution.methods.gradient import SmoothGrad
from SaliencyExplain.attribution.passes import anytime


def test_publishing_takes_a_small_part_of_the_time_and_the_end_is_always_told(
    task, linear, monkeypatch
):
    clock, told = [0.0], []
    monkeypatch.setattr(anytime.time, "perf_counter", lambda: clock[0])

    def slow(maps, share):
        clock[0] += 0.02
        told.append(clock[0])

    job = task(linear(torch.ones(1, 4, 4)), torch.ones(1, 1, 4, 4), publish=slow)
    grows = anytime.AnytimeMap(job)
    while clock[0] < 3.0:
        assert not grows.is_enough(0.5, dict, stage=True)
        clock[0] += 0.01
    # At once, and then again after forty times as long as it took: three times in three seconds.
    assert told == pytest.approx([0.02, 0.84, 1.66, 2.48], abs=0.02)
    grows.is_enough(1.0, dict)
    assert len(told) == 5


@pytest.mark.parametrize("squared", [True, False])
def test_smoothgrad_stopped_early_is_smoothgrad_of_fewer_copies(task, squared):
    network = DenseNet121(spatial_dims=2, in_channels=1, out_channels=2, block_config=(2, 2))
    image = torch.randn(1, 1, 32, 32)
    shares = []
    job = task(
        network,
        image,
        batch_size=3,
        deadline=time.perf_counter(),
        publish=lambda maps, share: shares.append(share),
    )
    stopped = SmoothGrad(samples=10, squared=squared).attribute(job)[""]
    three = SmoothGrad(samples=3, squared=squared).attribute(task(network, image, batch_size=3))[""]
    assert torch.equal(stopped, three)
    assert shares == [pytest.approx(0.3)]
