"""A case of a study's output folder in the scene, and where its volumes lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from SaliencyExplain.csv_text import read_table
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.records.case_record import read_case
from SaliencyExplain.safe_names import safe_name
from SaliencyExplain.scene.arrays import volume_values
from SaliencyExplain.scene.attributions import add_attribution
from SaliencyExplain.scene.case_maps import attribution_map
from SaliencyExplain.scene.kept_evaluations import keep_written
from SaliencyExplain.studies.table_columns import KNOWN, case_names, find_columns, items
from SaliencyExplain.studies.table_paths import find_path

from .SceneFiles import add_segments, load_segmentation, load_volume

_IMAGES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
_MASK_WORDS = ("seg", "mask", "label")
#: A study folder may hold millions of files; its cases lie near its top.
_DEEPEST = 3


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
        InputError: The case has no results, its record is damaged, or a file cannot be read.
    """
    folder = out / case
    record = read_case(folder)
    images = [load_volume(scene, path, case) for path in sources.images]
    maps = []
    for found in record.maps:
        loaded = load_volume(scene, folder / found.files.map, "map")
        values, affine = volume_values(loaded)
        scene.RemoveNode(loaded)
        title = titles.get(found.method, found.method)
        map_ = attribution_map(record, found, values, affine, title)
        maps.append(add_attribution(scene, map_, images[0], images))
        keep_written(maps[-1], folder)
    mask = sources.segmentation
    segmentation = load_segmentation(scene, mask, f"{case} segmentation") if mask else None
    for further in sources.further_segmentations:
        add_segments(scene, segmentation, further)
    return images, maps, segmentation


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
            "again without computing.",
        )
    return CaseSources(tuple(images), masks[0] if masks else None)


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
