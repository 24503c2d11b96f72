"""A study whose maps are evaluated, with the least cost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from SaliencyExplain.results.study_result import StudyResult
from SaliencyExplain.studies.discovery import discover
from SaliencyExplain.studies.run import StudyProgress, ignore_progress, run_study
from SaliencyExplain.studies.study_config import StudyConfig
from Testing.studies import config_of

METHODS = ("gradcam",)


#: The lowest tier, whatever it costs.
LITTLE = 1.0


def work(bundle: Path, out: Path, budget: float | None = LITTLE) -> StudyConfig:
    return config_of(bundle, out, *METHODS, target="tumour", passes=budget)


def study(
    folder: Path,
    bundle: Path,
    out: Path,
    budget: float | None = LITTLE,
    *,
    jobs: int = 1,
    progress: Callable[[StudyProgress], None] = ignore_progress,
) -> StudyResult:
    return run_study(
        discover(folder), work(bundle, out, budget), jobs=jobs, title="a study", progress=progress
    )
