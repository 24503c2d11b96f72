"""LIME: a linear model of the classifier around the image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from SaliencyExplain.attribution.methods.region_method import SampledRegionMethod
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.attribution.perturbation.least_squares import (
    ridge,
    with_bootstrap,
)
from SaliencyExplain.attribution.perturbation.region_game import (
    Estimate,
    Floats,
    Masks,
    Plan,
    check_table,
)
from SaliencyExplain.progress import may_stop
from SaliencyExplain.specification.parameters import parameter


class Neighbourhood(Plan):
    """Combinations in which each region is present with probability 1/2; the whole image first.

    If there are no more combinations than samples, each is used once, weighted by how often it
    would be drawn.
    """

    def __init__(self, players: int, samples: int, width: float, penalty: float, seed: int) -> None:
        self._width, self._penalty, self._seed = width, penalty, seed
        self._is_whole = 2**players <= samples
        if self._is_whole:
            self.estimator = "ridge regression over all combinations"
            self.count = self.least = 2**players
            numbers = np.arange(self.count)[::-1]
            self._present = (numbers[:, None] >> np.arange(players)) & 1 > 0
            self._times = samples / self.count
        else:
            self.estimator = "ridge regression"
            self.count, self.least = samples, min(samples, 2 * players + 2)
            check_table(samples, players)
            self._present = np.zeros((samples, players), dtype=bool)
            for number in range(samples):
                may_stop()
                self._present[number] = np.random.default_rng([seed, number]).random(players) < 0.5
            self._present[0] = True
            self._times = 1.0

    def present(self, index: int) -> Masks:
        """See :class:`Plan`."""
        found: Masks = self._present[index]
        return found

    def weights(self, count: int) -> Floats:
        """Weights of the first ``count`` combinations by their similarity to the whole image."""
        players = self._present.shape[1]
        # The cosine similarity of a mask and the mask of all regions.
        cosine = np.sqrt(self._present[:count].sum(axis=1) / max(1, players))
        near: Floats = self._times * np.sqrt(np.exp(-(((1 - cosine) / self._width) ** 2)))
        return near

    def estimate(self, outputs: Floats, confidence: float, until: float = math.inf) -> Estimate:
        """See :class:`Plan`."""
        count = len(outputs)
        present, near = self._present[:count].astype(float), self.weights(count)

        def fit(counts: Floats) -> Floats:
            return ridge(present, outputs, near * counts, self._penalty)

        if self._is_whole:
            values = fit(np.ones(count))
            return Estimate(values, np.zeros(len(values)))
        return with_bootstrap(fit, count, 1, self._seed, confidence, until)

    def figures(self, outputs: Floats) -> dict[str, float]:
        """The share of the outputs' weighted variance that the linear model explains."""
        count = len(outputs)
        present, near = self._present[:count].astype(float), self.weights(count)
        left = outputs - present @ ridge(present, outputs, near, self._penalty)
        spread, rest = (
            float(np.average((each - np.average(each, weights=near)) ** 2, weights=near))
            for each in (outputs, left)
        )
        share = {"explained_variance": 1 - rest / spread} if spread else {}
        return {"output_with_all": float(outputs[0]), **share}


@dataclass(frozen=True)
class Lime(SampledRegionMethod):
    """LIME: coefficients of a ridge regression of the output on the presence of regions.

    Combinations closer to the whole image have larger weights. The share of the outputs' variance
    that the linear model explains is recorded; where it is low, the coefficients are not
    reliable.
    """

    name: ClassVar[str] = "lime"
    family: ClassVar[str] = "surrogate"
    title: ClassVar[str] = "LIME"
    source: ClassVar[str] = (
        "Ribeiro et al. 2016, section 3; kernel, distance and regression of the library lime's "
        "image explainer; captum.attr.Lime with the same samples, divided by each region's "
        "voxels"
    )

    kernel_width: float = parameter(
        0.25,
        "Width of the kernel, as a cosine distance from the whole image.",
        minimum=0.01,
        maximum=100.0,
    )
    penalty: float = parameter(
        1.0,
        "Ridge penalty: weight of the squared coefficients.",
        minimum=0.0,
        maximum=1e9,
    )

    def plan(self, task: Task, players: int) -> Plan:
        """See :meth:`RegionMethod.plan`."""
        return Neighbourhood(players, self.samples, self.kernel_width, self.penalty, task.seed)
