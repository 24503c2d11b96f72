"""What ``explain`` and ``study`` make of the options that they share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from SaliencyExplain.cli import options
from SaliencyExplain.cli.messages import say_notes

if TYPE_CHECKING:
    from SaliencyExplain.attribution.method import Method
    from SaliencyExplain.study.case_work import Work


def work_of(
    classifier: Path,
    methods: Sequence[Method],
    out: Path,
    *,
    target: str,
    device: str,
    memory: str | None,
    precision: str,
    seed: int,
    trust: bool,
    keep_identifiers: bool,
    scene: bool,
    trial_budget: float | None,
    background: Sequence[Path],
    budget_seconds: float | None = None,
) -> Work:
    """The work on each case, from the options as they are written.

    Args:
        classifier: Its file or folder.
        methods: With their parameters.
        out: The output folder.
        target: See :data:`options.Target`.
        device: See :data:`options.Device`.
        memory: See :data:`options.Memory`.
        precision: See :data:`options.Precision`.
        seed: See :data:`options.Seed`.
        trust: See :data:`options.Trust`.
        keep_identifiers: See :data:`options.KeepIdentifiers`.
        scene: See :data:`options.Scene`.
        trial_budget: Forward passes for the trial of a case; None: no trial.
        background: See :data:`options.Backgrounds`.
        budget_seconds: When the methods are stopped; None: when they are done.

    Raises:
        InputError: An option does not fit the others, or a file cannot be read.
    """
    from SaliencyExplain.models.loading import load_classifier
    from SaliencyExplain.question import Compute
    from SaliencyExplain.study.case_work import Work
    from SaliencyExplain.study.discovery import background_cases

    channels = load_classifier(classifier, trust=trust).channels if background else ()
    backgrounds = background_cases(background, channels, keep_identifiers)
    say_notes(backgrounds.sentences())
    return Work(
        classifier=classifier,
        methods=tuple(methods),
        target=target,
        out=out,
        compute=Compute(device, options.memory_bytes(memory), precision),
        seed=seed,
        trust=trust,
        keep_identifiers=keep_identifiers,
        scene=scene,
        trial_budget=trial_budget,
        budget_seconds=budget_seconds,
        backgrounds=tuple(backgrounds),
    )
