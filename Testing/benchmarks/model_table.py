"""Which public networks come in, and which methods work on them: a table in ``docs/MODELS.md``.

    python -m Testing.benchmarks.model_table [--names tv:resnet18 …] [--json FILE] [--page FILE]

Each network has random weights and three classes; nothing is downloaded. It comes in as a bundle
that is made of its name and weights and loaded without trust, as a folder of Hugging Face, or,
where its library is on no list, as an object in Python (``se.Model``). Its scores of a noise
image are compared with those of the plain network. Then every method explains one class with few
samples, steps and windows; a method that refuses the network has the error's code in the table.

Time and peak memory are in forward passes of one image: the time of a method over that of a
forward pass, and what the process's memory grew by over what it grew by in a forward pass. They
are of the settings of this table, not of the defaults.

With ``--json FILE`` the rows that are in the file already are not computed again, and each new
one is written at once: a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import gc
import json
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.attribution.network.frozen_network import untouched
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.attribution.registry import methods
from SaliencyExplain.errors import ErrorCode, SaliencyExplainError
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.loading import load_classifier
from SaliencyExplain.models.network_in_memory import Model
from SaliencyExplain.models.wrapping import wrap
from Testing.benchmarks.conditions import common_options, say, set_up
from Testing.public_networks import CLASSES, NAMES, PublicNetwork, public_network

PAGE = Path(__file__).parents[2] / "docs" / "MODELS.md"
#: The table stands between these lines of the page.
BEGIN, END = "<!-- table of networks: begin -->", "<!-- table of networks: end -->"

#: Few samples, steps and regions; windows and regions are shares of the input's edge.
FEW = {"samples": 3, "steps": 3, "pairs": 2, "channels": 4}
SHARES = {"window_mm": 0.25, "stride_mm": 0.25, "size_mm": 0.5}
#: Seconds of forward passes that are averaged, at most.
_PASS_SECONDS = 2.0


@dataclass
class Row:
    """What was found of a network.

    Attributes:
        network: ``library:name``.
        shape: Voxels of the input.
        parameters: How many weights it has.
        way: ``bundle``, ``folder`` or ``Python``; empty: it does not come in.
        difference: Largest difference of its scores from those of the plain network, over their
            largest size; None: it does not come in.
        refused: Why it does not come in, or the error's code of each method that refuses it.
        passes: Time of each method that works, in forward passes.
        memory: Its memory, in forward passes; None where a forward pass needs less than can be
            measured.
    """

    network: str
    shape: tuple[int, ...]
    parameters: int = 0
    way: str = ""
    difference: float | None = None
    refused: dict[str, str] = field(default_factory=dict)
    passes: dict[str, float] = field(default_factory=dict)
    memory: dict[str, float | None] = field(default_factory=dict)


def with_few_samples(kind: type[Method], edge: int) -> Method:
    """A method with few samples, steps, windows and regions on an image of this edge."""
    wanted: dict[str, float] = {**FEW, **{name: edge * share for name, share in SHARES.items()}}
    return kind(
        **{
            one.name: max(wanted[one.name], one.metadata["minimum"])
            for one in dataclasses.fields(kind)
            if one.name in wanted and isinstance(one.default, (int, float))
        }
    )


def come_in(public: PublicNetwork, folder: Path) -> tuple[Classifier, str]:
    """The classifier of a network, and the way by which it came in."""
    channels = ("red", "green", "blue") if public.channels == 3 else ("image",)
    network = public.build()
    if public.save is not None:
        public.save(network, folder / "folder")
        return load_classifier(folder / "folder"), "folder"
    if public.definition is None:
        model = Model(
            network, CLASSES, channels=channels, spatial_dims=len(public.shape), orientation="none",
            activation="softmax",
        )  # fmt: skip
        return model, "Python"
    weights = folder / "weights.pt"
    torch.save(network.state_dict(), weights)
    name, arguments = public.definition
    bundle = wrap(
        name, weights, CLASSES, folder / "bundle", network_args=arguments, channels=channels,
        spatial_dims=len(public.shape), size=public.shape, fit="crop", orientation="none",
        activation="softmax",
    )  # fmt: skip
    return load_classifier(bundle), "bundle"


def noise_image(public: PublicNetwork) -> MetaTensor:
    """A noise image of the network's size, voxels of 1 mm; of Transformers from 0 to 255."""
    generator = torch.Generator().manual_seed(1)
    values = torch.randn((public.channels, *public.shape), generator=generator)
    values = values if public.save is None else (40 * values + 128).clip(0, 255)
    return MetaTensor(values, affine=torch.eye(4))


