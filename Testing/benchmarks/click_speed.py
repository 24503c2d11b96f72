"""A click (three radii, all classes) beside one plain forward pass of the same network.

    python -m Testing.benchmarks.click_speed [--networks ...] [--places 20] [--json FILE]

The place is another one each time, drawn at random in the image, and a plain forward pass of
the one unchanged image runs after each click, so that both see the same load of the machine;
figures are medians. ``first`` is the building of the warm state, which a new image or
classifier costs once; ``kept`` the memory of its maps; ``grown`` what the process has grown
by over all further clicks. ``apart`` is the largest difference of a probability to that of
plain forward passes of the changed images. Where others work on the machine, the ratio of CPU
times is what counts, and OMP_WAIT_POLICY=PASSIVE keeps waiting threads out of it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import torch
from monai.data import MetaTensor
from monai.networks.nets import DenseNet121, resnet18, resnet50
from monai.transforms import Compose
from torch import nn

from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.demo.phantoms import draw_phantom
from SaliencyExplain.demo.study import STUDY_SEEDS, classifier_folder
from SaliencyExplain.explanation.compute import Compute
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.explanation.probing import Prober
from SaliencyExplain.images.grid_masks import ball
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.loading import load_classifier
from Testing.benchmarks.conditions import common_options, say, set_up

NETWORKS: dict[str, tuple[int, int, Callable[[], nn.Module]]] = {
    "DenseNet121 3D 96": (3, 96, lambda: DenseNet121(3, 1, 3)),
    "ResNet18 3D 96": (3, 96, lambda: resnet18(spatial_dims=3, n_input_channels=1)),
    "ResNet50 3D 96": (3, 96, lambda: resnet50(spatial_dims=3, n_input_channels=1)),
    "DenseNet121 2D 224": (2, 224, lambda: DenseNet121(2, 1, 3)),
    "ResNet50 2D 224": (2, 224, lambda: resnet50(spatial_dims=2, n_input_channels=1)),
}
SHIPPED = ("phantom-3d-honest", "phantom-3d-shortcut", "phantom-2d-honest")


def job(name: str) -> tuple[Classifier, MetaTensor]:
    """A classifier and an image: random ones with voxels of 1 mm, or a phantom."""
    if name in SHIPPED:
        classifier = load_classifier(classifier_folder(name))
        phantom = draw_phantom("glioma-like", STUDY_SEEDS, dimensions=classifier.spatial_dims)
        return classifier, phantom.image
    axes, size, build = NETWORKS[name]
    torch.manual_seed(0)
    network = ScoreNetwork(build()).eval().requires_grad_(False)
    image = MetaTensor(torch.randn(1, *(size,) * axes), affine=torch.eye(4, dtype=torch.float64))
    classes = tuple(
        f"class {number}" for number in range(network(image[None].as_tensor()).shape[1])
    )
    identity = Compose([])
    return Classifier(name, classes, ("image",), axes, network, identity, "0" * 64, Path()), image


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds and CPU seconds."""
    start, busy = time.perf_counter(), time.process_time()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start, time.process_time() - busy


def apart(prober: Prober, place: np.ndarray, radii: list[float], classifier: Classifier,
          prepared: MetaTensor) -> float:  # fmt: skip
    """Largest difference of a probability to plain forward passes."""
    values = prepared.as_tensor()
    affine = prepared.affine.numpy()
    centre = (np.linalg.inv(affine) @ [*place, 1.0])[: values.ndim - 1]
    found = prober.at(place, radii).removals
    worst = 0.0
    for removal, radius in zip(found, radii, strict=True):
        first, inside = ball(centre, radius, affine, values.shape[1:])
        changed = values.clone()
        box = tuple(slice(n, n + m) for n, m in zip(first, inside.shape, strict=True))
        for channel in changed:
            channel[box][torch.from_numpy(inside)] = channel.mean()
        with torch.no_grad():
            scores = classifier.network(changed[None].to(classifier.device)).double()
        expected = classifier.network.probabilities(scores)[0].cpu().numpy()
        worst = max(worst, float(np.abs(expected - removal.probabilities).max()))
    return worst


def measure(name: str, options: argparse.Namespace) -> dict[str, object]:
    """The row of one network."""
    classifier, image = job(name)
    start = time.perf_counter()
    prober = Prober(prepare(image, classifier, compute=Compute(options.device)))
    first = time.perf_counter() - start
    prepared = classifier.prepare(image)
    values = prepared.as_tensor()[None].to(classifier.device)
    random = np.random.default_rng(0)
    affine, sizes = prepared.affine.numpy(), np.array(prepared.shape[1:])
    reach = np.linalg.inv(image.affine.numpy())

    def place() -> np.ndarray:
        while True:
            index = np.zeros(4)
            index[: len(sizes)], index[3] = random.uniform(0, sizes - 1), 1.0
            point = affine @ index
            given = (reach @ point)[: image.ndim - 1]
            if ((given >= 0) & (given <= np.array(image.shape[1:]) - 1)).all():
                return point[:3]

    def plain() -> None:
        with torch.no_grad():
            classifier.network(values)

    worst = max(
        apart(prober, place(), options.radii, classifier, prepared) for _ in range(options.checks)
    )
    plain()
    clicks, passes = [], []
    process = psutil.Process()
    before = process.memory_info().rss
    for _ in range(options.places):
        point = place()
        clicks.append(timed(lambda point=point: prober.at(point, options.radii)))
        passes.append(timed(plain))
    (click, click_cpu), (forward, forward_cpu) = (
        [statistics.median(column) for column in zip(*times, strict=True)]
        for times in (clicks, passes)
    )
    return {
        "network": name,
        "click_seconds": click,
        "forward_seconds": forward,
        "ratio": statistics.median(c[0] / f[0] for c, f in zip(clicks, passes, strict=True)),
        "cpu_ratio": click_cpu / forward_cpu,
        "slowest_ratio": max(c[0] for c in clicks) / forward,
        "first_seconds": first,
        "first_passes": first / forward,
        "kept_mib": prober.cached_bytes / 2**20,
        "grown_mib": (process.memory_info().rss - before) / 2**20,
        "largest_difference": worst,
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = [*SHIPPED, *NETWORKS]
    parser.add_argument("--networks", nargs="+", choices=names, default=names)
    parser.add_argument("--radii", nargs="+", type=float, default=[4.0, 8.0, 16.0], help="mm")
    parser.add_argument("--places", type=int, default=20)
    parser.add_argument("--checks", type=int, default=3, help="places held against plain passes")
    common_options(parser)
    options = parser.parse_args()
    set_up(options)
    rows = []
    print(
        f"{'network':<20}{'click ms':>9}{'pass ms':>9}{'ratio':>7}{'CPU':>6}{'worst':>7}"
        f"{'first s':>9}{'passes':>8}{'kept MiB':>10}{'grown':>7}{'apart':>9}"
    )
    for name in options.networks:
        row = measure(name, options)
        rows.append(row)
        print(
            f"{name:<20}{1e3 * row['click_seconds']:>9.1f}{1e3 * row['forward_seconds']:>9.1f}"
            f"{row['ratio']:>7.2f}{row['cpu_ratio']:>6.2f}{row['slowest_ratio']:>7.2f}"
            f"{row['first_seconds']:>9.2f}{row['first_passes']:>8.1f}{row['kept_mib']:>10.1f}"
            f"{row['grown_mib']:>7.1f}{row['largest_difference']:>9.0e}",
            flush=True,
        )
    say(options, rows)


if __name__ == "__main__":
    main()
