"""Checks that the files of a finished case exist and are complete."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from SaliencyExplain.errors import InputError
from SaliencyExplain.evaluation_parts import EVALUATION_FILE
from SaliencyExplain.json_fields import read_object
from SaliencyExplain.records.case_entry import CaseEntry
from SaliencyExplain.records.case_record import EXPLANATION, read_case
from SaliencyExplain.records.evaluation_summary import EvaluationSummary


def sizes_of(paths: Iterable[Path]) -> dict[str, int]:
    """Size in bytes of each file, by its name.

    Raises:
        OSError: A file does not exist.
    """
    return {path.name: path.stat().st_size for path in paths}


def are_there(folder: Path, entry: CaseEntry) -> bool:
    """Whether all maps of a case have the size with which they were written.

    Looks at the sizes alone, so that thousands of cases take no time.

    Args:
        folder: The case's folder.
        entry: Its entry of the journal, done.
    """
    maps = entry.result.maps if entry.result is not None else ()
    sizes = {f"{one.stem}{end}": size for one in maps for end, size in one.sizes.items()}
    return bool(sizes) and (folder / EXPLANATION).is_file() and _have(folder, sizes)


def are_whole(folder: Path, entry: CaseEntry) -> bool:
    """Whether :func:`are_there`, and the case's record is complete and about these maps."""
    if entry.result is None or not are_there(folder, entry):
        return False
    try:
        record = read_case(folder)
    except InputError:
        return False
    named = {one.files.map for one in record.maps}
    return record.case == entry.case and named == {one.files.map for one in entry.result.maps}


def is_evaluation_whole(folder: Path, evaluation: EvaluationSummary) -> bool:
    """Whether the files of the evaluation of a case's maps are there.

    Args:
        folder: The case's folder.
        evaluation: What the journal keeps of it.
    """
    try:
        read_object(folder / EVALUATION_FILE)
    except InputError:
        return False
    return _have(folder, evaluation.sizes)


def _have(folder: Path, sizes: Mapping[str, int]) -> bool:
    try:
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except OSError:
        return False
