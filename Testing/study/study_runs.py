"""Runs a small study and reads what it wrote."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from SaliencyExplain.results.study_result import StudyResult
from SaliencyExplain.studies.discovery import discover
from SaliencyExplain.studies.run import StudyProgress, ignore_progress, run_study
from Testing.studies import config_of

METHODS = ("gradcam", "gradient")


def study(
    folder: Path,
    bundle: Path,
    out: Path,
    *,
    jobs: int = 1,
    title: str = "",
    progress: Callable[[StudyProgress], None] = ignore_progress,
    **more: Any,
) -> StudyResult:
    return run_study(
        discover(folder),
        config_of(bundle, out, *METHODS, **more),
        jobs=jobs,
        title=title,
        progress=progress,
    )


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def content(out: Path) -> dict[str, Any]:
    """All files' bytes; of an explanation all but its timings."""
    found: dict[str, Any] = {}
    for path in sorted(out.rglob("*")):
        if path.name == "explanation.json":
            explanation = json.loads(path.read_text(encoding="utf-8"))
            assert explanation.pop("timings")["gradcam"] > 0
            found[str(path.relative_to(out))] = explanation
        elif path.is_file():
            found[str(path.relative_to(out))] = path.read_bytes()
    return found
