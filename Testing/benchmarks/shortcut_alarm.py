"""How often the shortcut alarm of ``evaluate STUDY`` is wrong, and how often it is right.

    OMP_NUM_THREADS=1 python -m Testing.benchmarks.shortcut_alarm --threads 1 [--studies 100]
        [--shortcut-studies 50] [--cases 24] [--json FILE] [--markdown FILE]

Each study has phantoms of its own, which no other study, classifier or test uses: the tumour
classes and none in turn. In 3D the glioma-like phantoms, and only they, have a marker in a corner,
and the same images are explained by the honest classifier, which looks at the tumour, and by the
shortcut classifier, which looks at the marker. In 2D there is no marker. Each case is explained
for its predicted class by Grad-CAM and gradient.

Each study is evaluated twice: with the segmentation of the tumour (never of the marker), and with
the images alone, as a study without segmentations is. What counts is the decision for a whole
study, over all its methods and classes:

- *false alarm* of an honest study: any alarm; of a shortcut study: any alarm but those for the
  glioma-like class at the marker;
- *found* in a shortcut study: an alarm for the glioma-like class at the marker.

Maps are computed in this process and brought onto the common grid as ``evaluate`` does it; no
file is written. Intervals are Wilson's, 95 %.
"""

from __future__ import annotations

import argparse
import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from SaliencyExplain.attribution.registry import find_method
from SaliencyExplain.demo.phantoms import Phantom, draw_phantom
from SaliencyExplain.demo.study import STUDY_SEEDS, classifier_folder
from SaliencyExplain.demo.tumours import CLASSES, GLIOMA
from SaliencyExplain.evaluation.study.energy_places import near
from SaliencyExplain.evaluation.study.fixed_places import (
    SEGMENT_MARGIN_MM,
    FixedPlace,
    PlacedEnergy,
    find_fixed_places,
    told_from_anatomy,
)
from SaliencyExplain.evaluation.study.normalised_maps import on_common_grid
from SaliencyExplain.evaluation.study.survey import placed_energy, voxels_of_cell
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.geometry import spacing_of
from SaliencyExplain.images.body import body_mask
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.loading import load_classifier
from Testing.benchmarks.conditions import common_options, say, set_up

#: Seeds of the phantoms, which no test, study of the demo or other benchmark uses.
FIRST_SEED = STUDY_SEEDS + 120_000_000
METHODS = ("gradcam", "gradient")
TUMOUR, MARKER = "tumour", "marker"

Row = dict[str, Any]
Grid = NDArray[np.float64]


@dataclass(frozen=True)
class Kind:
    """A kind of study.

    Attributes:
        name: In the table.
        classifier: Name of the shipped one.
        dimensions: 2 or 3.
        shortcut: Whether the classifier looks at the marker.
    """

    name: str
    classifier: str
    dimensions: int
    shortcut: bool = False


KINDS = (
    Kind("honest 2D", "phantom-2d-honest", 2),
    Kind("honest 3D", "phantom-3d-honest", 3),
    Kind("shortcut 3D", "phantom-3d-shortcut", 3, shortcut=True),
)


class Collected:
    """What one evaluation of a study reads off its cases."""

    def __init__(self, *, segmented: bool) -> None:
        self._known = segmented
        self.maps: list[PlacedEnergy] = []
        self.segmented: set[str] = set()
        self.bodies: dict[str, list[Grid]] = defaultdict(list)

    def add(self, case: str, target: str, phantom: Phantom, maps: dict[str, Any]) -> None:
        """Takes a case's maps, and what is known of its image."""
        affine = phantom.image.affine.numpy().astype(np.float64)
        shape = tuple(phantom.image.shape[1:])
        inside = np.zeros(shape, dtype=bool)
        if self._known and TUMOUR in phantom.masks:
            self.segmented.add(target)
            spacing = spacing_of(affine, len(shape))
            inside = near(phantom.masks[TUMOUR], spacing, SEGMENT_MARGIN_MM)
        body = body_mask(phantom.image)
        if body is not None:
            self.bodies[target].append(on_common_grid(body, affine) / voxels_of_cell(shape))
        for name, values in maps.items():
            placed = placed_energy(case, name, target, values, affine, inside)
            if placed is not None:
                self.maps.append(placed)

    def places(self, seed: int) -> list[FixedPlace]:
        """The fixed places, as ``evaluate`` finds and judges them."""
        bodies = {name: np.mean(own, axis=0) for name, own in self.bodies.items()}
        found = find_fixed_places(self.maps, {}, seed=seed)
        return told_from_anatomy(found, self.segmented, bodies)


def phantoms_of(dimensions: int, study: int, cases: int) -> Iterator[Phantom]:
    """The phantoms of one study."""
    first = FIRST_SEED + dimensions * 1_000_000 + study * cases
    for number in range(cases):
        label = CLASSES[(number + 1) % len(CLASSES)]
        marked = dimensions == 3 and label == GLIOMA
        yield draw_phantom(label, first + number, dimensions=dimensions, marker=marked)


