"""Whether the files of a case that the journal calls done are there, whole."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from SaliencyExplain.study.case_folder import EXPLANATION
from SaliencyExplain.trial_words import TRIAL_FILE

#: In an entry of the journal, of a map and of a trial: ``{end of the name or name: bytes}``.
SIZES = "bytes"


def sizes_of(paths: Iterable[Path]) -> dict[str, int]:
    """Size in bytes of each file, by its name.

    Raises:
        OSError: One is not there.
    """
    return {path.name: path.stat().st_size for path in paths}


def are_there(folder: Path, entry: Mapping[str, Any]) -> bool:
    """Whether all maps of a case have the size with which they were written.

    Looks at the sizes alone, so that thousands of cases take no time.

    Args:
        folder: The case's folder.
        entry: Its entry of the journal, done.
    """
    maps = entry["maps"]
    sizes = (
        {f"{one['files']}{suffix}": size for one in maps for suffix, size in one[SIZES].items()}
        if all(SIZES in one for one in maps)
        else {}
    )
    return bool(sizes) and (folder / EXPLANATION).is_file() and _have(folder, sizes)


def are_whole(folder: Path, entry: Mapping[str, Any]) -> bool:
    """Whether :func:`are_there`, and the case's document is complete and about these maps."""
    if not are_there(folder, entry):
        return False
    document = _document(folder / EXPLANATION)
    try:
        named = {one["files"]["map"] for one in document["attributions"]}
        return document["case"] == entry["case"] and named == {
            f"{one['files']}.nii.gz" for one in entry["maps"]
        }
    except (KeyError, TypeError):
        return False


def is_trial_whole(folder: Path, trial: Mapping[str, Any]) -> bool:
    """Whether the files of a trial are there.

    Args:
        folder: The case's folder.
        trial: What the journal keeps of the trial.
    """
    return bool(_document(folder / TRIAL_FILE)) and _have(folder, trial.get(SIZES, {}))


def _have(folder: Path, sizes: Mapping[str, int]) -> bool:
    try:
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except OSError:
        return False


def _document(path: Path) -> dict[str, Any]:
    """The content; empty where the file is gone, cut off or no JSON object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
