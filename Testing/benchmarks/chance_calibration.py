"""How often "Does it beat chance?" is wrong: maps that know nothing, and the true mask.

    python -m Testing.benchmarks.chance_calibration [--phantoms 100] [--json FILE]
    python -m Testing.benchmarks.chance_calibration --tables FILE... [--markdown FILE]

A run that was stopped goes on where its JSON file ends; several runs with other first seeds can
measure at the same time, and one table is made of their files.

Phantoms of the three tumour classes that no classifier was trained on, and that the thresholds
were not chosen on, are put to the shipped honest classifier, the target the predicted class. The
body mask is that of the evaluator. Each map is held against 20 null maps of its own and the control
maps. Rows of answers with Wilson's 95 % intervals (Wilson 1927):

- maps of methods, and the same method on the network with its weights in random order;
- the mask of the tumour: of all phantoms, and of those whose tumour is what the classifier uses:
  replaced by the baseline it takes half of the probability or more, put into the baseline alone
  it gives half of what is missing or more. A tumour that the classifier does not use is no truth;
- maps that know nothing of the classifier.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.attribution.methods.cam import GradCAM, GradCAMPlusPlus
from SaliencyExplain.attribution.methods.control_maps import centre_map, random_map
from SaliencyExplain.attribution.methods.gradient import Gradient
from SaliencyExplain.attribution.methods.occlusion import Occlusion
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.demo.phantoms import draw_phantom
from SaliencyExplain.demo.study import STUDY_SEEDS, classifier_folder
from SaliencyExplain.demo.tumours import CLASSES
from SaliencyExplain.evaluation.image.answers import (
    CHANCE_METRICS,
    NO,
    PARTLY,
    UNKNOWN,
    YES,
    beats_chance,
)
from SaliencyExplain.evaluation.image.evaluation_passes import Work, probabilities_of_images
from SaliencyExplain.evaluation.image.null_distribution import FaithfulnessEvaluator
from SaliencyExplain.evaluation.image.randomisation import randomised, stages_of
from SaliencyExplain.explanation.compute import Compute
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.images.body import body_mask
from SaliencyExplain.images.grid_masks import label_map_on
from SaliencyExplain.images.image_writing import atomic_file
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.loading import load_classifier

#: Seeds that no test, no study and no choice of a threshold has used.
FIRST_SEED = STUDY_SEEDS + 96_000_000
NULL_MAPS, FIRST_NULL_MAPS = 20, 4
ANSWERS = (YES, PARTLY, UNKNOWN, NO)
USED = "the tumour's mask, where the classifier uses the tumour"

Values = NDArray[np.floating]


def main(words: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Measures, or makes the table of what was measured; returns the rows of answers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dimensions", type=int, default=2, choices=(2, 3))
    parser.add_argument("--phantoms", type=int, default=100)
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--tables", type=Path, nargs="+")
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    if options.tables:
        for file in options.tables:
            rows += json.loads(file.read_text())
    else:
        if options.json and options.json.exists():
            rows = json.loads(options.json.read_text())
        done = {row["seed"] for row in rows}
        classifier = load_classifier(classifier_folder(f"phantom-{options.dimensions}d-honest"))
        for seed in range(options.first_seed, options.first_seed + options.phantoms):
            if seed in done:
                continue
            rows += _of_phantom(classifier, seed, options.dimensions)
            if options.json:
                with atomic_file(options.json) as temporary:
                    temporary.write_text(json.dumps(rows))
    text = table(rows)
    print(text)
    if options.markdown:
        options.markdown.write_text(text)
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The answers by map in Markdown, and with which probability each is given."""
    lines = [
        "| map | phantoms | yes | partly | not known | no | yes, % | yes or partly, % | no, % |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row["map"] for row in rows):
        own = [row["answer"] for row in rows if row["map"] == name]
        counts = [own.count(answer) for answer in ANSWERS]
        shares = [_share(k, len(own)) for k in (counts[0], counts[0] + counts[1], counts[3])]
        lines.append(f"| {name} | {len(own)} | " + " | ".join([*map(str, counts), *shares]) + " |")
    return "\n".join(lines) + "\n"


def wilson(count: int, of: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (Wilson 1927)."""
    z = 1.959964
    middle = (count + z * z / 2) / (of + z * z)
    half = z / (of + z * z) * math.sqrt(count * (of - count) / of + z * z / 4)
    return max(0.0, middle - half), min(1.0, middle + half)


def _share(count: int, of: int) -> str:
    low, high = wilson(count, of)
    return f"{100 * count / of:.0f} ({100 * low:.0f} to {100 * high:.0f})"


def _of_phantom(classifier: Classifier, seed: int, dimensions: int) -> Iterator[dict[str, Any]]:
    phantom = draw_phantom(CLASSES[1 + seed % 3], seed, dimensions=dimensions)
    case = prepare(phantom.image, classifier, "predicted", Compute("cpu"))
    task = case.task(seed)

    def on_grid(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        affines = (phantom.image.affine, case.input.affine)
        frames = [affine.numpy().astype(np.float64) for affine in affines]
        return label_map_on([mask], *frames, tuple(case.input.shape[1:])) > 0

    found = body_mask(phantom.image)
    body = None if found is None else on_grid(found)
    tumour = on_grid(phantom.masks["tumour"])
    evaluator = FaithfulnessEvaluator(
        task, body, Work(math.inf), random_maps=NULL_MAPS, seed=task.seed, information=False
    )
    maps = _maps(task, np.ones_like(tumour) if body is None else body, seed)
    for name, make in {"the tumour's mask": lambda: tumour, **maps}.items():
        values = np.asarray(make(), dtype=np.float32)
        if not np.isfinite(values).all() or values.min() == values.max():
            continue
        answer = _answer(evaluator, values)
        yield {"map": name, "seed": seed, "label": phantom.label, "answer": answer}
        if name == "the tumour's mask" and _uses(task, evaluator, tumour):
            yield {"map": USED, "seed": seed, "label": phantom.label, "answer": answer}


def _answer(evaluator: FaithfulnessEvaluator, values: Values) -> str:
    """The answer with all null maps; with the first ones where these settle that it is no."""
    evaluator.random_maps = FIRST_NULL_MAPS
    found = evaluator.of(values)
    metrics = [found.metric(name) for name in CHANCE_METRICS]
    if sum(metric.p_value > 1.5 / (1 + FIRST_NULL_MAPS) for metric in metrics) >= 2:
        return NO
    evaluator.random_maps = NULL_MAPS
    return beats_chance(evaluator.of(values), "", "it").answer


def _uses(task: Task, evaluator: FaithfulnessEvaluator, tumour: NDArray[np.bool_]) -> bool:
    """Whether the tumour is needed for half of the probability, and alone gives half of it."""
    image, empty, inside = task.input[0], evaluator.baseline.values, torch.from_numpy(tumour)
    images = [torch.where(inside, empty, image), torch.where(inside, image, empty)]
    without, alone = probabilities_of_images(task, 2, lambda n: images[n])[:, task.target]
    whole = float(evaluator.baseline.original[task.target])
    bare = float(evaluator.baseline.probabilities[task.target])
    return bool(without <= whole / 2 and alone >= (whole + bare) / 2)


def _maps(task: Task, body: NDArray[np.bool_], seed: int) -> dict[str, Callable[[], Values]]:
    image = task.input[0, 0].numpy().astype(np.float64)
    random = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(*map(np.arange, image.shape), indexing="ij"), axis=-1)
    anywhere = places[body][random.integers(np.count_nonzero(body))]

    def of(method: Method, changed: Task = task) -> Values:
        return next(iter(method.attribute(changed).values())).detach().float().numpy()

    def at_random(method: Method) -> Values:
        network = randomised(task.network, stages_of(task.network, 6), seed)
        return of(method, dataclasses.replace(task, network=network))

    def gaussian(centre: Values, voxels: float) -> Values:
        return np.exp(-((places - centre) ** 2).sum(axis=-1) / 2 / voxels**2)

    def blobs(mm: float) -> Values:
        return random_map(image.shape, task.spacing, seed=seed, correlation_mm=mm)

    return {
        "gradcam": lambda: of(GradCAM()),
        "gradcam++": lambda: of(GradCAMPlusPlus()),
        "gradient": lambda: of(Gradient()),
        "occlusion": lambda: of(Occlusion(stride_mm=10.0)),
        "gradcam++, inverted": lambda: -of(GradCAMPlusPlus()),
        "gradcam++ of random weights": lambda: at_random(GradCAMPlusPlus()),
        "gradient of random weights": lambda: at_random(Gradient()),
        "edges, 1 voxel": lambda: ndimage.gaussian_gradient_magnitude(image, 1.0),
        "edges, Sobel": lambda: ndimage.generic_gradient_magnitude(image, ndimage.sobel),
        "the image": lambda: image,
        "the image, blurred by 3 voxels": lambda: ndimage.gaussian_filter(image, 3.0),
        "the body": lambda: ndimage.gaussian_filter(body.astype(np.float64), 1.0),
        "the centre of the image": lambda: centre_map(image.shape, task.spacing),
        "a Gaussian in the body's middle": lambda: gaussian(places[body].mean(axis=0), 15.0),
        "a Gaussian anywhere in the body": lambda: gaussian(anywhere, 8.0),
        "blobs of 5 mm": lambda: blobs(5.0),
        "blobs of 25 mm": lambda: blobs(25.0),
        "blobs of 50 mm": lambda: blobs(50.0),
    }


if __name__ == "__main__":
    main()