def peak_memory() -> int:
    """Largest memory of the process since :func:`reset_peak`, bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def reset_peak() -> int:
    """Makes the peak the present memory of the process, and returns it, in bytes."""
    gc.collect()
    # Memory that the allocator keeps would not be taken again.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return peak_memory()


def measured(run: Callable[[], Any]) -> tuple[float, int]:
    """Processor seconds of a call, and what the process's memory grew by, in bytes."""
    before = reset_peak()
    started = time.process_time()
    run()
    return time.process_time() - started, peak_memory() - before


def row(name: str) -> Row:
    """What is found of a network."""
    public = public_network(name)
    found = Row(name, public.shape)
    plain = public.build()
    found.parameters = sum(one.numel() for one in plain.parameters())
    image = noise_image(public)
    with tempfile.TemporaryDirectory() as folder:
        try:
            model, found.way = come_in(public, Path(folder))
            case = prepare(image, model, CLASSES[1])
            with torch.no_grad():
                returned = plain(case.input.as_tensor()[None])
            # MONAI's ViT returns its hidden states as well.
            expected = returned[0] if isinstance(returned, tuple) else returned
        except SaliencyExplainError as error:
            found.refused["model"] = f"{error.code.value}: {error}"
            return found
    scores = torch.tensor(case.prediction.scores)
    found.difference = float((scores - expected[0]).abs().max() / expected.abs().max())
    task = _with_references(case.task(), public)
    one_pass = _forward_pass(task)
    for method_name, kind in methods().items():
        method = with_few_samples(kind, min(public.shape))
        try:
            seconds, grown = measured(lambda method=method: method.attribute(task))  # type: ignore[misc]
        except SaliencyExplainError as error:
            found.refused[method_name] = f"{error.code.value}: {error}"
            continue
        except Exception as error:  # noqa: BLE001 - a fault, which is to be in the table
            found.refused[method_name] = (
                f"{ErrorCode.JOB_FAILED.value}: {type(error).__name__}: {error}"
            )
            continue
        found.passes[method_name] = round(seconds / one_pass[0], 2)
        found.memory[method_name] = round(grown / one_pass[1], 2) if one_pass[1] else None
    return found


