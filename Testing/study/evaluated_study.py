"""A study whose maps are evaluated, with the least effort."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from SaliencyExplain.attribution.registry import find_method
from SaliencyExplain.study.case_work import Work
from SaliencyExplain.study.discovery import discover
from SaliencyExplain.study.run import StudyProgress, StudyResult, run_study, untold

METHODS = ("gradcam",)


#: The least effort, whatever it costs.
LITTLE = 1.0


def work(bundle: Path, out: Path, budget: float | None = LITTLE) -> Work:
    chosen = tuple(find_method(name)() for name in METHODS)
    return Work(bundle, chosen, "tumour", out, threads=1, trial_budget=budget)


def study(
    folder: Path,
    bundle: Path,
    out: Path,
    budget: float | None = LITTLE,
    *,
    jobs: int = 1,
    progress: Callable[[StudyProgress], None] = untold,
) -> StudyResult:
    return run_study(
        discover(folder), work(bundle, out, budget), jobs=jobs, title="a study", progress=progress
    )
