"""torchvision beside a build of torch that it was not made for, in a process without fixtures."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest

_BUILD = """
from SaliencyExplain.models.networks import build_network
for definition in (
    {"_target_": "TorchVisionFCModel", "model_name": "resnet18", "num_classes": 2},
    {"_target_": "timm.create_model", "model_name": "resnet18", "num_classes": 2},
    {"_target_": "torchvision.models.resnet18", "num_classes": 2},
):
    print(sum(one.numel() for one in build_network(definition).parameters()))
"""


@pytest.mark.slow
@pytest.mark.skipif(
    find_spec("torchvision") is None or find_spec("timm") is None,
    reason="torchvision and timm are not installed",
)
def test_networks_of_torchvision_and_timm_are_built() -> None:
    made = subprocess.run(
        [sys.executable, "-c", _BUILD], capture_output=True, text=True, check=False
    )
    # Three forms of the same network with two classes.
    assert made.stdout.split() == ["11177538"] * 3, made.stderr
