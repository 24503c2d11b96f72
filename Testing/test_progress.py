"""Loops that know of no progress callback, and how they are stopped."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from SaliencyExplain import progress
from SaliencyExplain.attribution.perturbation.harmonic_infill import harmonic_infill
from SaliencyExplain.attribution.perturbation.least_squares import with_bootstrap
from SaliencyExplain.attribution.perturbation.region_ranking import widened_regions
from SaliencyExplain.attribution.perturbation.supervoxels import supervoxels
from SaliencyExplain.comparison.random_control import RandomControl
from SaliencyExplain.errors import Cancelled
from SaliencyExplain.evaluation.image.null_maps import NullMaps
from SaliencyExplain.progress import may_stop, stopped_by

NOISE = torch.rand((1, 32, 32), generator=torch.Generator().manual_seed(0))
LABELS = np.arange(32 * 32, dtype=np.int64).reshape(32, 32) // 64 + 1


def cancel() -> None:
    raise Cancelled("The test cancels.")


@pytest.fixture(autouse=True)
def asked_always(monkeypatch) -> None:
    monkeypatch.setattr(progress, "_ASKED_EVERY", 0.0)


#: Work between two forward passes that grows with the image or a parameter.
LOOPS: dict[str, Callable[[], object]] = {
    "random control": lambda: RandomControl(np.ones((32, 32), bool), np.eye(4)).of(LABELS == 3),
    "null maps": lambda: NullMaps(NOISE[0].numpy(), None).of(NOISE[0].numpy(), 3),
    "bootstrap": lambda: with_bootstrap(lambda counts: counts[:2], 9, 1, 0, 0.95),
    "infill": lambda: harmonic_infill(
        NOISE, np.array([[8, 8]]), torch.ones((9, 9), dtype=torch.bool), (1.0, 1.0)
    ),
    "supervoxels": lambda: supervoxels(NOISE, (1.0, 1.0), size_mm=8.0),
    "widened regions": lambda: widened_regions(LABELS, (1.0, 1.0), 2.0),
}


@pytest.mark.parametrize("name", LOOPS)
def test_work_between_forward_passes_hears_of_a_cancel(name) -> None:
    LOOPS[name]()
    with stopped_by(cancel), pytest.raises(Cancelled):
        LOOPS[name]()


def test_a_job_in_the_pause_of_another_does_not_stop_with_it() -> None:
    asked = []
    with stopped_by(cancel):
        with pytest.raises(Cancelled):
            may_stop()
        with stopped_by(lambda: asked.append("inner"), alone=True):
            may_stop()
        with stopped_by(lambda: asked.append("part of the same")), pytest.raises(Cancelled):
            may_stop()
    may_stop()
    assert asked == ["inner"]
