"""Our attribution methods beside MONAI's and captum's: time, ratio, peak memory.

    python Testing/benchmarks/attribution_speed.py [--size 96] [--repeats 3] [--json FILE]

The tools run in turn in one process on the same network, image, windows, samples and
batch size, after one untimed forward pass, so that whatever else the machine does meets
all of them alike: the ratio is what counts, and where others work beside, that of the CPU
time. Each figure is the median over the repeats; the memory is the highest over what was
there before (resident set on the CPU, read every 5 ms; allocated memory on CUDA). What
MONAI leaves on the network (hooks) is removed after each run, outside of the time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import captum.attr
import monai
import monai.visualize
import psutil
import torch
from monai.networks.nets import DenseNet121, resnet18
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from SaliencyExplain.attribution.cam import GradCAM
from SaliencyExplain.attribution.gradient import Gradient, SmoothGrad
from SaliencyExplain.attribution.method import Method, Task
from SaliencyExplain.attribution.network import ScoreNetwork
from SaliencyExplain.attribution.occlusion import Occlusion

TARGET = 1
NETWORKS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "DenseNet121": (
        lambda: DenseNet121(spatial_dims=3, in_channels=1, out_channels=3),
        "features.denseblock4.denselayer16.layers.conv2",
    ),
    "ResNet18": (
        lambda: resnet18(spatial_dims=3, n_input_channels=1, num_classes=3),
        "layer4.1.conv2",
    ),
}


def runs(
    network: nn.Module, layer: str, image: Tensor, options: argparse.Namespace
) -> dict[str, dict[str, Callable[[], object]]]:
    """What is timed: ``{method: {tool: run}}``."""
    side = image.shape[-1]
    window = -(-side // options.split)
    wrapped = ScoreNetwork(network)

    def ours(method: Method) -> Callable[[], object]:
        task = Task(wrapped, image, TARGET, (1.0,) * 3, batch_size=options.batch)
        return lambda: method.attribute(task)

    return {
        "occlusion": {
            "ours": ours(Occlusion(window_mm=window, stride_mm=window, fill="value")),
            "MONAI": lambda: without_gradient(monai_drop, network, image, window, options.batch),
            "captum": lambda: without_gradient(
                captum.attr.Occlusion(lambda images: network(images).softmax(1)).attribute,
                image,
                sliding_window_shapes=(1, *(window,) * 3),
                strides=(1, *(window,) * 3),
                baselines=0.0,
                target=TARGET,
                perturbations_per_eval=options.batch,
            ),
        },
        "gradcam": {
            "ours": ours(GradCAM(layers=(layer,))),
            "MONAI": lambda: monai.visualize.GradCAM(
                network, layer, postprocessing=lambda values: values
            )(image, class_idx=TARGET),
        },
        "gradient": {
            "ours": ours(Gradient()),
            "MONAI": lambda: monai.visualize.VanillaGrad(network)(image.clone(), index=TARGET),
        },
        "smoothgrad": {
            "ours": ours(SmoothGrad(samples=options.samples)),
            "MONAI": lambda: monai.visualize.SmoothGrad(
                network, n_samples=options.samples, verbose=False
            )(image, index=TARGET),
        },
    }


def monai_drop(network: nn.Module, image: Tensor, window: int, batch: int) -> Tensor:
    """What the others give too: the drop, for which MONAI leaves p(original) to the caller."""
    occluded, _ = monai.visualize.OcclusionSensitivity(
        network,
        mask_size=window,
        n_batch=batch,
        mode=0.0,
        overlap=0.0,
        activate=lambda scores: scores.softmax(1),
        verbose=False,
    )(image)
    return network(image).softmax(1)[0, TARGET] - occluded[0, TARGET]


def without_gradient(call: Callable[..., object], *args: object, **settings: object) -> object:
    with torch.no_grad():
        return call(*args, **settings)


def clean(network: nn.Module) -> None:
    """Removes what a tool has left on the network."""
    network.zero_grad(set_to_none=True)
    for module in network.modules():
        module._forward_hooks.clear()
        module._backward_hooks.clear()


@contextmanager
def peak_memory(device: torch.device, found: list[int]) -> Iterator[None]:
    """Appends the highest memory over what was there before, in bytes."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield
        torch.cuda.synchronize(device)
        found.append(torch.cuda.max_memory_allocated(device) - before)
        return
    process = psutil.Process()
    before = highest = process.memory_info().rss
    stop = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not stop.wait(0.005):
            highest = max(highest, process.memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    found.append(highest - before)


def measure(options: argparse.Namespace) -> list[dict[str, object]]:
    """All figures, a row for each network, method and tool."""
    device = torch.device(options.device)
    rows: list[dict[str, object]] = []
    for name in options.networks:
        build, layer = NETWORKS[name]
        torch.manual_seed(0)
        network = build().eval().to(device)
        image = torch.randn(1, 1, *(options.size,) * 3, device=device)
        with torch.no_grad():
            network(image)
        for method, tools in runs(network, layer, image, options).items():
            if method not in options.methods:
                continue
            seconds: dict[str, list[float]] = {tool: [] for tool in tools}
            work: dict[str, list[float]] = {tool: [] for tool in tools}
            memory: dict[str, list[int]] = {tool: [] for tool in tools}
            for repeat in range(options.repeats):
                order = list(tools) if repeat % 2 == 0 else list(tools)[::-1]
                for tool in order:
                    with peak_memory(device, memory[tool]):
                        start, busy = time.perf_counter(), time.process_time()
                        tools[tool]()
                        if device.type == "cuda":
                            torch.cuda.synchronize(device)
                        seconds[tool].append(time.perf_counter() - start)
                        work[tool].append(time.process_time() - busy)
                    clean(network)
            own, own_work = statistics.median(seconds["ours"]), statistics.median(work["ours"])
            for tool in tools:
                median = statistics.median(seconds[tool])
                rows.append(
                    {
                        "network": name,
                        "method": method,
                        "tool": tool,
                        "seconds": median,
                        "ratio": median / own,
                        "cpu_seconds": statistics.median(work[tool]),
                        "cpu_ratio": statistics.median(work[tool]) / own_work,
                        "peak_mib": max(memory[tool]) / 2**20,
                    }
                )
    return rows


def conditions(options: argparse.Namespace) -> dict[str, object]:
    """What the figures hold for."""
    device = torch.device(options.device)
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "monai": monai.__version__,
        "captum": captum.__version__,
        "size": options.size,
        "windows": options.split**3,
        "samples": options.samples,
        "batch": options.batch,
        "repeats": options.repeats,
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=96, help="voxels along each of three axes")
    parser.add_argument("--split", type=int, default=2, help="occlusion windows along each axis")
    parser.add_argument("--samples", type=int, default=4, help="noisy copies of SmoothGrad")
    parser.add_argument("--batch", type=int, default=4, help="images per forward pass")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    methods = ("occlusion", "gradcam", "gradient", "smoothgrad")
    parser.add_argument("--methods", nargs="+", choices=methods, default=methods)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    said = conditions(options)
    rows = measure(options)
    console = Console()
    table = Table(*("network", "method", "tool"))
    for column in ("seconds", "times ours", "CPU seconds", "times ours", "peak MiB"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            *(str(row[key]) for key in ("network", "method", "tool")),
            f"{row['seconds']:.3f}",
            f"{row['ratio']:.2f}",
            f"{row['cpu_seconds']:.2f}",
            f"{row['cpu_ratio']:.2f}",
            f"{row['peak_mib']:.0f}",
        )
    console.print(table)
    console.print(", ".join(f"{key} {value}" for key, value in said.items()))
    if options.json:
        options.json.write_text(json.dumps({"conditions": said, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
