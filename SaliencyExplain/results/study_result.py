"""What came out of a study, without torch: in Python, on the wire and in both panels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Labels:
    """How often the classifier is right, over the cases whose label is one of its classes.

    Attributes:
        count: Cases.
        accuracy: Share of right predictions, [0, 1].
        f1: F1 score of each class, [0, 1]; NaN for a class that neither a label nor a
            prediction names.
        confusion: ``(K, K)`` counts, rows true, columns predicted.
        classes: Names of the classes.
        unknown: Cases whose label is no class.
    """

    count: int
    accuracy: float
    f1: list[float]
    confusion: list[list[int]]
    classes: list[str]
    unknown: int = 0

    @property
    def macro_f1(self) -> float:
        """Mean F1 score of the classes that a label or a prediction names, [0, 1]."""
        return float(np.nanmean(self.f1))

    def as_json(self) -> dict[str, Any]:
        """The metrics as JSON values; undefined ones are None."""
        return {
            "cases": self.count,
            "accuracy": self.accuracy,
            "macro_f1": self.macro_f1,
            "f1": {
                name: None if math.isnan(value) else value
                for name, value in zip(self.classes, self.f1, strict=True)
            },
            "classes": self.classes,
            "confusion_matrix": self.confusion,
            "label_is_no_class": self.unknown,
        }


@dataclass(frozen=True)
class StudyCase:
    """A case of a study, by files of the engine's own disk.

    Attributes:
        case: Its name, which is that of its folder in the output folder.
        done: Whether its results are there.
        images: Files or DICOM folders of its channels, in the classifier's order where known.
        segmentation: File of its ground truth, of several the first; None: it has none.
        further_segmentations: The files after the first.
    """

    case: str
    done: bool
    images: tuple[str, ...]
    segmentation: str | None
    further_segmentations: tuple[str, ...] = ()


@dataclass(frozen=True)
class StudyResult:
    """What came out of a study, on the disk of what computed it.

    Attributes:
        out: The output folder.
        report: The report, ``report.html``.
        total: All cases.
        resumed: Cases that an earlier run had done.
        failed: Cases with a failure, each in ``failures.csv``.
        notes: What a user should be told.
        labels: How often the classifier is right; None where no case has a label.
        cases: The cases, where an engine ran the study; their paths may hold patients' names.
    """

    out: Path
    report: Path
    total: int
    resumed: int
    failed: int
    notes: tuple[str, ...]
    labels: Labels | None
    cases: tuple[StudyCase, ...] = ()
