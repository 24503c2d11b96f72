"""Linear models of what the regions of an image add to its score, with their errors."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np

from SaliencyExplain.attribution.perturbation.region_game import Estimate, Floats, Masks, quantile
from SaliencyExplain.progress import may_stop

#: Resamplings of the bootstrap: the standard error is then known to some 4 %.
_RESAMPLINGS = 300
#: With fewer, for a lack of time, nothing is said of the errors; with so many they are known to
#: some 14 %.
_LEAST_RESAMPLINGS = 25

#: What the fits of all resamplings take, s: for each sample and region, and for each pair of
#: regions. The processor time of one thread with 20 to 100 regions and 300 to 3,000 samples:
#: 0.03 to 1.2 s, this within a third, of kernel SHAP 0 to 40 % less.
_SECONDS_PER_SAMPLE, _SECONDS_PER_PAIR = 2e-6, 4e-5


def constrained(present: Masks, outputs: Floats, weights: Floats, total: float) -> Floats:
    """Coefficients of the least squares whose sum is ``total``.

    The last one is eliminated, as in Lundberg & Lee 2017.

    Args:
        present: ``(samples, players)``.
        outputs: ``(samples,)``, the output with no region taken off.
        weights: ``(samples,)``, at least 0.
        total: What they add up to.

    Returns:
        ``(players,)``; those of least norm where the samples do not determine them.
    """
    if present.shape[1] == 0:
        return np.zeros(0)
    last = present[:, -1].astype(float)
    design = present[:, :-1] - last[:, None]
    found = _solved(design, outputs - last * total, weights, 0.0)
    return np.append(found, total - found.sum())


def ridge(present: Masks, outputs: Floats, weights: Floats, penalty: float) -> Floats:
    """Coefficients of weighted ridge regression with an intercept that is not penalised.

    Args:
        present: ``(samples, players)``.
        outputs: ``(samples,)``.
        weights: ``(samples,)``, at least 0.
        penalty: Of the sum of squares; as ``alpha`` of scikit-learn's ``Ridge``.

    Returns:
        ``(players,)``.
    """
    mean = np.average(present, axis=0, weights=weights)
    centre = float(np.average(outputs, weights=weights))
    return _solved(present - mean, outputs - centre, weights, penalty)


def with_bootstrap(
    fit: Callable[[Floats], Floats],
    blocks: int,
    each: int,
    seed: int,
    confidence: float,
    until: float = math.inf,
) -> Estimate:
    """A fit and its normal intervals, the errors from resampled blocks of samples.

    Args:
        fit: Coefficients for how often each sample counts.
        blocks: Number of independent blocks of samples.
        each: Samples per block, one after the other.
        seed: Of the resampling.
        confidence: Level of the intervals.
        until: Reading of ``time.perf_counter()`` from which on no more is resampled. With less
            than :data:`_LEAST_RESAMPLINGS` by then the errors are NaN.
    """
    values = fit(np.ones(blocks * each))
    random, even = np.random.default_rng(seed), np.full(max(1, blocks), 1 / max(1, blocks))
    found: list[Floats] = []
    while blocks > 1 and len(found) < _RESAMPLINGS and time.perf_counter() < until:
        may_stop()
        counts = random.multinomial(blocks, even)
        found.append(fit(np.repeat(counts, each).astype(float)))
    if len(found) < _LEAST_RESAMPLINGS:
        return Estimate(values, np.full(len(values), np.nan))
    fits = np.stack(found)
    return Estimate(values, quantile(confidence) * fits.std(axis=0, ddof=1))


def bootstrap_seconds(samples: int, players: int) -> float:
    """What the intervals of :func:`with_bootstrap` take of one processor core, s."""
    return players * (samples * _SECONDS_PER_SAMPLE + players * _SECONDS_PER_PAIR)


def _solved(design: Floats, outputs: Floats, weights: Floats, penalty: float) -> Floats:
    """Minimises ``sum w (y - X b)^2 + penalty |b|^2``."""
    weighted = design * weights[:, None]
    normal = weighted.T @ design + penalty * np.eye(design.shape[1])
    solution: Floats = np.linalg.lstsq(normal, weighted.T @ outputs, rcond=None)[0]
    return solution


def kernel_weight(players: int, size: int) -> float:
    """Weight of a combination of so many of the players (Lundberg & Lee 2017, theorem 2)."""
    return (players - 1) / (math.comb(players, size) * size * (players - size))
