"""Every method computes on a device that is not the CPU, and finds the same there."""

from __future__ import annotations

import copy
import logging

import pytest
import torch
from monai.networks.nets import DenseNet121

from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.attribution.perturbation import occlusion_scorer
from SaliencyExplain.attribution.registry import find_method
from Testing.pretend import DEVICE, device, send, sent
from Testing.quick_methods import names, quick


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    return DenseNet121(
        spatial_dims=2,
        in_channels=1,
        out_channels=2,
        init_features=8,
        growth_rate=4,
        block_config=(2, 2),
    ).eval()


@pytest.fixture(autouse=True)
def _mixed_precision(monkeypatch):
    """torch knows no lower precision for a device of that name."""
    real = torch.autocast
    monkeypatch.setattr(
        torch, "autocast", lambda kind, **rest: real("cpu" if kind == "meta" else kind, **rest)
    )


def test_the_device_objects_to_another():
    with device():
        there = sent(torch.ones(3))
        assert there.device == DEVICE
        assert (there + 1).device == DEVICE
        assert torch.equal((there * 2).cpu(), torch.full((3,), 2.0))
        assert torch.zeros(2).to(DEVICE).device == DEVICE
        with pytest.raises(RuntimeError, match="same device"):
            there + torch.ones(3)
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_the_map_is_that_of_the_cpu(task, network, name):
    image, backgrounds = torch.randn(1, 1, 32, 32), torch.randn(2, 1, 32, 32)
    method = quick(name)
    expected = method.attribute(
        task(copy.deepcopy(network), image, batch_size=2, backgrounds=backgrounds)
    )
    with device():
        there = task(
            send(copy.deepcopy(network)), sent(image), batch_size=2, backgrounds=sent(backgrounds)
        )
        assert isinstance(there.network, ScoreNetwork)
        found = {key: values.cpu() for key, values in method.attribute(there).items()}
    assert found.keys() == expected.keys()
    for key, values in expected.items():
        assert (found[key] - values).abs().max() <= 1e-5 * values.abs().max(), key


@pytest.mark.slow
def test_windows_are_carried_through_the_network_there(task, monkeypatch, caplog):
    """Even through a network so small that it would not pay on a GPU."""
    torch.manual_seed(5)
    net = DenseNet121(spatial_dims=2, in_channels=1, out_channels=2, block_config=(2, 2)).eval()
    monkeypatch.setattr(occlusion_scorer, "_LEAST_GAIN", 0.0)
    image = torch.randn(1, 1, 72, 64)
    method = find_method("occlusion")(window_mm=6.0, stride_mm=6.0)
    expected = method.attribute(task(copy.deepcopy(net), image))[""]
    with device(), caplog.at_level(logging.DEBUG, logger=occlusion_scorer.__name__):
        found = method.attribute(task(send(net), sent(image)))[""].cpu()
    assert "% of each forward pass" in caplog.text
    # Rounding of probabilities of about one half.
    assert (found - expected).abs().max() < 1e-6
