"""The cases of a study's output folder, and one of them in the scene."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from SaliencyExplain.csv_text import read_lines, read_table
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.figures import CHANNEL, EACH_SEGMENT
from SaliencyExplain.peak import RESOLUTION_MM
from SaliencyExplain.safe_names import safe_name
from SaliencyExplain.scene.arrays import volume_values
from SaliencyExplain.scene.attributions import AttributionMap, add_attribution
from SaliencyExplain.scene.kept_evaluations import keep_written
from SaliencyExplain.study.left_out import LeftOut
from SaliencyExplain.study.table_columns import KNOWN, case_names, find_columns, items
from SaliencyExplain.study.table_paths import find_path

from .SceneFiles import add_segments, load_segmentation, load_volume

_PREDICTIONS, _FAILURES, _EXPLANATION = "predictions.csv", "failures.csv", "explanation.json"
_JOURNAL = "journal.jsonl"
_IMAGES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
_MASK_WORDS = ("seg", "mask", "label")
#: A study folder may hold millions of files; its cases lie near its top.
_DEEPEST = 3


@dataclass(frozen=True)
class StudyCase:
    """A row of the panel's table of cases.

    Attributes:
        name: Of the case, and of its folder.
        done: Whether it has maps.
        label: Its true class, where it is known.
        predicted: The classifier's answer.
        reason: Why it failed.
    """

    name: str
    done: bool
    label: str = ""
    predicted: str = ""
    reason: str = ""


@dataclass(frozen=True)
class CaseSources:
    """Where a case comes from.

    Attributes:
        images: A file, or a folder of DICOM slices, for each channel.
        segmentation: File of its ground truth, of several the first; None: it has none.
        further_segmentations: The files after the first.
    """

    images: tuple[Path, ...]
    segmentation: Path | None = None
    further_segmentations: tuple[Path, ...] = ()


def read_cases(out: Path) -> list[StudyCase]:
    """The cases of an output folder, those that failed last.

    Raises:
        InputError: The folder holds no study, or none that has come to its end.
    """
    done = [
        StudyCase(row["case"], True, row.get("label", ""), row.get("predicted", ""))
        for row in _rows(out / _PREDICTIONS)
    ]
    known = {case.name for case in done}
    failed = [
        StudyCase(row["case"], False, reason=row.get("reason", ""))
        for row in _rows(out / _FAILURES)
        if row["case"] not in known
    ]
    return done + failed


def load_case(
    scene: Any, sources: CaseSources, out: Path, case: str, titles: Mapping[str, str]
) -> tuple[list[Any], list[Any], Any]:
    """Loads one case: the volume of each channel, its maps, and its segmentation if it has one.

    Args:
        scene: Where to.
        sources: Where its volumes are.
        out: The study's output folder.
        case: Name of the case.
        titles: ``{method: name for people}``.

    Returns:
        The volume nodes, the attribution nodes, and the segmentation node or None.

    Raises:
        InputError: The case has no results, or a file cannot be read.
    """
    folder = out / case
    try:
        said = json.loads((folder / _EXPLANATION).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            ErrorCode.STUDY_INCOMPLETE, f"{folder} holds no results of this case."
        ) from error
    images = [load_volume(scene, path, case) for path in sources.images]
    maps = []
    for entry in said["attributions"]:
        loaded = load_volume(scene, folder / entry["files"]["map"], "map")
        values, affine = volume_values(loaded)
        scene.RemoveNode(loaded)
        map_ = _map(said, entry, values, affine, titles)
        maps.append(add_attribution(scene, map_, images[0], images))
        keep_written(maps[-1], folder)
    mask = sources.segmentation
    segmentation = load_segmentation(scene, mask, f"{case} segmentation") if mask else None
    for further in sources.further_segmentations:
        add_segments(scene, segmentation, further)
    return images, maps, segmentation


def _map(
    said: dict[str, Any],
    entry: dict[str, Any],
    values: Any,
    affine: Any,
    titles: Mapping[str, str],
) -> AttributionMap:
    # Cases of earlier versions say it of all maps together only.
    provenance = {
        **said["provenance"],
        **entry.get("provenance", {}),
        RESOLUTION_MM: entry.get(RESOLUTION_MM, 0.0),
        EACH_SEGMENT: entry.get(EACH_SEGMENT, []),
        CHANNEL: entry.get(CHANNEL) or 0,
    }
    return AttributionMap(
        values,
        affine,
        label=entry["label"],
        title=titles.get(entry["method"], entry["method"]),
        signed=entry["signed"],
        target_name=said["target"]["name"],
        classifier_name=str(provenance.get("classifier_name") or provenance.get("classifier", "")),
        parameters={name: given["value"] for name, given in entry["parameters"].items()},
        provenance=provenance,
    )


def _rows(path: Path) -> Iterator[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = read_lines(file)
            header = next(lines, [])
            for line in lines:
                yield dict(zip(header, line, strict=False))
    except OSError as error:
        raise InputError(
            ErrorCode.STUDY_INCOMPLETE, f"{path.parent} holds no finished study ({path.name})."
        ) from error


def find_sources(study: Path, case: str) -> CaseSources:
    """Volumes and segmentation of a case that a study of another day has explained.

    Raises:
        InputError: They are neither in the study's CSV nor named after the case.
    """
    if study.is_file() or (study / "cases.csv").is_file():
        table = study if study.is_file() else study / "cases.csv"
        content = read_table(table, KNOWN)
        columns = find_columns(f"{table}, line 1", content, ())
        names = case_names(content, columns)
        for line, row in content.rows:
            if safe_name(names[line]) == case:
                images = [path for name in columns.images for path in _paths(table, row[name])]
                masks = _paths(table, row[columns.segmentation]) if columns.segmentation else []
                return CaseSources(tuple(images), masks[0] if masks else None, tuple(masks[1:]))
    files = [path for path in _files(study, 0) if case in str(path.relative_to(study))]
    masks = [path for path in files if any(word in path.name.lower() for word in _MASK_WORDS)]
    images = [path for path in files if path not in masks]
    if not images:
        raise InputError(
            ErrorCode.STUDY_INCOMPLETE,
            f"The volume of {case} is not found in {study}: press Start, which finds the cases "
            "again and computes nothing anew.",
        )
    return CaseSources(tuple(images), masks[0] if masks else None)


def read_notes(out: Path) -> list[str]:
    """What a study says of its folder: what was left out of it, and why.

    Args:
        out: The output folder.

    Returns:
        Nothing where there is no journal, or it cannot be read.
    """
    try:
        with (out / _JOURNAL).open(encoding="utf-8") as file:
            said = json.loads(file.readline())
        left_out = [LeftOut.from_json(one).sentence() for one in said.get("left_out", [])]
        return [*map(str, said.get("folder_notes", [])), *left_out]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return []


def _paths(table: Path, cell: str) -> list[Path]:
    """The files of a cell: one, or several separated by ``;``, each a path or ``name=path``."""
    found = []
    for item in items(cell):
        whole = find_path(table.parent, item)
        found.append(whole or find_path(table.parent, item.partition("=")[2] or item))
    missing = [path for path in found if path is None]
    if missing:
        raise InputError(ErrorCode.FILE_MISSING, f"{table}: '{cell}' names a file that is missing.")
    return [path for path in found if path is not None]


def _files(folder: Path, depth: int) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    for entry in entries:
        if entry.is_dir() and depth < _DEEPEST:
            yield from _files(entry, depth + 1)
        elif entry.name.lower().endswith(_IMAGES):
            yield entry