def evaluate(
    kind: Kind, study: int, phantoms: Sequence[Phantom], classifier: Classifier
) -> list[Row]:
    """What the alarm says of one study, with and without the segmentations."""
    both = {name: Collected(segmented=name == "segmented") for name in ("segmented", "images")}
    for number, phantom in enumerate(phantoms):
        case = prepare(phantom.image, classifier, "predicted")
        maps = {}
        for name in METHODS:
            values = next(iter(find_method(name)().attribute(case.task()).values())).float()
            maps[name] = classifier.restore(values, case.input, case.image)
        target = classifier.classes[case.target]
        for one in both.values():
            one.add(f"P{number:03d}", target, phantom, maps)
    marker = next((_cells(phantom) for phantom in phantoms if MARKER in phantom.masks), None)
    rows = []
    for known, one in both.items():
        places = one.places(seed=study)
        alarms = [place for place in places if place.alarm]
        true = [
            place
            for place in alarms
            if kind.shortcut and marker is not None and place.target == GLIOMA
            if _touches(place, marker)
        ]
        rows.append(
            {
                "kind": kind.name,
                "known": known,
                "study": study,
                "false_alarm": len(alarms) > len(true),
                "found": bool(true),
                "undecided": any(place.undecided for place in places),
                "alarms": [
                    {"method": place.method, "target": place.target, "place": place.place}
                    for place in alarms
                ],
            }
        )
    return rows


def _cells(phantom: Phantom) -> Grid:
    return on_common_grid(phantom.masks[MARKER], phantom.image.affine.numpy().astype(np.float64))


def _touches(place: FixedPlace, marker: Grid) -> bool:
    reach = place.cells // 2
    at = [int(share * size) for share, size in zip(place.place, marker.shape, strict=True)]
    return bool(marker[tuple(slice(max(0, i - reach), i + reach + 1) for i in at)].any())


def summary(rows: Sequence[Row]) -> list[Row]:
    """Rates with Wilson's intervals, a row for each kind of study and what is known of it."""
    lines = []
    for kind, known in itertools.product(KINDS, ("segmented", "images")):
        own = [row for row in rows if (row["kind"], row["known"]) == (kind.name, known)]
        if not own:
            continue
        line: Row = {"kind": kind.name, "known": known, "studies": len(own)}
        for name in ("false_alarm", "found", "undecided"):
            count = sum(row[name] for row in own)
            interval = stats.binomtest(count, len(own)).proportion_ci(method="wilson")
            line[name] = (count, float(interval.low), float(interval.high))
        lines.append(line)
    return lines


def markdown(lines: Sequence[Row]) -> str:
    """The rates as a Markdown table."""
    text = [
        "| classifier | known beside the maps | false alarms | shortcut found | “not known” said |",
        "|---|---|---|---|---|",
    ]
    shortcuts = {kind.name for kind in KINDS if kind.shortcut}
    for line in lines:
        cells = {
            name: f"{count} of {line['studies']} [{100 * low:.1f}, {100 * high:.1f}] %"
            for name in ("false_alarm", "found", "undecided")
            for count, low, high in [line[name]]
        }
        known = "images, tumours segmented" if line["known"] == "segmented" else "images alone"
        found = cells["found"] if line["kind"] in shortcuts else "–"
        text.append(
            f"| {line['kind']} | {known} | {cells['false_alarm']} | {found} | "
            f"{cells['undecided']} |"
        )
    return "\n".join(text) + "\n"


def main(words: Sequence[str] | None = None) -> list[Row]:
    """Measures, prints and writes.

    Args:
        words: The command line; None: the process's own.

    Returns:
        Two rows for each study and classifier.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = [kind.name for kind in KINDS]
    parser.add_argument("--studies", type=int, default=100, help="of each honest classifier")
    parser.add_argument("--shortcut-studies", type=int, default=50, help="of the shortcut one")
    parser.add_argument("--first-study", type=int, default=0, help="number of the first study")
    parser.add_argument("--cases", type=int, default=24, help="phantoms in each study")
    parser.add_argument("--kinds", nargs="+", choices=names, default=names)
    parser.add_argument("--markdown", type=Path, help="also write the table to this file")
    common_options(parser, device=False)
    options = parser.parse_args(words)
    set_up(options)
    kinds = [kind for kind in KINDS if kind.name in options.kinds]
    loaded = {kind: load_classifier(classifier_folder(kind.classifier)) for kind in kinds}
    rows = []
    for dimensions in dict.fromkeys(kind.dimensions for kind in kinds):
        own = [kind for kind in kinds if kind.dimensions == dimensions]
        wanted = {
            kind: options.shortcut_studies if kind.shortcut else options.studies for kind in own
        }
        for number in range(max(wanted.values())):
            study = options.first_study + number
            phantoms = list(phantoms_of(dimensions, study, options.cases))
            for kind in own:
                if number < wanted[kind]:
                    rows += evaluate(kind, study, phantoms, loaded[kind])
    table = markdown(summary(rows))
    print(table)
    if options.markdown:
        options.markdown.write_text(table)
    say(options, rows)
    return rows


if __name__ == "__main__":
    main()