def _with_references(task: Task, public: PublicNetwork) -> Task:
    """The task with a background and with two regions that halve the image."""
    regions = torch.ones(public.shape, dtype=torch.int64)
    regions[public.shape[0] // 2 :] = 2
    backgrounds = task.input.detach().cpu().flip(2)
    return dataclasses.replace(
        task, regions=regions, region_names=("upper", "lower"), backgrounds=backgrounds
    )


def _forward_pass(task: Task) -> tuple[float, int]:
    """Median seconds of a forward pass, and its memory in bytes."""
    taken: list[tuple[float, int]] = []
    with untouched(task.network), torch.no_grad():
        while len(taken) < 7 and sum(seconds for seconds, _ in taken) < _PASS_SECONDS:
            taken.append(measured(lambda: task.network(task.input)))
    # The first pass packs weights.
    later = taken[1:] or taken
    return (
        statistics.median(seconds for seconds, _ in later),
        max(memory for _, memory in later),
    )


def table(rows: Sequence[Row]) -> str:
    """The tables of networks and of methods, in Markdown."""
    names = list(methods())
    inside = [one for one in rows if one.way]
    equal = sum(one.difference is not None and one.difference < 1e-5 for one in inside)
    lines = [
        f"{len(rows)} networks, {len(inside)} of them come in, {equal} with the scores of the "
        f"plain network to 1e-5 of the largest. {len(names)} methods.",
        "",
        "The numbers in the last column are those of the reasons below.",
        "",
        "| network | input | weights | comes in as | difference | methods | refused |",
        "|---|---|---|---|---|---|---|",
    ]
    numbers: dict[str, int] = {}
    for one in rows:
        size = " x ".join(map(str, one.shape))
        refused = _refusals(one.refused, numbers) or "-"
        difference = "-" if one.difference is None else f"{one.difference:.0e}"
        lines.append(
            f"| {one.network} | {size} | {one.parameters / 1e6:.1f} M | {one.way or '-'} | "
            f"{difference} | {len(one.passes)} of {len(names)} | {refused} |"
        )
    lines += ["", *(f"{number}. {reason}" for reason, number in numbers.items())]
    lines += [
        "",
        "| method | networks | refused by | time, forward passes | memory, forward passes |",
        "|---|---|---|---|---|",
    ]
    for name in names:
        passes = [one.passes[name] for one in inside if name in one.passes]
        memory = [value for one in inside if (value := one.memory.get(name)) is not None]
        refused_by = sum(name in one.refused for one in inside)
        lines.append(
            f"| {name} | {len(passes)} | {refused_by} | {_spread(passes)} | {_spread(memory)} |"
        )
    return "\n".join(lines) + "\n"


def reason_of(refusal: str) -> str:
    """The first sentence of an error's message, without the names of the network and layer."""
    code, _, message = refusal.partition(": ")
    sentence = message.split(". ")[0].rstrip(".")
    sentence = re.sub(r"^[\w.+-]+( \w+)?: ", "", sentence)
    sentence = re.sub(r" '[^']*'", "", sentence)
    return f"{sentence} ({code})"


def _refusals(refused: Mapping[str, str], numbers: dict[str, int]) -> str:
    """The methods that refuse a network, those with the same reason together.

    Args:
        refused: The errors by method.
        numbers: Numbers of the reasons, to which new ones are added.
    """
    together: dict[int, list[str]] = {}
    for name, refusal in refused.items():
        # A method's own name within the reason would make it another reason.
        reason = re.sub(rf"\b{re.escape(name)}\b", "the method", reason_of(refusal))
        number = numbers.setdefault(reason, len(numbers) + 1)
        together.setdefault(number, []).append(name)
    return "; ".join(f"{', '.join(names)} ({number})" for number, names in together.items())


def _spread(values: Sequence[float]) -> str:
    """Median and range."""
    if not values:
        return "-"
    middle = float(np.median(values))
    return f"{middle:.3g} ({min(values):.3g} to {max(values):.3g})"


def with_table(page: str, text: str) -> str:
    """The page with the text between its two markers.

    Raises:
        ValueError: The page has no such markers.
    """
    before, found, rest = page.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        raise ValueError(f"the page has no lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{text}\n{END}{after}"


def main(words: Sequence[str] | None = None) -> list[Row]:
    """Computes the rows and writes the table into the page.

    Args:
        words: The command line; None: the process's own.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--names", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--page", type=Path, default=PAGE)
    common_options(parser, device=False)
    options = parser.parse_args(words)
    set_up(options)
    known: dict[str, Row] = {}
    if options.json and options.json.exists():
        document = json.loads(options.json.read_text())
        known = {one["network"]: Row(**one) for one in document["rows"]}
    rows: list[Row] = []
    for name in options.names:
        rows.append(known.get(name) or row(name))
        print(f"{name}: {rows[-1].way or '-'}, {len(rows[-1].passes)} methods", flush=True)
        if options.json:
            options.json.write_text(json.dumps({"rows": [asdict(one) for one in rows]}))
    options.page.write_text(with_table(options.page.read_text(), table(rows)), encoding="utf-8")
    say(options, [asdict(one) for one in rows])
    return rows


if __name__ == "__main__":
    main()
