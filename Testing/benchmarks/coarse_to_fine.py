"""How soon occlusion's map on the way agrees with the finished one.

    python -m Testing.benchmarks.coarse_to_fine [--images 2] [--json FILE]

For the shipped classifiers on phantoms that they were not trained on and, where the folder
of real data is (SALIENCY_EXPLAIN_DATA), for two trained classifiers of other people on real
images, all windows are computed in the order of ``Occlusion`` with its default window and
stride. After each stage the map so far is held against the finished one on the network's
grid (every second voxel along each axis where it has more than a million): the rank
correlation (Spearman) over all voxels, and the overlap (Dice) of the tenths of the voxels
with the highest values. Printed is the share of the windows, and of the time with tracing,
priors and guesses, after which they reach 0.95 and 0.90 and stay there, and what they are
after 40 % of the windows (between stages on a straight line).

Beside it, from the same values: without the gradient's hint, and in the order of the rows
with the rest at zero, which is what a map has that is stopped on the way.

``cost`` is the time of all stages over that of the windows in one go, both in CPU seconds:
the hint, the guesses, and batches whose boxes are less alike.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from scipy.stats import rankdata

from SaliencyExplain.attribution.methods.occlusion import Occlusion
from SaliencyExplain.attribution.network.frozen_network import plain, untouched
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.attribution.perturbation.coarse_to_fine import CoarseToFine
from SaliencyExplain.attribution.perturbation.gradient_prior import gradient_priors
from SaliencyExplain.attribution.perturbation.infill import infill_of
from SaliencyExplain.attribution.perturbation.occlusion_scorer import OcclusionScorer
from SaliencyExplain.attribution.separable import along_axes
from SaliencyExplain.demo.phantoms import draw_phantom
from SaliencyExplain.demo.tumours import CLASSES
from SaliencyExplain.geometry import spacing_of
from SaliencyExplain.images.reading import read_image
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.loading import load_classifier
from Testing.benchmarks.conditions import common_options, say, set_up
from Testing.real_classifiers import MRI, wrap_alzheimer, wrap_tiny_vgg, write_networks

PROJECT = Path(__file__).resolve().parents[2]
RANKS, OVERLAP, TOP = 0.95, 0.9, 0.1
GOAL = 0.4
BATCH = 8

Values = NDArray[np.float64]
Case = tuple[str, Classifier, MetaTensor]


class Agreement:
    """Holds maps against the finished one."""

    def __init__(self, finished: Values) -> None:
        self.ranks = rankdata(finished)
        self.top = self._top(finished)

    def _top(self, values: Values) -> NDArray[np.bool_]:
        chosen = np.zeros(values.size, bool)
        chosen[np.argsort(-values, axis=None, kind="stable")[: round(TOP * values.size)]] = True
        return chosen

    def __call__(self, values: Values) -> tuple[float, float]:
        ranks = rankdata(values)
        spearman = np.corrcoef(ranks, self.ranks)[0, 1] if np.ptp(ranks) else 0.0
        return float(spearman), float((self._top(values) & self.top).sum() / self.top.sum())


def reached(shares: Sequence[float], values: Sequence[float], wanted: float) -> float:
    """The first of the shares from which on the values stay at what is wanted; 1 at worst."""
    share = 1.0
    for at, value in zip(reversed(shares), reversed(values), strict=True):
        if value < wanted:
            break
        share = at
    return share


def measure(name: str, classifier: Classifier, image: MetaTensor) -> dict[str, object]:
    """One image's row of the table."""
    prepared = classifier.prepare(image)
    network = classifier.network
    probabilities = network.probabilities(classifier.scores(prepared).double()[None])[0]
    target, values = int(probabilities.argmax()), plain(prepared.as_tensor())[None]
    windows = Occlusion().windows(
        tuple(values.shape[2:]), spacing_of(prepared.affine, prepared.ndim - 1)
    )
    between = windows.interpolation(tuple(values.shape[2:]))
    spacing = spacing_of(prepared.affine, prepared.ndim - 1)
    task = Task(network, values, target, spacing)
    fill = infill_of(values, "mean", spacing)
    grid = [len(first) for first in windows.starts]
    every = np.arange(np.prod(grid))

    # Every second voxel of a large map is enough to hold it against another.
    thinning = 2 if values[0, 0].numel() > 1_000_000 else 1
    kept = [matrix[::thinning] for matrix in between]

    def to_map(drops: Values) -> Values:
        return along_axes(torch.from_numpy(drops.reshape(grid)), kept).numpy().ravel()

    def watched(scores: torch.Tensor) -> Values:
        return network.probabilities(scores)[:, target].double().numpy()

    def batches(order: NDArray[np.int64]) -> Values:
        parts = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
        return original - np.concatenate([watched(covered.scores(part)) for part in parts])

    with untouched(network):
        started, busy = time.perf_counter(), time.process_time()
        covered = OcclusionScorer(task, windows, fill, every)
        original = float(watched(covered.original())[0])
        opening = time.process_time() - busy
        guides = gradient_priors(
            task,
            fill,
            windows,
            [None],
            probability=True,
            forward_passes=covered.share * len(every),
        )[0]
        drops = CoarseToFine(windows.starts, every, guides)
        shares, seconds, guesses = [], [], []
        for stage in drops.stages():
            order = covered.arranged(stage)
            drops.tell(order, batches(order))
            guesses.append(drops.guess())
            shares.append(drops.share)
            seconds.append(time.perf_counter() - started)
        staged = time.process_time() - busy
        busy = time.process_time()
        batches(covered.arranged(every))
        in_one_go = time.process_time() - busy + opening
    agreement = Agreement(to_map(drops.values))
    found = [agreement(to_map(guess)) for guess in guesses]
    spearman, dice = zip(*found, strict=True)
    times = [at / seconds[-1] for at in seconds]
    row: dict[str, object] = {
        "case": name,
        "probability": float(probabilities[target]),
        "windows": len(every),
        "spearman_windows": reached(shares, spearman, RANKS),
        "spearman_time": reached(times, spearman, RANKS),
        "dice_windows": reached(shares, dice, OVERLAP),
        "dice_time": reached(times, dice, OVERLAP),
        "spearman_at_goal": float(np.interp(GOAL, shares, spearman)),
        "dice_at_goal": float(np.interp(GOAL, shares, dice)),
        "hinted": bool(guides),
        "first_share": shares[0],
        "first_spearman": spearman[0],
        "cost": staged / in_one_go,
        "curve": [list(values) for values in zip(shares, times, spearman, dice, strict=True)],
    }
    for kind, stages in (
        ("no_hint", replay(CoarseToFine(windows.starts, every), drops.values)),
        ("rows", rows(drops.values)),
    ):
        there, held = zip(*((at, agreement(to_map(guess))) for at, guess in stages), strict=True)
        row[f"spearman_{kind}"] = reached(there, [value for value, _ in held], RANKS)
        row[f"dice_{kind}"] = reached(there, [value for _, value in held], OVERLAP)
    return row


