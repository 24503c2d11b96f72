"""Which method finds the planted tumour, which survives the sanity check, at what cost.

    python -m Testing.benchmarks.method_table [--phantoms 12] [--json FILE] [--markdown FILE]
    python -m Testing.benchmarks.method_table --small     (whether it runs, on two phantoms)

All registered methods, at the settings that the table names (fewer samples than the defaults
of the slow ones), explain the true class of phantoms that no classifier was trained on, to the
shipped classifiers: the honest ones in 3D and 2D, which look at the tumour, and the shortcut
one, which looks at a marker in the corner. Backgrounds are phantoms without a tumour.

Figures are means over the phantoms, measured as ``saliency-explain compare`` does, on the
image's grid: AUROC ranks all voxels by the signed map (0.5 is chance; of a method that is not
signed all values are magnitudes); energy is what the positive part of the map has inside, over
the segment's share of the volume (1 is chance); peak is how often the maximum lies inside, a
plateau counting by its share. ``alike`` is the rank correlation within the head, the larger of
those of the map and of its absolute value, with the map of the same network after all its
weights were put in random order (Adebayo et al. 2018): a map that stays alike has not looked at
what was learnt. ``stated`` is what the method says before it starts, its forward passes and what
it computes beside them, and ``took`` its time, both in forward passes of one image in the same
run; times are medians of the processor's time, of all threads together, so that other work on the
machine is not in them.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.attribution.network.frozen_network import untouched
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.attribution.registry import methods
from SaliencyExplain.comparison.agreement import agreements
from SaliencyExplain.demo.phantoms import Phantom, draw_phantom
from SaliencyExplain.demo.study import STUDY_SEEDS, classifier_folder
from SaliencyExplain.demo.tumours import CLASSES, GLIOMA, NO_TUMOUR
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.evaluation.image.randomisation import randomised, stages_of
from SaliencyExplain.evaluation.image.similarity import similarity
from SaliencyExplain.explanation.loaded_references import LoadedReferences
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.images.body import body_mask
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.loading import load_classifier
from Testing.benchmarks.conditions import common_options, say, set_up

#: Seeds of the phantoms and backgrounds, which no test and no study of the demo uses.
FIRST_SEED = STUDY_SEEDS + 97_000_000
BACKGROUND_SEED = STUDY_SEEDS + 98_000_000
BACKGROUNDS = 4

#: What is not at its default: the slow ones cheaper, and noise that ranks each voxel for itself.
SETTINGS: dict[str, dict[str, Any]] = {
    "expected-gradients": {"samples": 24},
    "guided-ig": {"steps": 50},
    "guided-smoothgrad": {"samples": 12},
    "integrated-gradients": {"steps": 24},
    "kernel-shap": {"samples": 300},
    "lime": {"samples": 300},
    "occlusion": {"stride_mm": 20.0},
    "random": {"correlation_mm": 0.0},
    "scorecam": {"channels": 32},
    "shapley": {"pairs": 3},
    "smoothgrad": {"samples": 12},
    "smoothgrad-ig": {"samples": 4, "steps": 8},
    "smoothgrad-ig-squared": {"samples": 4, "steps": 8},
    "xrai": {"steps": 12},
    "xrai-fast": {"steps": 12},
}
#: What ``--small`` changes beyond that: whether everything runs, not how good it is.
SMALL: dict[str, dict[str, Any]] = {
    "expected-gradients": {"samples": 4},
    "guided-ig": {"steps": 6},
    "guided-smoothgrad": {"samples": 2},
    "integrated-gradients": {"steps": 4},
    "kernel-shap": {"samples": 40, "size_mm": 60.0},
    "lime": {"samples": 40, "size_mm": 60.0},
    "occlusion": {"window_mm": 40.0, "stride_mm": 20.0},
    "scorecam": {"channels": 4},
    "shapley": {"pairs": 2, "size_mm": 80.0},
    "smoothgrad": {"samples": 2},
    "smoothgrad-ig": {"samples": 2, "steps": 2},
    "smoothgrad-ig-squared": {"samples": 2, "steps": 2},
    "xrai": {"steps": 3},
    "xrai-fast": {"steps": 3},
}

Row = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """A classifier, and phantoms whose evidence is known.

    Attributes:
        name: In the table.
        classifier: Name of the shipped one.
        evidence: The segment that the classifier looks at.
        marked: Whether the phantoms have the marker; then all of them have a glioma.
    """

    name: str
    classifier: str
    evidence: str = "tumour"
    marked: bool = False

    def phantoms(self, count: int, dimensions: int) -> Iterator[Phantom]:
        """As many phantoms, the tumour classes in turn."""
        labels = [GLIOMA] if self.marked else [name for name in CLASSES if name != NO_TUMOUR]
        for seed, label in zip(range(count), itertools.cycle(labels), strict=False):
            yield draw_phantom(label, FIRST_SEED + seed, dimensions=dimensions, marker=self.marked)


TRIALS = (
    Trial("honest 3D", "phantom-3d-honest"),
    Trial("honest 2D", "phantom-2d-honest"),
    Trial("shortcut 3D", "phantom-3d-shortcut", evidence="marker", marked=True),
)


@dataclass
class Found:
    """What the phantoms gave for one method."""

    figures: dict[str, list[float]] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)

    def add(self, name: str, value: float) -> None:
        """Notes one phantom's figure."""
        self.figures.setdefault(name, []).append(value)

    def summary(self) -> dict[str, float]:
        """Means of the figures, without those that are undefined; of times the median."""
        found = {}
        for name, values in self.figures.items():
            known = [value for value in values if not math.isnan(value)]
            # The first run of a method may import and trace.
            middle = statistics.median if name in ("seconds", "took") else statistics.fmean
            found[name] = middle(known) if known else math.nan
        return found


