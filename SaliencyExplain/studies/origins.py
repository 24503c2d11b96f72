"""Where the files of a study's cases lie: written beside its results, read by its evaluation."""

from __future__ import annotations

import os
from pathlib import Path

from SaliencyExplain.records.case_entry import CaseEntry
from SaliencyExplain.records.image_record import CaseFiles
from SaliencyExplain.studies.case import Case


def origin_of(case: Case, out: Path) -> CaseFiles | None:
    """A case's files for its ``explanation.json``, relative to the study's output folder.

    They are not in the journal, whose bytes do not depend on where the output lies.

    Args:
        case: The case.
        out: The output folder.

    Returns:
        None where the paths may name the patient.
    """
    if case.private:
        return None
    return CaseFiles(
        images=tuple((name, _from(out, path)) for name, path in case.images),
        segmentation=_from(out, case.segmentation) if case.segmentation else None,
        further_segmentations=tuple(_from(out, path) for path in case.further_segmentations),
        series=case.series,
    )


def case_of(entry: CaseEntry, files: CaseFiles | None, out: Path) -> Case | None:
    """The case of an entry of the journal with its files; None if they are not recorded."""
    if files is None:
        return None

    def file(path: str) -> Path:
        return Path(os.path.normpath(out / path))

    return Case(
        entry.case,
        tuple((name, file(path)) for name, path in files.images),
        file(files.segmentation) if files.segmentation else None,
        label=entry.label,
        series=files.series,
        further_segmentations=tuple(map(file, files.further_segmentations)),
    )


def _from(out: Path, path: Path) -> str:
    try:
        return Path(os.path.relpath(path.resolve(), out.resolve())).as_posix()
    except ValueError:
        # Another drive on Windows.
        return path.resolve().as_posix()
