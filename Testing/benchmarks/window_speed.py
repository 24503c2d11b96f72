"""Occlusion per window: ours, MONAI's, and plain forward passes."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from monai.visualize import OcclusionSensitivity
from torch import Tensor, nn

from SaliencyExplain.attribution.incremental.boxes import inside
from SaliencyExplain.attribution.network.frozen_network import untouched
from SaliencyExplain.attribution.passes.batches import batch_size, forward_memory
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.attribution.perturbation.infill import infill_of
from SaliencyExplain.attribution.perturbation.occlusion_scorer import OcclusionScorer
from SaliencyExplain.attribution.perturbation.occlusion_windows import Windows
from Testing.benchmarks.measuring import take_turns

WINDOW, STRIDE = 16, 8


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


def occlusion_rows(
    task: Task, options: argparse.Namespace, best: float
) -> Iterator[dict[str, Any]]:
    """The rows of one network and image.

    Args:
        task: Network and image.
        options: Of the command.
        best: Seconds of a plain forward pass per image in the best batch.
    """
    image, network = task.input, task.network
    size, axes = image.shape[2:], image.ndim - 2
    starts = tuple((*range(0, n - WINDOW, STRIDE), n - WINDOW) for n in size)
    windows = Windows((WINDOW,) * axes, starts)
    everything = np.arange(int(np.prod(windows.grid)))
    corners = windows.corners(everything).tolist()
    changes = [bool(image[0][inside(corner, windows.window)].any()) for corner in corners]
    changing = everything[np.array(changes)]
    with untouched(network):
        start = time.perf_counter()
        fill = infill_of(image, "value", task.spacing)
        covered = OcclusionScorer(task, windows, fill, changing.tolist())
        order = covered.arranged(changing)
        opening = time.perf_counter() - start
        batch = batch_size(task, forward_memory(task), covered.share)
        count = min(options.window_batches, -(-len(order) // batch))
        places = np.linspace(0, max(0, len(order) - batch), count).astype(int)
        parts = [order[place : place + batch] for place in places]
        found = covered.scores(parts[0])
        expected = covered.plain_scores(parts[0])
        apart = float((found - expected).abs().max() / expected.abs().max())

        def ours() -> int:
            return sum(len(covered.scores(part)) for part in parts)

        tools = {"ours": ours, "MONAI": monai_run(network.network, image)}
        figures = take_turns(tools, image.device, options.repeats)
    own = figures["ours"]
    share = len(changing) / len(everything)
    for tool, taken in figures.items():
        # Per window of all windows: ours leaves out those that change nothing.
        part = share if tool == "ours" else 1.0
        more = opening / len(everything) if tool == "ours" else 0.0
        seconds, busy = (
            median / taken.result * part + more for median in (taken.median, taken.cpu_median)
        )
        mine, mine_busy = (
            median / own.result * share + opening / len(everything)
            for median in (own.median, own.cpu_median)
        )
        row = {
            "tool": tool,
            "seconds": seconds,
            "ratio": seconds / mine,
            "cpu_seconds": busy,
            "cpu_ratio": busy / mine_busy,
            "floor": seconds / best,
            "peak_mib": max(taken.memory) / 2**20,
        }
        if tool == "ours":
            row |= {"batch": batch}
            row |= {"windows": len(everything), "changing": share, "opening_seconds": opening}
            row |= {"share_of_pass": covered.share, "apart": apart}
        yield row
