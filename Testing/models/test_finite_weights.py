"""A bundle is not made of weights with NaN or infinite numbers."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from monai.networks.nets import DenseNet
from torch import Tensor, nn

from SaliencyExplain.errors import ErrorCode
from SaliencyExplain.models.finite_weights import check_finite, check_onnx_finite
from SaliencyExplain.models.wrapping import wrap
from Testing.expected_errors import error_with
from Testing.models.conftest import CLASSES, small_network

ARGUMENTS: dict[str, Any] = {
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": 3,
    "block_config": [1],
    "init_features": 4,
    "growth_rate": 2,
}


def with_value(key: str, value: float) -> nn.Module:
    """A network with one number replaced."""
    network = DenseNet(**ARGUMENTS)
    network.state_dict()[key].view(-1)[0] = value
    return network


def refused(weights: Path | dict[str, Tensor], out: Path, *named: str) -> None:
    with error_with(ErrorCode.MODEL_NOT_FINITE, *named):
        wrap("DenseNet", weights, CLASSES, out, network_args=ARGUMENTS)
    assert not out.exists()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("key", ["features.norm0.running_var", "class_layers.out.bias"])
def test_the_file_and_the_first_such_tensor_are_named(key, value, tmp_path) -> None:
    network = with_value(key, value)
    torch.save(network.state_dict(), tmp_path / "w.pt")
    refused(tmp_path / "w.pt", tmp_path / "bundle", "w.pt", key)


def test_in_each_form_of_weights(tmp_path) -> None:
    network = with_value("features.conv0.weight", math.nan)
    safetensors.torch.save_file(network.state_dict(), tmp_path / "w.safetensors")
    torch.save(network, tmp_path / "whole.pt")
    for name in ("w.safetensors", "whole.pt"):
        refused(tmp_path / name, tmp_path / "bundle", name, "features.conv0.weight")
    refused(network.state_dict(), tmp_path / "bundle", "features.conv0.weight")


def test_in_a_torchscript_program(tmp_path) -> None:
    network = small_network(2)
    network.state_dict()["6.bias"][1] = math.nan
    torch.jit.save(torch.jit.script(network), tmp_path / "net.ts")
    with error_with(ErrorCode.MODEL_NOT_FINITE, "net.ts", "6.bias"):
        wrap(None, tmp_path / "net.ts", CLASSES, tmp_path / "bundle", size=[16, 16], trust=True)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.filterwarnings("ignore")
def test_in_an_onnx_file(torchvision, tmp_path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnx2torch")

    def exported(network: nn.Module) -> bytes:
        stream = io.BytesIO()
        torch.onnx.export(network, (torch.rand(1, 1, 16, 16),), stream, dynamo=False)
        return stream.getvalue()

    network = small_network(2)
    check_onnx_finite(exported(network), "net.onnx")
    network.state_dict()["6.bias"][1] = math.inf
    (tmp_path / "net.onnx").write_bytes(exported(network))
    with error_with(ErrorCode.MODEL_NOT_FINITE, "net.onnx", "6.bias"):
        wrap(None, tmp_path / "net.onnx", CLASSES, tmp_path / "bundle", size=[16, 16])
    assert not (tmp_path / "bundle").exists()


def test_an_attention_mask_and_integers_are_accepted() -> None:
    network = nn.Linear(2, 2)
    network.register_buffer("mask", torch.full((4, 4), -torch.inf).triu(1))
    network.register_buffer("steps", torch.tensor(3))
    check_finite(network, "w.pt")
    network.register_buffer("scale", torch.full((4, 4), torch.nan))
    with error_with(ErrorCode.MODEL_NOT_FINITE, "w.pt", "scale"):
        check_finite(network, "w.pt")
