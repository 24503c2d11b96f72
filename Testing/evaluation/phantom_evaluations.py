"""Evaluations of maps of a phantom, at a low cost."""

from __future__ import annotations

import numpy as np

from SaliencyExplain.evaluation.image.cost import CostTier
from SaliencyExplain.explanation.compute import Compute
from SaliencyExplain.explanation.loaded_references import LoadedReferences
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.images.segmentation import Segment, Segmentation

#: As little as still computes every figure.
FEW = CostTier(
    random_maps=2,
    stages=3,
    draws=1,
    independent=False,
    seeds=1,
    noisy=1,
    shifted=False,
    searched=1,
    refined=1,
)


def asked(phantom, classifier, target="glioma-like", segments=(), where="cpu"):
    affine = phantom.image.affine.numpy().astype(np.float64)
    given = Segmentation(
        tuple(Segment(name, (1.0, 0.0, 0.0), phantom.masks[name]) for name in segments),
        affine,
        (),
    )
    return prepare(
        phantom.image,
        classifier,
        target,
        Compute(where),
        LoadedReferences(given if segments else None),
    )


def answers(found, label):
    one = next(one for one in found.maps if one.label.startswith(label))
    return {answer.question: answer.answer for answer in one.answers}
