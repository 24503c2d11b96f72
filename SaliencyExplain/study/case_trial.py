"""The trial of a finished case's maps, written into its folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.evaluation.image.evaluation_files import card_name, write_trial
from SaliencyExplain.evaluation.image.findings import Trial
from SaliencyExplain.evaluation.image.trial import trial
from SaliencyExplain.progress import Progress, silent
from SaliencyExplain.question import Question
from SaliencyExplain.records.case_entry import CaseEntry
from SaliencyExplain.records.evaluation_summary import Answer, EvaluatedMap, EvaluationSummary
from SaliencyExplain.study.case import Case
from SaliencyExplain.study.case_files import is_evaluation_whole, sizes_of
from SaliencyExplain.study.study_config import StudyConfig
from SaliencyExplain.trial_words import AFFORDABLE_PASSES, TRIAL_FILE, topic


def write_case_trial(
    folder: Path,
    case: Case,
    question: Question,
    methods: Sequence[Method],
    *,
    seed: int,
    passes: float | None,
    progress: Progress = silent,
) -> EvaluationSummary:
    """Tries the maps of a case and writes ``trial.json``, the curves and the trust cards.

    Each file is complete or not there, ``trial.json`` comes last. The same case, seed and
    limit give the same bytes but for the seconds that it took.

    Args:
        folder: The case's folder.
        case: The case, whose name stands for the image's own.
        question: Its image put to the classifier, for the class that its maps explain.
        methods: Whose maps are tried.
        seed: Of everything random.
        passes: Forward passes that it may cost; None: no limit.
        progress: Told of forward passes; may raise Cancelled.

    Returns:
        What the journal keeps of it.

    Raises:
        InputError: A method cannot take the image.
        OutputError: The disk is full or nothing may be written there.
        Cancelled: Out of ``progress``.
    """
    found = trial(
        question,
        methods,
        case=case.case,
        seed=seed,
        budget=passes,
        progress=progress,
    )
    found = dataclasses.replace(found, notes=tuple(map(case.public, found.notes)))
    files = write_trial(folder, found, question)
    # The seconds that it took are in trial.json, whose size differs with them.
    sizes = sizes_of(path for path in files if path.name != TRIAL_FILE)
    return _kept(found, passes, sizes)


def has_trial(folder: Path, entry: CaseEntry, passes: float | None) -> bool:
    """Whether all maps of a case were tried with that limit, and the files are there, whole."""
    kept = entry.result.evaluation if entry.result is not None else None
    if kept is None or kept.budget != passes or not is_evaluation_whole(folder, kept):
        return False
    # Methods may have been added since.
    tried = {one.label.partition("@")[0] for one in kept.maps} | set(kept.failed)
    return entry.methods <= tried


def _kept(found: Trial, passes: float | None, sizes: Mapping[str, int]) -> EvaluationSummary:
    return EvaluationSummary(
        budget=passes,
        effort=str(found.effort),
        failed=tuple(one.method for one in found.failures),
        maps=tuple(
            EvaluatedMap(
                one.label,
                card_name(one),
                tuple(
                    Answer(topic(verdict.question), verdict.answer, verdict.words)
                    for verdict in one.verdicts
                ),
            )
            for one in found.maps
        ),
        sizes=sizes,
    )


def passes_of(config: StudyConfig) -> float:
    """About how many forward passes the evaluation of a case may cost; 0: there is none."""
    if not config.evaluate:
        return 0.0
    return config.spec.limits.passes or AFFORDABLE_PASSES


class TwoSteps:
    """The progress of a case whose maps are computed and then tried, as one.

    Args:
        progress: Told of the whole.
        budget: What the trial may cost; 0: there is none.
    """

    def __init__(self, progress: Progress, budget: float) -> None:
        self._progress, self._budget, self._maps = progress, budget, 0.0

    def maps(self, done: float, total: float) -> None:
        """Forward passes of the maps."""
        self._maps = total
        self._progress(done, total + self._budget)

    def trial(self, done: float, total: float) -> None:
        """Forward passes of the trial, whose cost is known only when it begins."""
        share = self._budget * done / max(total, 1e-9)
        self._progress(self._maps + share, self._maps + self._budget)
