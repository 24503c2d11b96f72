"""Our methods beside MONAI's, captum's and PAIR's, and beside the floor of plain passes.

    python -m Testing.benchmarks.speed [--subjects ...] [--methods ...] [--images ...] [--json FILE]

Runs with torch, numpy and MONAI alone. All tools take turns in one process on the same
network, image, layer, windows and samples, after an untimed run of those that are short, so
that whatever else the machine does meets all of them alike; figures are medians. Where others
work on the machine, the ratio of CPU times counts, and OMP_WAIT_POLICY=PASSIVE keeps waiting
threads out of it. What a tool leaves on the network is removed after each run, outside of its
time.

``passes`` is the time in plain forward passes of one image, ``floor`` that over the number of
passes that the method needs (a gradient is two) at the best time per image of a plain batch
of 1, 4 or 8: below 1 it is faster than whoever computes each pass plainly. ``apart`` is the
largest difference between ours and the tool's map, as a share of its largest value, where
both give the same quantity. Occlusion (16 voxels, stride 8) is timed per window: ours on whole
batches, as large as a map's, taken evenly from all windows in their order, MONAI on 16 windows
of a part of the image, which cost it the same anywhere; the ratio counts all windows, of which
ours computes those that change something, and its preparations.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.attribution.registry import methods
from Testing.benchmarks.conditions import common_options, say, set_up
from Testing.benchmarks.contenders import TARGET, TOGETHER, TOOLS, clean, methods_of, others, ours
from Testing.benchmarks.measuring import take_turns
from Testing.benchmarks.subjects import Subject, image_of, subjects
from Testing.benchmarks.window_speed import occlusion_rows

Row = dict[str, Any]
PREDICT, OCCLUSION = "predict", "occlusion"
#: Rows of the table unless others are asked for.
USUAL = (PREDICT, "gradient", "gradcam", "gradcam++", TOGETHER, "smoothgrad", OCCLUSION)
#: Batches among which the plain forward pass has its best time.
BATCHES = (1, 4, 8)
#: Passes from which on a method needs no untimed run.
_MANY = 10.0
#: What both give is the same: the gradient's absolute value, the class activation map's weights.
_SAME = ("gradient", "gradient-times-input")


def plain(network: nn.Module, image: Tensor, batch: int) -> Callable[[], Tensor]:
    """A forward pass of a batch, without a gradient."""
    images = image.repeat(batch, *[1] * (image.ndim - 1))

    def run() -> Tensor:
        with torch.no_grad():
            return network(images)

    return run


def measure(subject: Subject, kind: str, options: argparse.Namespace) -> Iterator[Row]:
    """The rows of one network and image."""
    device = torch.device(options.device)
    image = image_of(subject, kind)
    if image is None:
        print(f"({subject.name}: the real image, or nibabel to read it, is not here)")
        return
    torch.manual_seed(0)
    network = subject.build().eval().to(device)
    image = image.to(device)
    runs = {str(batch): plain(network, image, batch) for batch in BATCHES}
    for run in runs.values():
        run()
    passes = take_turns(runs, device, options.repeats)
    one = passes["1"]
    best = min(figures.median / int(batch) for batch, figures in passes.items())
    wrapped = ScoreNetwork(network).eval()
    task = Task(
        wrapped,
        image,
        TARGET,
        (1.0,) * (image.ndim - 2),
        batch_size=options.batch,
        precision=options.precision,
    )
    head = {"network": subject.name, "image": kind}
    for name in options.methods:
        if name == OCCLUSION:
            for row in occlusion_rows(task, options, best):
                yield {**head, "method": name, **row}
            continue
        if name == PREDICT:
            needed = 1.0
            tools: dict[str, Callable[[], Any]] = {"ours": plain(wrapped, image, 1)}
            tools["plain"] = plain(network, image, 1)
        else:
            wanted = methods_of(name, subject.layer)
            needed = sum(method.forward_passes(task) for method in wanted)
            found_others = others(name, network, image, subject.layer)
            tools = {tool: run for tool, run in found_others.items() if tool in options.tools}
            tools = {"ours": ours(task, wanted), **tools}
        # The network is warm already, which is enough for a row of many passes.
        for run in tools.values() if needed < _MANY else ():
            run()
            clean(network)
        figures = take_turns(tools, device, options.repeats, lambda: clean(network))
        own = figures["ours"]
        for tool, found in figures.items():
            row: Row = {
                **head,
                "method": name,
                "tool": tool,
                "seconds": found.median,
                "ratio": found.median / own.median,
                "cpu_seconds": found.cpu_median,
                "cpu_ratio": found.cpu_median / own.cpu_median,
                "passes": found.median / one.median,
                "floor": found.median / (needed * best),
                "peak_mib": max(found.memory) / 2**20,
            }
            if tool != "ours" and (name in _SAME or name == PREDICT):
                row["apart"] = apart(own.result, found.result)
            yield row


def apart(our: Any, theirs: Any) -> float:
    """Largest difference of two tools' maps, as a share of the largest value."""
    mine = our[0] if isinstance(our, list) else our
    other = theirs[0] if isinstance(theirs, list) else theirs
    other = torch.as_tensor(other).reshape(mine.shape).to(mine)
    if bool((mine >= 0).all()):
        other = other.abs()
    return float((mine - other).abs().max() / other.abs().max())


def line(row: Row) -> str:
    """A row of the table."""
    head = f"{row['network']:<20}{row['image']:<8}{row['method']:<28}{row['tool']:<8}"
    figures = "".join(
        f"{row[key]:>{width}.{digits}f}" if key in row else " " * width
        for key, width, digits in (
            ("seconds", 10, 4),
            ("ratio", 8, 2),
            ("cpu_ratio", 8, 2),
            ("passes", 8, 2),
            ("floor", 8, 2),
            ("peak_mib", 8, 0),
        )
    )
    return head + figures + (f"{row['apart']:>9.0e}" if "apart" in row else "")


def main() -> None:
    """Measures and prints."""
    known = subjects()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--subjects", nargs="+", choices=list(known), default=list(known))
    parser.add_argument(
        "--methods",
        nargs="+",
        default=list(USUAL),
        help=f"{PREDICT}, any method's name, or several with commas as one row; known: "
        f"{', '.join(methods())}",
    )
    parser.add_argument("--images", nargs="+", choices=("random", "real"), default=["random"])
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=list(TOOLS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", type=int, help="images per forward pass; else chosen")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--window-batches", type=int, default=8, help="batches of windows of ours")
    parser.add_argument(
        "--most-seconds",
        type=float,
        default=float("inf"),
        help="leave out networks whose forward pass takes longer on two CPU cores",
    )
    common_options(parser)
    options = parser.parse_args()
    set_up(options)
    print(f"{'network':<20}{'image':<8}{'method':<28}{'tool':<8}", end="")
    for column, width in (("seconds", 10), ("x ours", 8), ("CPU", 8), ("passes", 8)):
        print(f"{column:>{width}}", end="")
    print(f"{'floor':>8}{'MiB':>8}{'apart':>9}")
    rows = []
    for name in options.subjects:
        if known[name].seconds > options.most_seconds:
            continue
        for kind in options.images:
            for row in measure(known[name], kind, options):
                rows.append(row)
                print(line(row), flush=True)
    say(options, rows)


if __name__ == "__main__":
    main()
