"""What all benchmarks have in common: options, and what their figures hold for."""

from __future__ import annotations

import argparse
import json
import os
import platform
import warnings
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

_LIBRARIES = ("monai", "captum", "numpy")


def common_options(parser: argparse.ArgumentParser, *, device: bool = True) -> None:
    """Adds the options that each benchmark has; some run on the CPU only."""
    if device:
        parser.add_argument("--device", default="cpu", help="cpu or cuda:N")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", type=Path, help="also write the figures to this file")


def set_up(options: argparse.Namespace) -> None:
    """Quiet, with the threads that were asked for, and in float32 for all.

    cuDNN would compute the other tools' convolutions with ten binary digits (TensorFloat-32).
    """
    warnings.simplefilter("ignore")
    torch.backends.cudnn.allow_tf32 = False
    torch.set_num_threads(options.threads)


def conditions(options: argparse.Namespace) -> dict[str, Any]:
    """What the figures hold for: the options, machine and versions."""
    device = torch.device(getattr(options, "device", "cpu"))
    on_gpu = device.type == "cuda"
    said = {key: value for key, value in vars(options).items() if key != "json"}
    found = {
        "hardware": torch.cuda.get_device_name(device) if on_gpu else platform.machine(),
        "load_average": round(os.getloadavg()[0], 1),
        "wait_policy": os.environ.get("OMP_WAIT_POLICY", ""),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return {**said, **found}


def say(options: argparse.Namespace, rows: Sequence[dict[str, Any]]) -> None:
    """Prints what the figures hold for, and writes both where that was asked for."""
    said = conditions(options)
    print(", ".join(f"{key} {value}" for key, value in said.items()))
    if options.json:
        document = {"conditions": said, "rows": list(rows)}
        options.json.write_text(json.dumps(document, indent=2, default=str) + "\n")
