"""Settings of studies for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.attribution.method_selection import choice_of
from SaliencyExplain.specification.spec import ExplainSpec, Limits, MethodChoice
from SaliencyExplain.specification.target import Target
from SaliencyExplain.studies.study_config import StudyConfig


def config_of(
    classifier: Path,
    out: Path,
    *methods: str | Method,
    target: str = "predicted",
    seed: int = 0,
    passes: float | None = None,
    **more: Any,
) -> StudyConfig:
    """Settings of a study on one thread.

    Args:
        classifier: Its file or folder.
        out: The output folder.
        *methods: The methods, or their names.
        target: What is explained, as a text.
        seed: The random seed.
        passes: Forward passes for evaluating a case's maps; None: they are not evaluated.
        **more: Further fields of the settings.
    """
    choices = tuple(
        MethodChoice(method) if isinstance(method, str) else choice_of(method) for method in methods
    )
    limits = Limits() if passes is None else Limits(passes=passes)
    spec = ExplainSpec(choices, Target.parse(target), seed, limits)
    more = {"threads": 1, "evaluate": passes is not None, **more}
    return StudyConfig(classifier, out, spec, **more)
