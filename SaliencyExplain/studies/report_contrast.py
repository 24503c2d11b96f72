"""The same image in several studies: where their maps differ most."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from SaliencyExplain.studies.report_data import RunData


@dataclass(frozen=True)
class Contrast:
    """A case for which several studies predict the same class from different evidence.

    Attributes:
        case: Its name.
        target: The class that all of them predict and explain.
        label: Label of the first method's map.
        segment: The segment with which it differs.
        runs: Places of the studies.
    """

    case: str
    target: str
    label: str
    segment: str
    runs: tuple[int, ...]


def greatest_contrast(runs: Sequence[RunData]) -> Contrast | None:
    """The case and segment for which the first method's AUROC differs most among studies.

    Only cases of the same files are compared, and only if both classifiers predict the explained
    class: with different predictions, different maps are expected.

    Returns:
        The contrast; None where no two studies have a case in common.
    """
    found: dict[tuple[str, str, str, str, str], dict[int, float]] = defaultdict(dict)
    for place, run in enumerate(runs):
        for entry in run.entries():
            result = entry.result
            if result is None or not entry.source:
                continue
            if result.predicted(run.configuration["classes"]) != result.target:
                continue
            for row in result.rows:
                value = row.agreement.auroc
                if row.method == run.first_label and not math.isnan(value):
                    key = (entry.case, entry.source, row.target, row.method, row.segment)
                    found[key][place] = value
    shared = {key: values for key, values in found.items() if len(values) > 1}
    if not shared:
        return None

    def spread(key: tuple[str, str, str, str, str]) -> float:
        return max(shared[key].values()) - min(shared[key].values())

    # Ties are settled by name, so that the same studies give the same page.
    best = min(shared, key=lambda key: (-spread(key), key))
    case, _, target, label, segment = best
    return Contrast(case, target, label, segment, tuple(sorted(shared[best])))