class Examined:
    """One phantom put to a classifier and to the same network with random weights."""

    def __init__(self, classifier: Classifier, phantom: Phantom, given: LoadedReferences) -> None:
        self.phantom = phantom
        self.case = prepare(phantom.image, classifier, phantom.label, references=given)
        self.task = self.case.task()
        self.body = body_mask(phantom.image)

    def map_of(self, method: Method, task: Task) -> NDArray[np.float32]:
        """The first of a method's maps, on the image's grid."""
        values = next(iter(method.attribute(task).values())).float()
        case = self.case
        return case.classifier.restore(values, case.input, case.image)

    def forward_seconds(self) -> float:
        """The time of a forward pass, the median of nine."""
        taken = []
        with untouched(self.task.network), torch.no_grad():
            for _ in range(9):
                started = time.process_time()
                self.task.network(self.task.input)
                taken.append(time.process_time() - started)
        return statistics.median(taken)

    def measure(self, method: Method, found: Found, one: float, *, sanity: bool) -> None:
        """Adds the figures of a method's map."""
        stated = method.forward_passes(self.task) + method.seconds_beside(self.task) / one
        started = time.process_time()
        values = next(iter(method.attribute(self.task).values())).float()
        seconds = time.process_time() - started
        case = self.case
        restored = case.classifier.restore(values, case.input, case.image)
        found.add("seconds", seconds)
        found.add("took", seconds / one)
        found.add("stated", stated)
        names = list(self.phantom.masks)
        affine = case.image.affine.numpy().astype(np.float64)
        rows = agreements(restored, [self.phantom.masks[name] for name in names], affine)
        for name, row in zip(names, rows, strict=True):
            found.add(f"{name}_auroc", row.auroc)
            found.add(f"{name}_energy", row.energy_inside / row.energy_chance)
            found.add(f"{name}_peak", row.pointing)
        if sanity:
            other = self.map_of(method, self._with_random_weights())
            # As in the trial of a map: a constant one has nothing of the other.
            likeness = similarity(restored, other, self.body).alike
            found.add("alike", float(np.nan_to_num(likeness, nan=0.0)))

    def _with_random_weights(self) -> Task:
        network = self.task.network
        return dataclasses.replace(self.task, network=randomised(network, stages_of(network, 1), 1))


def settings_of(name: str, *, small: bool) -> dict[str, Any]:
    """A method's parameters that are not at their default."""
    return {**SETTINGS.get(name, {}), **(SMALL.get(name, {}) if small else {})}


def measure(trial: Trial, chosen: Sequence[str], options: argparse.Namespace) -> list[Row]:
    """The rows of a trial, a method each."""
    classifier = load_classifier(classifier_folder(trial.classifier))
    dimensions = classifier.spatial_dims
    given = LoadedReferences(
        backgrounds=tuple(
            draw_phantom(NO_TUMOUR, BACKGROUND_SEED + seed, dimensions=dimensions).image
            for seed in range(options.backgrounds)
        )
    )
    made = {name: methods()[name](**settings_of(name, small=options.small)) for name in chosen}
    found = {name: Found() for name in chosen}
    right, one = [], math.nan
    for number, phantom in enumerate(trial.phantoms(options.phantoms, dimensions)):
        examined = Examined(classifier, phantom, given)
        probabilities = examined.case.prediction.probabilities
        right.append(int(np.argmax(probabilities)) == examined.case.target)
        if number == 0:
            one = examined.forward_seconds()
        for name, method in made.items():
            try:
                sanity = number < options.sanity and not trial.marked
                examined.measure(method, found[name], one, sanity=sanity)
            except InputError as error:
                found[name].refusals.append(str(error))
    return [
        {
            "trial": trial.name,
            "method": name,
            "family": made[name].family,
            "signed": made[name].signed,
            "settings": settings_of(name, small=options.small),
            "phantoms": options.phantoms,
            "classified_right": sum(right),
            "forward_seconds": one,
            **one_method.summary(),
            "refusals": one_method.refusals,
        }
        for name, one_method in found.items()
    ]


