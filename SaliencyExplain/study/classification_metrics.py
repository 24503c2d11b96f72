"""How often a classifier is right: accuracy, F1 scores and the confusion matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score


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
        """The figures as JSON values; undefined ones are None."""
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


def count_labels(
    truth: Sequence[int], predicted: Sequence[int], classes: Sequence[str], *, unknown: int = 0
) -> Labels | None:
    """Counts right and wrong predictions.

    Args:
        truth: Index of each case's own class.
        predicted: Index of each case's predicted class.
        classes: Names of the classes.
        unknown: Cases whose label is no class, which count nowhere.

    Returns:
        The figures of scikit-learn's ``accuracy_score``, ``f1_score`` and
        ``confusion_matrix``; None where no case has a label.
    """
    if not truth:
        return None
    indices = list(range(len(classes)))
    return Labels(
        count=len(truth),
        accuracy=float(accuracy_score(truth, predicted)),
        f1=[
            float(value)
            for value in f1_score(
                truth, predicted, labels=indices, average=None, zero_division=np.nan
            )
        ],
        confusion=confusion_matrix(truth, predicted, labels=indices).tolist(),
        classes=list(classes),
        unknown=unknown,
    )
