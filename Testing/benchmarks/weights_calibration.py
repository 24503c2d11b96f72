"""How alike maps of networks are that have nothing in common but their architecture.

    python -m Testing.benchmarks.weights_calibration [--phantoms 50] [--markdown FILE]

"Does it depend on the weights?" says no where a map is as alike to that of a network with random
weights as ``answers.UNCHANGED``, and partly from ``answers.ALIKE`` on. Here the map of a
network *known to be random* takes the place of the trained one: it has nothing in common with the
maps of other random networks but architecture and image, so that each "no" and each "partly" is
a false one.
Beside it stand the trained network's map, and control maps that ask no network. Rank correlation
within the body, median over three draws of all weights, as in the evaluation.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.attribution.methods.cam import GradCAM, GradCAMPlusPlus
from SaliencyExplain.attribution.methods.control_maps import CentreMap
from SaliencyExplain.attribution.methods.gradient import Gradient, SmoothGrad
from SaliencyExplain.attribution.methods.guided_backpropagation import GuidedBackpropagation
from SaliencyExplain.attribution.methods.occlusion import Occlusion
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.demo.phantoms import draw_phantom
from SaliencyExplain.demo.study import STUDY_SEEDS, classifier_folder
from SaliencyExplain.demo.tumours import CLASSES
from SaliencyExplain.evaluation.image.answers import ALIKE, UNCHANGED
from SaliencyExplain.evaluation.image.randomisation import randomised, stages_of
from SaliencyExplain.evaluation.image.similarity import similarity
from SaliencyExplain.explanation.compute import Compute
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.images.body import body_mask
from SaliencyExplain.images.grid_masks import label_map_on
from SaliencyExplain.models.loading import load_classifier

FIRST_SEED = STUDY_SEEDS + 94_000_000
DRAWS = 3
METHODS: tuple[Method, ...] = (
    GradCAM(),
    GradCAMPlusPlus(),
    Gradient(),
    SmoothGrad(samples=8),
    Occlusion(stride_mm=20.0),
    GuidedBackpropagation(),
    CentreMap(),
)

Alike = dict[tuple[str, str], list[float]]


def main(words: Sequence[str] | None = None) -> Alike:
    """Measures and prints the table; returns the similarity by method and kind of network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dimensions", type=int, default=2, choices=(2, 3))
    parser.add_argument("--phantoms", type=int, default=50)
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    classifier = load_classifier(classifier_folder(f"phantom-{options.dimensions}d-honest"))
    found: Alike = {}
    for seed in range(options.first_seed, options.first_seed + options.phantoms):
        phantom = draw_phantom(CLASSES[1 + seed % 3], seed, dimensions=options.dimensions)
        case = prepare(phantom.image, classifier, "predicted", Compute("cpu"))
        body = body_mask(phantom.image)
        if body is None:
            continue
        frames = [
            affine.numpy().astype(np.float64)
            for affine in (phantom.image.affine, case.input.affine)
        ]
        inside = label_map_on([body], *frames, tuple(case.input.shape[1:])) > 0
        _add(found, case.task(seed), inside, seed)
    text = table(found)
    print(text)
    if options.markdown:
        options.markdown.write_text(text)
    return found


def table(found: Alike) -> str:
    """The distribution of the similarity in Markdown."""
    lines = [
        "| method | original network | images | median | 95th percentile | "
        f"partly (from {ALIKE:g}) | no (from {UNCHANGED:g}) |",
        "|---|---|---|---|---|---|---|",
    ]
    for (method, kind), values in found.items():
        alike = np.array(values)
        no = int((alike >= UNCHANGED).sum())
        partly = int((alike >= ALIKE).sum()) - no
        lines.append(
            f"| {method} | {kind} | {alike.size} | {np.median(alike):.2f} | "
            f"{np.percentile(alike, 95):.2f} | {partly} | {no} |"
        )
    return "\n".join(lines) + "\n"


def _add(found: Alike, task: Task, body: NDArray[np.bool_], seed: int) -> None:
    stages = stages_of(task.network, 6)
    networks = [randomised(task.network, stages, seed + draw) for draw in range(DRAWS + 1)]
    changed = [dataclasses.replace(task, network=network) for network in networks]
    for method in METHODS:
        *others, known_random = [_map(method, one) for one in changed]
        for kind, original in (("trained", _map(method, task)), ("random", known_random)):
            alike = [similarity(original, other, body).alike for other in others]
            value = float(np.median(np.nan_to_num(alike, nan=0.0)))
            found.setdefault((method.name, kind), []).append(value)


def _map(method: Method, task: Task) -> NDArray[np.float32]:
    values = next(iter(method.attribute(task).values())).detach().float().cpu().numpy()
    return np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)


if __name__ == "__main__":
    main()
