"""Study layouts of plugins: recognition of their folders, and the cases in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from SaliencyExplain.errors import Cancelled, ErrorCode, InputError, SaliencyExplainError
from SaliencyExplain.plugins import STUDY_LAYOUTS, Plugin, plugins
from SaliencyExplain.safe_names import safe_name
from SaliencyExplain.studies.case import Case, may_name_patient
from SaliencyExplain.studies.file_names import csv_advice


@dataclass(frozen=True)
class StudyFolder:
    """The input of a study layout.

    Attributes:
        path: The folder.
        files: All files in it at any depth, in natural order, without hidden files, files of the
            system and results of this program. DICOM files are among them.
        channels: Names of the classifier's channels, in its order; empty where it does not matter.
        keep_identifiers: Whether outputs may have names of files that may identify a patient.
    """

    path: Path
    files: tuple[Path, ...]
    channels: tuple[str, ...] = ()
    keep_identifiers: bool = False


#: Gives the cases of a folder; None where the folder has another layout. The images and
#: segmentations of a case are files of the folder, or folders in it.
StudyLayout: TypeAlias = Callable[[StudyFolder], Sequence[Case] | None]


def plugin_cases(folder: StudyFolder) -> tuple[list[Case] | None, list[str]]:
    """The cases of a folder whose layout a plugin recognises.

    Every plugin is called, and one that fails does not stop the others.

    Args:
        folder: The folder.

    Returns:
        The cases, None if no plugin recognises the layout; and a note for each plugin that failed.

    Raises:
        InputError: Several plugins recognise the layout, or the only one that does refuses the
            contents.
    """
    found: dict[Plugin, list[Case]] = {}
    refusals: list[SaliencyExplainError] = []
    notes: list[str] = []
    for plugin in plugins(STUDY_LAYOUTS).values():
        try:
            cases = _cases_of(plugin, folder)
        except SaliencyExplainError as error:
            if error.code is ErrorCode.PLUGIN:
                notes.append(str(error))
            else:
                refusals.append(error)
            continue
        if cases is not None:
            found[plugin] = cases
    if len(found) > 1:
        names = ", ".join(f"'{plugin.name}' of {plugin.package}" for plugin in found)
        raise InputError(
            ErrorCode.CASES_LAYOUT,
            f"{folder.path}: several study layouts match it ({names}). {csv_advice()}",
        )
    if found:
        return next(iter(found.values())), notes
    if refusals:
        raise refusals[0]
    return None, notes


def _cases_of(plugin: Plugin, folder: StudyFolder) -> list[Case] | None:
    layout = plugin.load()
    if not callable(layout):
        raise plugin.refused(f"{plugin.target} is not a function")
    try:
        cases: Any = layout(folder)
    except (SaliencyExplainError, Cancelled):
        raise
    except Exception as error:
        # Not the text: it may quote a name that identifies a patient.
        raise plugin.refused(f"it failed with {type(error).__name__}") from error
    if cases is None:
        return None
    if not isinstance(cases, Sequence) or not all(isinstance(case, Case) for case in cases):
        raise plugin.refused("it returns neither None nor a list of cases")
    known = {folder.path, *folder.files}
    for file in folder.files:
        known.update(file.parents[: len(file.relative_to(folder.path).parts) - 1])
    for case in cases:
        strange = [file for file in case.files if file not in known]
        if strange or not case.images:
            what = f"names {strange[0].name}, which does not exist" if strange else "has no image"
            raise InputError(
                ErrorCode.CASES_LAYOUT,
                f"{folder.path}: by the study layout '{plugin.name}' of the package "
                f"{plugin.package} the case {safe_name(case.case)} {what}. {csv_advice()}",
            )
    return [
        replace(
            case,
            case=safe_name(case.case),
            private=not folder.keep_identifiers and (case.private or may_name_patient(case.paths)),
        )
        for case in cases
    ]
