"""Kernel SHAP: Shapley values as the coefficients of a weighted linear model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from SaliencyExplain.attribution.methods.region_method import SampledRegionMethod
from SaliencyExplain.attribution.methods.shapley import Enumeration
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.attribution.perturbation.least_squares import (
    constrained,
    kernel_weight,
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


class AllCombinations(Enumeration):
    """Kernel SHAP with every combination: the Shapley values, by least squares."""

    def estimate(self, outputs: Floats, confidence: float, until: float = math.inf) -> Estimate:
        """See :class:`Plan`."""
        n, inner = self.players, self.members[1:-1]
        weights = np.array([kernel_weight(n, int(size)) for size in inner.sum(axis=1)])
        total = float(outputs[-1] - outputs[0])
        values = constrained(inner, outputs[1:-1] - outputs[0], weights, total)
        return Estimate(values, np.zeros(n))


class KernelSamples(Plan):
    """Combinations drawn in proportion to their kernel weight, each with its complement.

    Pairs lower the variance (Covert & Lee 2021). The intervals come from resampling the pairs.
    """

    def __init__(self, players: int, samples: int, seed: int) -> None:
        self.players, self._seed = players, seed
        self.estimator = "least squares"
        pairs = samples // 2
        self.count = 2 + 2 * pairs
        # Fewer combinations do not determine the values of all regions.
        self.least = min(self.count, 2 + 2 * players)
        sizes = np.arange(1, players)
        chances = 1 / (sizes * (players - sizes))
        check_table(2 * pairs, players)
        drawn = np.zeros((pairs, 2, players), dtype=bool)
        for pair in range(pairs):
            may_stop()
            random = np.random.default_rng([seed, pair])
            size = random.choice(sizes, p=chances / chances.sum())
            drawn[pair, 0, random.choice(players, size, replace=False)] = True
            drawn[pair, 1] = ~drawn[pair, 0]
        self._drawn = drawn.reshape(-1, players)

    def present(self, index: int) -> Masks:
        """See :class:`Plan`."""
        return np.full(self.players, index == 0) if index < 2 else self._drawn[index - 2]

    def estimate(self, outputs: Floats, confidence: float, until: float = math.inf) -> Estimate:
        """The estimate from the complete pairs."""
        pairs = (len(outputs) - 2) // 2
        present, whole, nothing = self._drawn[: 2 * pairs], outputs[0], outputs[1]
        added = outputs[2 : 2 + 2 * pairs] - nothing

        def fit(counts: Floats) -> Floats:
            return constrained(present, added, counts, float(whole - nothing))

        return with_bootstrap(fit, pairs, 2, self._seed, confidence, until)


@dataclass(frozen=True)
class KernelShap(SampledRegionMethod):
    """Kernel SHAP: Shapley values by least squares over combinations of regions.

    If there are no more combinations than samples, all of them are computed and the values are
    exact. The values of all regions add up to the output with all regions minus that with none.
    """

    name: ClassVar[str] = "kernel-shap"
    family: ClassVar[str] = "surrogate"
    title: ClassVar[str] = "Kernel SHAP"
    source: ClassVar[str] = (
        "Lundberg and Lee 2017, theorem 2, with paired samples (Covert and Lee 2021); "
        "captum.attr.KernelShap with a feature mask, "
        "divided by each region's voxels"
    )

    def plan(self, task: Task, players: int) -> Plan:
        """See :meth:`RegionMethod.plan`."""
        # With one region the value is exact.
        if players < 2 or 2**players <= self.samples + 2:
            return AllCombinations(players)
        return KernelSamples(players, self.samples, task.seed)
