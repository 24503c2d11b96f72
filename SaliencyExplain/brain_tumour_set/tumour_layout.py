"""A study of the brain tumour set: image, class and mask in one MATLAB file."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from SaliencyExplain.brain_tumour_set.matlab_files import (
    SUFFIX,
    is_tumour_slice,
    read_description,
)
from SaliencyExplain.errors import InputError
from SaliencyExplain.images.dicom_header import is_dicom
from SaliencyExplain.studies.case import Case, safe_name
from SaliencyExplain.studies.file_names import image_suffix
from SaliencyExplain.studies.study_layout import StudyFolder


def tumour_set_cases(folder: StudyFolder) -> list[Case] | None:
    """A case for each slice, named by its file, with the set's label and the tumour's mask.

    A damaged file is a case as well, so that its failure is told like that of any other;
    MATLAB files of another kind (the set's own ``cvind.mat``) are left out.

    Args:
        folder: The study folder.

    Returns:
        None where no MATLAB file is of the set, or other images lie beside them.

    Raises:
        InputError: All MATLAB files that may be of the set are damaged or of an older version of
            MATLAB, or the package h5py is missing.
    """
    files = [file for file in folder.files if file.suffix.lower() == SUFFIX]
    if not files or _has_other_images(folder.files):
        return None
    cases: list[Case] = []
    first_error: InputError | None = None
    for file in files:
        name = safe_name("-".join(file.relative_to(folder.path).with_suffix("").parts))
        try:
            if not is_tumour_slice(file):
                continue
            said = read_description(file)
        except InputError as error:
            first_error = first_error or error
            cases.append(Case(name, ((None, file),), notes=(str(error),)))
            continue
        cases.append(Case(name, ((None, file),), file, label=said.label, patient=said.patient))
    if any(case.label for case in cases):
        return cases
    if first_error is not None:
        raise first_error
    return None


def _has_other_images(files: Sequence[Path]) -> bool:
    for file in files:
        with contextlib.suppress(OSError):
            if file.suffix.lower() != SUFFIX and (image_suffix(file) or is_dicom(file)):
                return True
    return False
