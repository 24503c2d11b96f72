"""Which rules of LRP keep the score's sign, stay stable, and find the planted tumour.

    python -m Testing.benchmarks.relevance_rules [--phantoms 36] [--dimensions 2]

Phantoms that no classifier was trained on, the tumour classes in turn, each explained for the class
that the shipped honest classifier predicts. For each composite of rules: how many maps were
refused as unstable; of the others in how many the map's sum has another sign than the score that
was handed down, between what shares of the score the sums lie (the median in the middle), and
the AUROC of the tumour's voxels, mean and least, where that class is a tumour's with a
probability of more than 0.8.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator

import numpy as np

from SaliencyExplain.attribution.methods.layer_wise_relevance import LayerwiseRelevance
from SaliencyExplain.attribution.passes.relevance_rules import COMPOSITES
from SaliencyExplain.comparison.agreement import agreement
from SaliencyExplain.demo.phantoms import Phantom, draw_phantom
from SaliencyExplain.demo.study import classifier_folder
from SaliencyExplain.demo.tumours import CLASSES, NO_TUMOUR
from SaliencyExplain.errors import InputError
from SaliencyExplain.explanation.explain import explain
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.models.loading import load_classifier
from Testing.benchmarks.method_table import FIRST_SEED

#: Probability of the explained class from which on its map is held against the tumour.
_SURE = 0.8


def _phantoms(count: int, dimensions: int) -> Iterator[Phantom]:
    labels = [name for name in CLASSES if name != NO_TUMOUR]
    for number in range(count):
        yield draw_phantom(labels[number % len(labels)], FIRST_SEED + number, dimensions=dimensions)


def main() -> None:
    """Prints one row of a table for each composite of rules."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--phantoms", type=int, default=36)
    parser.add_argument("--dimensions", type=int, choices=(2, 3), default=2)
    arguments = parser.parse_args()
    honest = load_classifier(classifier_folder(f"phantom-{arguments.dimensions}d-honest"))
    print("| rules | refused | other sign | sum / score | AUROC mean | least |")
    print("|---|---|---|---|---|---|")
    for rules in COMPOSITES:
        refused, shares, found = 0, [], []
        for phantom in _phantoms(arguments.phantoms, arguments.dimensions):
            try:
                done = explain(prepare(phantom.image, honest), [LayerwiseRelevance(rules=rules)])
            except InputError:
                refused += 1
                continue
            (map_,) = done.attributions
            figures = map_.provenance["figures"]
            shares.append(figures["relevance"] / figures["score"])
            if map_.target_name != NO_TUMOUR and done.probabilities[map_.target] > _SURE:
                mask = phantom.masks["tumour"]
                values = np.asarray(map_.values).reshape(mask.shape)
                found.append(agreement(values, mask, map_.affine).auroc)
        spread = (
            f"{min(shares):.2f}, {statistics.median(shares):.2f}, {max(shares):.2f}"
            if shares
            else "-"
        )
        means = f"{statistics.mean(found):.2f} | {min(found):.2f}" if found else "- | -"
        other = sum(share < 0 for share in shares)
        print(
            f"| {rules} | {refused} | {other} of {len(shares)} | {spread} | {means} |", flush=True
        )


if __name__ == "__main__":
    main()
