"""What an engine costs beside the library itself: explaining, volumes there and back, clicks.

    python -m Testing.benchmarks.engine_overhead [--repeats 5] [--json FILE]

The library called directly, the engine in this process and the engine behind a real server
on loopback take turns with the shipped 3D classifier. Explaining is occlusion of a phantom on
96 voxels a side, followed as a panel does it: waiting for news and fetching each partial map.
A click is three radii at the tumour, the classifier warm. Volumes are 240 x 240 x 155 float32: a
real MR image (of the folder that SALIENCY_EXPLAIN_DATA names, else a phantom enlarged) and pure
noise, the worst case. Each figure is the median over the repeats, the ratio the median of the
ratios of neighbours. Where others work on the machine, the processor time is what counts: of this
process and the server together.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import psutil
from monai.data import MetaTensor
from scipy import ndimage

from SaliencyExplain.attribution.method_selection import select_methods
from SaliencyExplain.demo.phantoms import draw_phantom
from SaliencyExplain.demo.study import STUDY_SEEDS, classifier_folder
from SaliencyExplain.demo.tumours import GLIOMA
from SaliencyExplain.engine.client.engine_process import EngineProcess
from SaliencyExplain.engine.interface import ENDED, Engine
from SaliencyExplain.engine.queue.local_engine import LocalEngine
from SaliencyExplain.engine.queue.volume_images import image_of
from SaliencyExplain.engine.wire.request_base import Result
from SaliencyExplain.engine.wire.requests import ExplainRequest, ProbeRequest
from SaliencyExplain.engine.wire.volume_format import encode
from SaliencyExplain.explanation.compute import Compute
from SaliencyExplain.explanation.explain import explain
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.explanation.probing import Prober
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.loading import load_classifier
from SaliencyExplain.specification.spec import ExplainSpec, MethodChoice
from SaliencyExplain.voxel_volume import Volume
from Testing.benchmarks.conditions import common_options, say, set_up

RADII = (5.0, 10.0, 20.0)
LARGE = (240, 240, 155)
RATIOS = ("ratio", "cpu_ratio")
PROJECT = Path(__file__).resolve().parents[2]


def enlarged(image: MetaTensor, shape: tuple[int, ...]) -> Volume:
    """A phantom on another number of voxels, the same size in mm."""
    values = image.numpy()[0]
    factors = [new / old for new, old in zip(shape, values.shape, strict=True)]
    affine = image.affine.numpy().astype(np.float64) @ np.diag([1 / f for f in factors] + [1.0])
    grown = np.rint(ndimage.zoom(values, factors, order=1)).astype(np.float32)
    return Volume(np.ascontiguousarray(grown[None]), affine)


def real_image() -> tuple[str, Volume]:
    folder = Path(os.environ.get("SALIENCY_EXPLAIN_DATA", PROJECT.parent / "shared" / "data"))
    for path in sorted(folder.glob("brain-glioma-*/*t1c*.nii.gz")):
        image = nibabel.load(path)
        values = np.ascontiguousarray(np.asarray(image.dataobj), dtype=np.float32)
        if values.shape == LARGE:
            return "real MR image", Volume(values[None], np.asarray(image.affine))
    phantom = draw_phantom(GLIOMA, STUDY_SEEDS)
    return "phantom, enlarged", enlarged(phantom.image, LARGE)


class Clock:
    """Seconds that pass, and processor seconds of this process and the server together."""

    def __init__(self, server: int) -> None:
        self._server = psutil.Process(server)

    def _busy(self) -> float:
        server = self._server.cpu_times()
        return time.process_time() + server.user + server.system

    def timed(self, run: Callable[[], object]) -> tuple[float, float]:
        start, busy = time.perf_counter(), self._busy()
        run()
        return time.perf_counter() - start, self._busy() - busy


def follow(engine: Engine, request: ExplainRequest | ProbeRequest) -> Result:
    """A job followed as a panel follows it."""
    job = engine.start(request)
    status = engine.status(job, seen=0, wait=10)
    shown = 0
    while status.state not in ENDED:
        if status.partial > shown:
            shown = status.partial
            engine.partial(job)
        status = engine.status(job, seen=status.version, wait=10)
    return engine.result(job)


def take_turns(
    clock: Clock, ways: dict[str, Callable[[], object]], repeats: int, what: str
) -> list[dict[str, Any]]:
    """Median seconds of each way, and their ratios to the first way's."""
    for way in ways.values():
        way()
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            taken[name].append(clock.timed(way))
    first = next(iter(taken.values()))
    return [
        {
            "what": what,
            "way": name,
            "seconds": statistics.median(seconds for seconds, _ in runs),
            "ratio": statistics.median(a[0] / b[0] for a, b in zip(runs, first, strict=True)),
            # The system counts a process' time in steps of 10 ms: sums, not single runs.
            "cpu_seconds": sum(busy for _, busy in runs) / repeats,
            "cpu_ratio": sum(busy for _, busy in runs) / sum(busy for _, busy in first),
        }
        for name, runs in taken.items()
    ]