def markdown(rows: Sequence[Row]) -> str:
    """The rows as Markdown, a table for each trial."""
    parts = []
    for name, group in itertools.groupby(rows, key=lambda row: row["trial"]):
        table = list(group)
        trial = next(one for one in TRIALS if one.name == name)
        first = table[0]
        parts.append(
            f"### {name}: {first['phantoms']} phantoms, {first['classified_right']} of them "
            f"classified right\n"
        )
        segments = [trial.evidence, "tumour"] if trial.marked else ["tumour"]
        columns = [
            *(
                (f"{part}_{kind}", f"{part} {kind}{_MEANS.get(kind, '')}")
                for part in segments
                for kind in _KINDS
            ),
            *([] if trial.marked else [("alike", "alike at random")]),
            *(("stated", "passes stated"), ("took", "took, median of ratios"), ("seconds", "s")),
        ]
        parts.append("| method | " + " | ".join(title for _, title in columns) + " | settings |")
        parts.append("|---" * (len(columns) + 2) + "|")
        for row in table:
            cells = [_cell(key, row.get(key, math.nan)) for key, _ in columns]
            told = ", ".join(f"{key}={value:g}" for key, value in row["settings"].items())
            refused = f" ({len(row['refusals'])} refused)" if row["refusals"] else ""
            parts.append(f"| {row['method']}{refused} | {' | '.join(cells)} | {told} |")
        parts.append("")
    return "\n".join(parts)


_KINDS = ("auroc", "energy", "peak")

#: What a column's head adds where the order of dividing and averaging matters.
_MEANS = {"energy": ", mean of ratios"}


def _cell(key: str, value: float) -> str:
    if math.isnan(value):
        return ""
    if key.endswith("_peak"):
        return f"{100 * value:.0f} %"
    if key.endswith("_energy") or key in ("stated", "took"):
        return f"{value:.1f}" if value < 100 else f"{value:.0f}"
    return f"{value:.2f}"


def check_settings(known: Mapping[str, type[Method]]) -> None:
    """Raises InputError where the settings name a method that is not there any more."""
    gone = (set(SETTINGS) | set(SMALL)) - set(known)
    if gone:
        raise InputError(
            ErrorCode.NAME_UNKNOWN,
            f"The table's settings name what is no method: {', '.join(sorted(gone))}.",
        )


def main(words: Sequence[str] | None = None) -> list[Row]:
    """Measures, prints and writes.

    Args:
        words: The command line; None: the process's own.

    Returns:
        The rows.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--phantoms", type=int, default=12, help="of each trial")
    parser.add_argument("--sanity", type=int, default=4, help="of them with random weights, too")
    parser.add_argument("--backgrounds", type=int, default=BACKGROUNDS)
    parser.add_argument(
        "--trials",
        nargs="+",
        choices=[trial.name for trial in TRIALS],
        default=[trial.name for trial in TRIALS],
    )
    parser.add_argument("--methods", nargs="+", choices=list(methods()), default=list(methods()))
    parser.add_argument("--small", action="store_true", help="the least that runs, in seconds")
    parser.add_argument("--markdown", type=Path, help="also write the tables to this file")
    common_options(parser, device=False)
    options = parser.parse_args(words)
    if options.small:
        options.phantoms, options.sanity = min(options.phantoms, 2), min(options.sanity, 1)
        options.backgrounds = min(options.backgrounds, 2)
    set_up(options)
    check_settings(methods())
    rows: list[Row] = []
    for trial in TRIALS:
        if trial.name in options.trials:
            rows += measure(trial, options.methods, options)
            print(markdown(rows[-len(options.methods) :]), flush=True)
    if options.markdown:
        options.markdown.write_text(markdown(rows) + "\n", encoding="utf-8")
    say(options, rows)
    return rows


if __name__ == "__main__":
    main()
