"""Results of a case that stay where others are added or a computation fails."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.evaluation.image.evaluation_files import CURVES, CURVES_PICTURE
from SaliencyExplain.evaluation_parts import EVALUATION_FILE
from SaliencyExplain.records.case_record import EXPLANATION, CaseRecord, read_case
from SaliencyExplain.records.map_record import MapFiles
from SaliencyExplain.results.image_explanation import Explanation
from SaliencyExplain.studies.case import safe_name
from SaliencyExplain.studies.output_folder import HeldFolder

#: Where folders are written before they are complete, in the output folder.
PARTIAL = ".partial"
#: The scene of 3D Slicer in a case's folder.
SCENE = "scene.mrb"


@contextlib.contextmanager
def put_back_on_error(held: HeldFolder, case: str) -> Iterator[None]:
    """Puts the results of a case back as they were where the block ends with an error.

    Args:
        held: The output folder; nothing is done once it is another one.
        case: The case's name; where it had no results it has none after the error.
    """
    folder = held.path
    final = folder / safe_name(case)
    if not (final / EXPLANATION).is_file():
        try:
            yield
        except BaseException:
            if held.is_there:
                remove_case(folder, case)
            raise
        return
    copy = folder / PARTIAL / f"{final.name}-{os.getpid()}-before"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(final, copy, copy_function=_link)
    try:
        yield
    except BaseException:
        if held.is_there:
            shutil.rmtree(final, ignore_errors=True)
            os.rename(copy, final)
        raise
    finally:
        if held.is_there:
            shutil.rmtree(copy, ignore_errors=True)
            with contextlib.suppress(OSError):
                (folder / PARTIAL).rmdir()


def remove_case(folder: Path, case: str) -> None:
    """Removes the results of an earlier run for a case that now fails."""
    final = folder / safe_name(case)
    if (final / EXPLANATION).is_file():
        shutil.rmtree(final, ignore_errors=True)


def clear_partial(folder: Path) -> None:
    """Removes what a killed process left unfinished in an output folder."""
    shutil.rmtree(folder / PARTIAL, ignore_errors=True)


def _link(source: str, target: str) -> str:
    """A second name for a file, or a copy where the file system has no such thing.

    Results are replaced as whole files and never changed, so a second name is as good.
    """
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


def earlier_record(final: Path, explanation: Explanation) -> CaseRecord:
    """The record of the results that stay.

    Args:
        final: The case's folder.
        explanation: What is added to it.

    Raises:
        InputError: There is none, it is damaged, or it is of another image or class.
    """
    record, first = read_case(final), explanation.attributions[0]
    known = record.provenance.get("image_sha256"), record.target_name
    if known != (first.provenance.get("image_sha256"), first.target_name):
        raise InputError(
            ErrorCode.MAP_OUTDATED,
            f"{final}: it has maps of another image or class ('{known[1]}' there, "
            f"'{first.target_name}' now), so no method can be added. Choose another output folder.",
        )
    return record


def keep_files(final: Path, temporary: Path, gone: Sequence[MapFiles]) -> None:
    """Takes the files of earlier results over, but for maps that are replaced and the scene.

    Where a map is replaced the evaluation goes, too: it was of the map before.

    Args:
        final: The case's folder.
        temporary: The folder that takes its place, with the new maps.
        gone: The files of the maps that are replaced.
    """
    left_out = {SCENE, EXPLANATION, *(name for one in gone for name in one.names)}
    for path in final.iterdir():
        if gone and _is_of_evaluation(path.name):
            continue
        if path.is_file() and path.name not in left_out and not (temporary / path.name).exists():
            _link(str(path), str(temporary / path.name))


def _is_of_evaluation(name: str) -> bool:
    return name in (EVALUATION_FILE, CURVES, CURVES_PICTURE) or name.startswith("card-")