def explaining(
    clock: Clock,
    engines: dict[str, Engine],
    classifier: Classifier,
    image: Volume,
    repeats: int,
) -> list[dict[str, Any]]:
    methods = select_methods(["occlusion"])
    ways: dict[str, Callable[[], object]] = {
        "library": lambda: explain(
            prepare(image_of(image), classifier, compute=Compute("cpu")), methods
        )
    }
    for name, engine in engines.items():
        key = engine.open_classifier(str(classifier.source)).key
        request = ExplainRequest(key, engine.put(image), ExplainSpec((MethodChoice("occlusion"),)))
        ways[name] = lambda engine=engine, request=request: follow(engine, request)
    return take_turns(clock, ways, repeats, "explain (occlusion, 96³)")


def clicking(
    clock: Clock,
    engines: dict[str, Engine],
    classifier: Classifier,
    image: Volume,
    point: tuple[float, float, float],
    repeats: int,
) -> list[dict[str, Any]]:
    prepared = classifier.prepare(image_of(image))
    prober = Prober(prepare(image_of(image), classifier, compute=Compute("cpu")))
    ways: dict[str, Callable[[], object]] = {
        "library": lambda: prober.at(point, RADII),
        "(one forward pass)": lambda: classifier.scores(prepared),
    }
    for name, engine in engines.items():
        key = engine.open_classifier(str(classifier.source)).key
        request = ProbeRequest(key, engine.put(image), point, RADII, stream="benchmark")
        ways[name] = lambda engine=engine, request=request: follow(engine, request)
    return take_turns(clock, ways, 10 * repeats, "click (three radii)")


def sending(clock: Clock, engines: dict[str, Engine], repeats: int) -> list[dict[str, Any]]:
    name, real = real_image()
    random = np.random.default_rng(0)
    rows = []
    for what, values in (
        (name, real.values),
        ("noise", random.standard_normal((1, *LARGE), dtype=np.float32)),
    ):
        size = len(encode(Volume(values, real.affine)))
        for way, engine in engines.items():
            runs = []
            for number in range(repeats + 1):
                # Another place each time, lest the engine know it; an affine costs nothing.
                affine = real.affine.copy()
                affine[0, 3] += number
                volume = Volume(values, affine)
                put = clock.timed(lambda engine=engine, volume=volume: engine.put(volume))
                get = clock.timed(lambda engine=engine, volume=volume: engine.get(volume.hash))
                runs.append((*put, *get))
            rows.append(
                {
                    "what": f"240x240x155, {what}",
                    "way": way,
                    "seconds": statistics.median(run[0] + run[2] for run in runs[1:]),
                    "cpu_seconds": sum(run[1] + run[3] for run in runs[1:]) / repeats,
                    "there": statistics.median(run[0] for run in runs[1:]),
                    "back": statistics.median(run[2] for run in runs[1:]),
                    "share_of_bytes": size / values.nbytes,
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    common_options(parser, device=False)
    options = parser.parse_args()
    set_up(options)
    classifier = load_classifier(classifier_folder("phantom-3d-honest"))
    phantom = draw_phantom(GLIOMA, STUDY_SEEDS)
    image = enlarged(phantom.image, (96, 96, 96))
    centre = np.argwhere(phantom.masks["tumour"]).mean(axis=0)
    at = (phantom.image.affine.numpy() @ [*centre, 1.0])[:3]
    point = (float(at[0]), float(at[1]), float(at[2]))
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    local = LocalEngine("cpu")
    process = EngineProcess.start(
        [sys.executable, "-m", "SaliencyExplain.cli.main"], environment=environment
    )
    engines: dict[str, Engine] = {"engine here": local, "engine by http": process.client}
    try:
        clock = Clock(process.pid)
        rows = explaining(clock, engines, classifier, image, options.repeats)
        rows += clicking(clock, engines, classifier, image, point, options.repeats)
        rows += sending(clock, engines, options.repeats)
    finally:
        process.stop()
        local.close()
    print(f"{'what':<28}{'way':<20}{'s':>9}{'x library':>11}{'CPU s':>9}{'x library':>11}")
    for row in rows:
        ratio, cpu_ratio = (f"{row[key]:.3f}" if key in row else "" for key in RATIOS)
        line = f"{row['what']:<28}{row['way']:<20}{row['seconds']:>9.4f}{ratio:>11}"
        line += f"{row['cpu_seconds']:>9.4f}{cpu_ratio:>11}"
        if "there" in row:
            line += f"  there {row['there']:.3f}, back {row['back']:.3f}"
            line += f", {row['share_of_bytes']:.0%} of the bytes"
        print(line)
    say(options, rows)


if __name__ == "__main__":
    main()
