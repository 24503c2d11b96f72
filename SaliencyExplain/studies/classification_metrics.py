"""How often a classifier is right: accuracy, F1 scores and the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from SaliencyExplain.results.study_result import Labels


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
