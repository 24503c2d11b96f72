"""The evaluation of a finished case's maps, written into its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.evaluation.image.evaluation_files import write_evaluation
from SaliencyExplain.evaluation.image.map_evaluation import evaluate_maps
from SaliencyExplain.evaluation_parts import AFFORDABLE_PASSES, EVALUATION_FILE
from SaliencyExplain.explanation.prepared_case import PreparedCase
from SaliencyExplain.progress import Progress, silent
from SaliencyExplain.records.case_entry import CaseEntry
from SaliencyExplain.records.evaluation_summary import EvaluationSummary
from SaliencyExplain.results.image_evaluation import Evaluation
from SaliencyExplain.studies.case import Case
from SaliencyExplain.studies.case_files import is_evaluation_whole, sizes_of
from SaliencyExplain.studies.study_config import StudyConfig


def write_case_evaluation(
    folder: Path,
    case: Case,
    prepared: PreparedCase,
    methods: Sequence[Method],
    *,
    seed: int,
    passes: float | None,
    progress: Progress = silent,
) -> EvaluationSummary:
    """Evaluates the maps of a case and writes ``evaluation.json``, the curves and the trust cards.

    Each file is complete or not there, ``evaluation.json`` comes last. The same case, seed and
    limit give the same bytes but for the seconds that it took.

    Args:
        folder: The case's folder.
        case: The case, whose name stands for the image's own.
        prepared: Its image and classifier, for the class that its maps explain.
        methods: Whose maps are evaluated.
        seed: Random seed.
        passes: Limit of forward passes; None: no limit.
        progress: Called with forward passes; may raise Cancelled.

    Returns:
        The evaluation's entry in the journal.

    Raises:
        InputError: A method cannot take the image.
        OutputError: The disk is full or nothing may be written there.
        Cancelled: Out of ``progress``.
    """
    found = evaluate_maps(
        prepared,
        methods,
        name=case.case,
        seed=seed,
        budget=passes,
        progress=progress,
    )
    found = found.with_notes(case.public)
    files = write_evaluation(folder, found)
    # The seconds that it took are in evaluation.json, whose size differs with them.
    sizes = sizes_of(path for path in files if path.name != EVALUATION_FILE)
    return _kept(found.evaluation, passes, sizes)


def has_evaluation(folder: Path, entry: CaseEntry, passes: float | None) -> bool:
    """Whether all maps of a case were evaluated with that limit, and the files are there, whole."""
    kept = entry.result.evaluation if entry.result is not None else None
    if kept is None or kept.budget != passes or not is_evaluation_whole(folder, kept):
        return False
    # Methods may have been added since.
    evaluated = {label.partition("@")[0] for label in kept.answers} | set(kept.failed)
    return entry.methods <= evaluated


def _kept(found: Evaluation, passes: float | None, sizes: Mapping[str, int]) -> EvaluationSummary:
    return EvaluationSummary(
        budget=passes,
        cost_tier=str(found.cost_tier),
        failed=tuple(one.method for one in found.failures),
        answers={
            one.label: tuple(answer.in_brief() for answer in one.answers) for one in found.maps
        },
        sizes=sizes,
    )


def passes_of(config: StudyConfig) -> float:
    """Approximate forward passes of a case's evaluation; 0: no evaluation."""
    if not config.evaluate:
        return 0.0
    return config.spec.limits.passes or AFFORDABLE_PASSES


class TwoSteps:
    """The progress of a case whose maps are computed and then evaluated, as one.

    Args:
        progress: Called with the total.
        budget: What the evaluation may cost; 0: there is none.
    """

    def __init__(self, progress: Progress, budget: float) -> None:
        self._progress, self._budget, self._maps = progress, budget, 0.0

    def maps(self, done: float, total: float) -> None:
        """Forward passes of the maps."""
        self._maps = total
        self._progress(done, total + self._budget)

    def evaluation(self, done: float, total: float) -> None:
        """Forward passes of the evaluation, whose cost is known only when it begins."""
        share = self._budget * done / max(total, 1e-9)
        self._progress(self._maps + share, self._maps + self._budget)
