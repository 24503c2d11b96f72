"""Occlusion beside MONAI's and beside the floor of plain forward passes, per window.

    python Testing/benchmarks/occlusion_speed.py [--networks ...] [--batches 12] [--json FILE]

Three ways take turns in one process on the same network and image, window 16 and stride 8
voxels: ours, MONAI's ``OcclusionSensitivity`` with its default batch of 16, and plain
forward passes in the batch that is best for them (the floor of whoever computes each
window whole). Ours computes whole batches taken evenly from all windows in its order, so
that corners, borders and the centre have their share; MONAI the 16 windows of a part of
the image, which cost it the same anywhere. Each figure is the median over the repeats.

``share`` is the part of a forward pass' multiplications that ours still does. Where others
work on the machine, the CPU time is what counts, and OMP_WAIT_POLICY=PASSIVE keeps
waiting threads out of it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import monai
import numpy as np
import torch
from monai.networks.nets import DenseNet121, resnet18, resnet50
from monai.visualize import OcclusionSensitivity
from torch import Tensor, nn

from SaliencyExplain.attribution.guard import untouched
from SaliencyExplain.attribution.network import ScoreNetwork
from SaliencyExplain.attribution.occluded import CoveredWindows
from SaliencyExplain.attribution.occlusion import Windows

WINDOW, STRIDE = 16, 8
NETWORKS: dict[str, tuple[int, int, Callable[[], nn.Module]]] = {
    "ResNet18 3D 96": (3, 96, lambda: resnet18(spatial_dims=3, n_input_channels=1)),
    "ResNet18 3D 128": (3, 128, lambda: resnet18(spatial_dims=3, n_input_channels=1)),
    "ResNet50 3D 96": (3, 96, lambda: resnet50(spatial_dims=3, n_input_channels=1)),
    "DenseNet121 3D 96": (3, 96, lambda: DenseNet121(3, 1, 3)),
    "DenseNet121 2D 224": (2, 224, lambda: DenseNet121(2, 1, 3)),
    "ResNet50 2D 224": (2, 224, lambda: resnet50(spatial_dims=2, n_input_channels=1)),
}


def timed(run: Callable[[], int]) -> tuple[float, float]:
    """Seconds and CPU seconds per window of a run that tells its number of windows."""
    start, busy = time.perf_counter(), time.process_time()
    count = run()
    return (time.perf_counter() - start) / count, (time.process_time() - busy) / count


class Counting(nn.Module):
    """Counts the images that a tool sends through the network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.images = network, 0

    def forward(self, images: Tensor) -> Tensor:
        self.images += len(images)
        return self.network(images)


def monai_run(network: nn.Module, image: Tensor) -> Callable[[], int]:
    """MONAI with its default batch on a part of the image that has 16 windows."""
    counting = Counting(network).eval()
    axes = image.ndim - 2
    sides = (WINDOW + 3 * STRIDE, *[WINDOW + (STRIDE if axes == 3 else 3 * STRIDE)] * (axes - 1))
    box = [limit for side in sides for limit in (0, side - 1)]

    def run() -> int:
        counting.images = 0
        with torch.no_grad():
            OcclusionSensitivity(
                counting, mask_size=WINDOW, overlap=1 - STRIDE / WINDOW, mode=0.0, verbose=False
            )(image, b_box=box)
        return counting.images

    return run


def measure(name: str, options: argparse.Namespace) -> list[dict[str, object]]:
    """The rows of one network."""
    axes, size, build = NETWORKS[name]
    torch.manual_seed(0)
    network, image = ScoreNetwork(build()).eval(), torch.randn(1, 1, *(size,) * axes)
    first = (*range(0, size - WINDOW, STRIDE), size - WINDOW)
    windows = Windows((WINDOW,) * axes, (first,) * axes)
    everything = range(len(windows.places()))
    rows: list[dict[str, object]] = []
    with untouched(network):
        start = time.perf_counter()
        fill = torch.zeros(1, *[1] * axes)
        covered = CoveredWindows(network, image, windows.window, windows.starts, fill, everything)
        opening = time.perf_counter() - start
        order = covered.arranged(np.arange(len(everything)))
        places = np.linspace(0, len(order) - options.batch, options.batches).astype(int)
        parts = [order[place : place + options.batch] for place in places]
        found = [covered.scores(part) for part in parts]

        def ours() -> int:
            return sum(len(covered.scores(part)) for part in parts)

        def plain(batch: int) -> Callable[[], int]:
            def run() -> int:
                with torch.no_grad():
                    return len(network(image.repeat(batch, *[1] * (axes + 1))))

            return run

        runs = {"ours": ours, "MONAI": monai_run(network.network, image)}
        runs |= {f"plain, batch {batch}": plain(batch) for batch in (1, 4, 8)}
        figures: dict[str, list[tuple[float, float]]] = {tool: [] for tool in runs}
        for _ in range(options.repeats):
            for tool, run in runs.items():
                figures[tool].append(timed(run))
        difference = 0.0
        for part, scores in ((parts[i], found[i][:2]) for i in (0, len(parts) // 2, -1)):
            expected = covered.plain_scores(part[:2])
            difference = max(
                difference, float((scores - expected).abs().max() / scores.abs().max())
            )
    own = [statistics.median(values) for values in zip(*figures["ours"], strict=True)]
    for tool, values in figures.items():
        seconds, busy = (statistics.median(column) for column in zip(*values, strict=True))
        row = {"network": name, "tool": tool, "seconds": seconds, "cpu_seconds": busy}
        row |= {"ratio": seconds / own[0], "cpu_ratio": busy / own[1]}
        if tool == "ours":
            row |= {"share": covered.share, "difference": difference, "opening": opening}
        rows.append(row)
    return rows


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--batch", type=int, default=8, help="windows per batch of ours")
    parser.add_argument("--batches", type=int, default=12, help="batches of ours, evenly taken")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    rows = []
    print(f"{'network':<20}{'way':<16}{'s/window':>9}{'x ours':>8}{'CPU s':>9}{'x ours':>8}")
    for name in options.networks:
        for row in measure(name, options):
            rows.append(row)
            print(
                f"{row['network']:<20}{row['tool']:<16}{row['seconds']:>9.4f}{row['ratio']:>8.2f}"
                f"{row['cpu_seconds']:>9.4f}{row['cpu_ratio']:>8.2f}"
                + (
                    f"  share {row['share']:.3f}, scores differ by {row['difference']:.1e}, "
                    f"opening {row['opening']:.1f} s"
                    if "share" in row
                    else ""
                ),
                flush=True,
            )
    said = {
        "threads": options.threads,
        "batch": options.batch,
        "load_average": round(os.getloadavg()[0], 1),
        "wait_policy": os.environ.get("OMP_WAIT_POLICY", ""),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "monai": monai.__version__,
    }
    print(", ".join(f"{key} {value}" for key, value in said.items()))
    if options.json:
        options.json.write_text(json.dumps({"conditions": said, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
