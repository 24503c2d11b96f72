"""Results of earlier runs of a study, and the remaining work."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.errors import ErrorCode, InputError, OutputError
from SaliencyExplain.plain_text import some_of
from SaliencyExplain.records.case_entry import CaseEntry
from SaliencyExplain.studies.added_methods import to_compute
from SaliencyExplain.studies.case import Case
from SaliencyExplain.studies.case_evaluation import has_evaluation
from SaliencyExplain.studies.case_files import are_there, are_whole
from SaliencyExplain.studies.case_reading import PendingCase
from SaliencyExplain.studies.case_scene import has_scene
from SaliencyExplain.studies.journal import Journal, source_digest
from SaliencyExplain.studies.study_config import StudyConfig

#: Cases that a message names.
_NAMED = 5


def earlier_results(
    config: StudyConfig, journal: Journal, cases: Sequence[Case]
) -> tuple[set[str], list[str]]:
    """The results of earlier runs.

    Returns:
        The cases that are done and whose files are there, and those that are done and whose files
        are gone, cut off or damaged.
    """
    done = [case.case for case in cases if _is_done(journal, case)]
    whole = {name for name in done if are_whole(config.out / name, journal.entry(name))}
    return whole, [name for name in done if name not in whole]


def check_files(out: Path, entries: Iterable[CaseEntry]) -> None:
    """Raises OutputError where the files of a case that is done are gone or cut off."""
    done = (entry for entry in entries if entry.result is not None)
    gone = [entry.case for entry in done if not are_there(out / entry.case, entry)]
    if gone:
        raise OutputError(
            ErrorCode.STUDY_INCOMPLETE,
            f"{out}: files of {some_of(gone, _NAMED, counted=True)} were deleted or cut off during "
            "the run. Start the study again, and only what is missing is computed.",
        )


def find_pending(
    config: StudyConfig,
    asked: Sequence[Method],
    journal: Journal,
    case: Case,
    whole: Collection[str],
) -> PendingCase | None:
    """What is left to do for a case; None: nothing.

    Args:
        config: What is wanted, with all methods of the folder.
        asked: The methods that this run is asked for.
        journal: The journal.
        case: The case.
        whole: The cases whose maps are there.
    """
    folder, passes = config.out / case.case, config.spec.limits.passes
    entry, stays = journal.done(case.case), case.case in whole
    missing = to_compute(asked, config.methods, entry, stays=stays)
    if entry is None or not stays:
        return PendingCase(case, methods=missing)
    bare = config.scene and not has_scene(folder)
    not_evaluated = config.evaluate and not has_evaluation(folder, entry, passes)
    return PendingCase(case, entry, missing) if missing or bare or not_evaluated else None


def _is_done(journal: Journal, case: Case) -> bool:
    if case.case not in journal:
        return False
    entry = journal.entry(case.case)
    try:
        return entry.result is not None and entry.source == source_digest(case)
    except InputError:
        return False


def notes_of_damage(lost: Sequence[str], lines: int) -> list[str]:
    """Notes for the user on earlier results that were missing or damaged.

    Args:
        lost: The cases whose files were not.
        lines: Damaged lines of the journal.
    """
    notes = []
    if lost:
        notes.append(
            f"The files of {some_of(lost, _NAMED, counted=True)} were missing, truncated or "
            "damaged: computed again."
        )
    if lines:
        notes.append(
            f"{lines} of the journal's lines were damaged: cases without another line were "
            "computed again."
        )
    return notes
