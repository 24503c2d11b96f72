"""Results of a case that stay where others are added or a computation fails."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.evaluation.image.evaluation_files import CURVES, CURVES_PICTURE
from SaliencyExplain.results.attribution_maps import Explanation
from SaliencyExplain.study.added_methods import merged_notes
from SaliencyExplain.study.case import safe_name
from SaliencyExplain.study.output_folder import HeldFolder
from SaliencyExplain.trial_words import TRIAL_FILE

#: Where folders are written before they are complete, in the output folder.
PARTIAL = ".partial"
#: Of a case's folder.
EXPLANATION, SCENE = "explanation.json", "scene.mrb"


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


def earlier_document(final: Path, explanation: Explanation) -> dict[str, Any]:
    """The document of the results that stay.

    Args:
        final: The case's folder.
        explanation: What is added to it.

    Raises:
        InputError: There is none, or it is of another image or class.
    """
    path = final / EXPLANATION
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        known = document["provenance"].get("image_sha256"), document["target"]["name"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            ErrorCode.STUDY_INCOMPLETE,
            f"{path} is missing or damaged, so no method can be added; delete {final} to compute "
            "the case anew.",
        ) from None
    first = explanation.attributions[0]
    if known != (first.provenance.get("image_sha256"), first.target_name):
        raise InputError(
            ErrorCode.MAP_OUTDATED,
            f"{final} holds maps of another image or class ('{known[1]}' there, "
            f"'{first.target_name}' now), so no method can be added; choose another output folder.",
        )
    return document


def keep_files(final: Path, temporary: Path, gone: Sequence[Mapping[str, Any]]) -> None:
    """Takes the files of earlier results over, but for maps that are replaced and the scene.

    Where a map is replaced the trial goes, too: it was of the map before.

    Args:
        final: The case's folder.
        temporary: The folder that takes its place, with the new maps.
        gone: What the earlier document says of the maps that are replaced.
    """
    left_out = {SCENE, EXPLANATION, *(name for one in gone for name in one["files"].values())}
    for path in final.iterdir():
        if gone and _is_of_trial(path.name):
            continue
        if path.is_file() and path.name not in left_out and not (temporary / path.name).exists():
            _link(str(path), str(temporary / path.name))


def _is_of_trial(name: str) -> bool:
    return name in (TRIAL_FILE, CURVES, CURVES_PICTURE) or name.startswith("card-")


def with_earlier(
    content: Mapping[str, Any], earlier: Mapping[str, Any], computed: Collection[str]
) -> dict[str, Any]:
    """A case's document with what its earlier results say of the maps that stay.

    Args:
        content: The document, whose maps are those that stay and the new ones.
        earlier: The document of the earlier results.
        computed: The methods that were computed now.
    """
    failures = [one for one in earlier["failures"] if one["method"] not in computed]
    return {
        **content,
        "yardsticks": content["yardsticks"] or earlier["yardsticks"],
        "failures": [*failures, *content["failures"]],
        "notes": merged_notes(earlier["notes"], content["notes"], computed),
        "timings": {**earlier["timings"], **content["timings"]},
    }
