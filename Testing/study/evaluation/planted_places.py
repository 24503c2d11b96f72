"""Distributions of energy with evidence planted at a known place."""

from __future__ import annotations

import numpy as np

from SaliencyExplain.attribution.methods.control_maps import random_map
from SaliencyExplain.evaluation.study.fixed_places import (
    PlacedEnergy,
)
from SaliencyExplain.evaluation.study.normalised_maps import CELLS

CUBE = (CELLS,) * 3


def placed(case, energy, *, outside=None, target="tumour", room=None):
    energy = energy / energy.sum()
    return PlacedEnergy(
        f"P{case}", "gradcam", target, energy, energy if outside is None else outside,
        np.ones(energy.shape) if room is None else room,
    )  # fmt: skip


def blob(at, shape=CUBE, width=1.2):
    grid = np.indices(shape).astype(float)
    middle = np.array(at, dtype=float).reshape(-1, *[1] * len(shape))
    return np.exp(-((grid - middle) ** 2).sum(axis=0) / (2 * width**2))


def background(seed, shape=CUBE):
    return random_map(shape, [8.0] * len(shape), seed=seed).astype(float) / np.prod(shape)