def replay(order: CoarseToFine, drops: Values) -> Iterator[tuple[float, Values]]:
    """Another order or guess on known values."""
    for stage in order.stages():
        order.tell(stage, drops.flat[stage])
        yield order.share, order.guess()


def rows(drops: Values) -> Iterator[tuple[float, Values]]:
    """The windows one after another, the last axis running fastest."""
    for share in np.linspace(0.05, 1, 20):
        known = np.zeros(drops.size)
        count = round(share * drops.size)
        known[:count] = drops.flat[:count]
        yield float(share), known.reshape(drops.shape)


def phantoms(images: int) -> Iterator[Case]:
    """The shipped classifiers on phantoms of seeds that no training uses."""
    for kind, dimensions, marker in (
        ("phantom-3d-honest", 3, False),
        ("phantom-3d-shortcut", 3, True),
        ("phantom-2d-honest", 2, False),
    ):
        classifier = load_classifier(PROJECT / "Resources" / "Classifiers" / kind)
        for index in range(images):
            label = CLASSES[1 + index % (len(CLASSES) - 1)]
            phantom = draw_phantom(label, 10_000_100 + index, dimensions=dimensions, marker=marker)
            yield f"{kind} {label}", classifier, phantom.image


def real(images: int, folder: Path) -> Iterator[Case]:
    """Trained classifiers of other people."""
    data = Path(os.environ.get("SALIENCY_EXPLAIN_DATA", PROJECT.parent / "shared" / "data"))
    if not data.is_dir():
        print(f"({data} is not here: no real classifiers)")
        return
    networks = write_networks(folder)
    classifier = load_classifier(wrap_tiny_vgg(data, networks, folder), trust=True)
    for file in sorted((data / "cxr-nih-boxes").glob("*.png"))[:images]:
        yield f"TinyVGG X-ray {file.stem}", classifier, read_image(file, colour=True)
    classifier = load_classifier(wrap_alzheimer(data, networks, folder), trust=True)
    yield "Alzheimer CNN, MRI 182x218x182", classifier, read_image(data / MRI)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=2, help="images for each classifier")
    common_options(parser, device=False)
    options = parser.parse_args()
    set_up(options)
    head = ("windows", "first", "ρ .95 at", "time", "Dice .9", "time", "ρ at .4", "Dice", "cost")
    others = ("no hint: ρ", "Dice", "rows: ρ", "Dice")
    print(f"{'case':<42}" + "".join(f"{word:>9}" for word in head), end="")
    print("".join(f"{word:>12}" for word in others))
    found = []
    with tempfile.TemporaryDirectory() as folder:
        sources: list[Callable[[], Iterator[Case]]] = [
            lambda: phantoms(options.images),
            lambda: real(options.images, Path(folder)),
        ]
        for source in sources:
            for case in source():
                row = measure(*case)
                found.append(row)
                shares = ("first_share", "spearman_windows", "spearman_time")
                shares += ("dice_windows", "dice_time", "spearman_at_goal", "dice_at_goal", "cost")
                also = ("spearman_no_hint", "dice_no_hint", "spearman_rows", "dice_rows")
                print(f"{row['case']:<42}{row['windows']:>9}", end="")
                print("".join(f"{row[key]:>9.3f}" for key in shares), end="")
                print("".join(f"{row[key]:>12.3f}" for key in also), flush=True)
    for key in ("spearman_windows", "spearman_time", "dice_windows", "dice_time"):
        values = [float(row[key]) for row in found]
        print(f"{key}: mean share {np.mean(values):.3f}, that is {1 / np.mean(values):.1f}x less")
    say(options, found)


if __name__ == "__main__":
    main()
