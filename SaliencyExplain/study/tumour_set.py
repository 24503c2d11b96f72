"""Cases from the MATLAB files of the brain tumour set: image, class, mask in one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.matlab import is_tumour_slice, read_description
from SaliencyExplain.study.case import Case, safe_name


def tumour_set_cases(root: Path, files: Sequence[Path]) -> list[Case]:
    """A case for each slice, named by its file, with the set's label and the tumour's mask.

    A damaged file is a case as well, so that its failure is told like that of any other;
    MATLAB files of another kind (the set's own ``cvind.mat``) are left out.

    Args:
        root: The folder that is searched.
        files: MATLAB files in it, at any depth.

    Raises:
        InputError: None of them is of the set.
    """
    cases: list[Case] = []
    first_error: InputError | None = None
    others = 0
    for file in files:
        name = safe_name("-".join(file.relative_to(root).with_suffix("").parts))
        try:
            if not is_tumour_slice(file):
                others += 1
                continue
            said = read_description(file)
        except InputError as error:
            first_error = first_error or error
            cases.append(Case(name, ((None, file),), notes=(str(error),)))
            continue
        cases.append(Case(name, ((None, file),), file, label=said.label, patient=said.patient))
    if not any(case.label for case in cases):
        if first_error is not None:
            raise first_error
        raise InputError(
            ErrorCode.FILE_FORMAT,
            f"{root}: none of its {others} MATLAB files is of the brain tumour set (a structure "
            "'cjdata' with image, label and tumorMask).",
        )
    return cases
