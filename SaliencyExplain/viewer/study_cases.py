"""The cases of a finished study: their figures, and what of each can be shown."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from monai.data import MetaTensor

from SaliencyExplain.engine.queue.allowed_paths import AllowedPaths
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.reading import read_channels
from SaliencyExplain.images.segmentation_files import read_ground_truths
from SaliencyExplain.records.case_entry import CaseEntry
from SaliencyExplain.records.journal_file import JournalFile
from SaliencyExplain.results.attribution_map import Attribution
from SaliencyExplain.scene import names
from SaliencyExplain.scene.arrays import volume_values
from SaliencyExplain.scene.attributions import attributions_of, read_attribution
from SaliencyExplain.scene.mrb import open_mrb
from SaliencyExplain.scene.nodes import given_segmentations, nodes_of
from SaliencyExplain.scene.segmentations import Color, masks_on_grid
from SaliencyExplain.studies.case import Case, safe_name
from SaliencyExplain.studies.case_scene import SCENE, read_maps
from SaliencyExplain.studies.discovery import discover
from SaliencyExplain.studies.journal import source_digest

#: Figures of the comparison that the table offers, with their titles; ``unit`` is that of lengths.
METRICS = {
    "auroc": "AUROC",
    "energy_inside": "Energy inside",
    "energy_chance": "by chance",
    "pointing": "Peak inside",
    "dice_best": "Best Dice",
    "centre_distance_mm": "Distance, {unit}",
}


@dataclass(frozen=True, eq=False)
class CaseData:
    """What a case's views are made of.

    Attributes:
        channels: ``{name: values (*S)}``.
        affine: 4x4 of the channels.
        maps: As they were computed.
        segments: ``{name: (RGB in [0, 1], mask (*S))}``; empty where there is none.
        path: Where the image comes from.
        notes: What is to be told of the image and the segments.
    """

    channels: Mapping[str, np.ndarray]
    affine: np.ndarray
    maps: Sequence[Attribution]
    segments: Mapping[str, tuple[Color, np.ndarray]]
    path: Path
    notes: tuple[str, ...] = ()


class StudyCases:
    """A study's output folder, and the folders in which its images may lie."""

    def __init__(self, folder: Path, data: Sequence[Path]) -> None:
        """Reads the journal.

        Raises:
            InputError: The folder holds no study.
        """
        self.folder = folder
        self._data = data
        self.journal = JournalFile.read(folder)
        self.channels: list[str] = list(self.journal.configuration["channels"])

    def picture(self, number: int) -> Path | None:
        """The picture of a case's first map; None where there is none."""
        entry = self._entry(number)
        if entry.result is None or not entry.result.maps:
            return None
        path = self._case_folder(entry) / entry.result.maps[0].files.picture
        return path if path.is_file() else None

    def read(self, number: int) -> CaseData:
        """Reads a case: from its scene, else from the study's own images.

        Raises:
            InputError: The case failed, or its image is not to be found.
        """
        entry = self._entry(number)
        if entry.result is None:
            raise InputError(ErrorCode.CASE_FAILED, f"{entry.case} failed: {entry.reason}")
        scene = self._case_folder(entry) / SCENE
        if scene.is_file():
            return _from_scene(scene)
        for case in self._sources:
            if case.case == entry.case and source_digest(case) == entry.source:
                return self._from_files(entry, case)
        raise InputError(
            ErrorCode.SELECTION,
            f"The image of {entry.case} is not here: name the study's folder with --data, "
            "or make the study again with --scene.",
        )

    def folder_of(self, number: int) -> Path:
        """The folder of a case's results."""
        return self._case_folder(self._entry(number))

    @cached_property
    def _sources(self) -> list[Case]:
        """All cases in the folders of ``--data``, and in tables of cases that lie there."""
        found: list[Case] = []
        for folder in self._data:
            for place in (folder, *sorted(folder.glob("*.csv"))):
                # Folders and tables of other things may be there, too.
                with contextlib.suppress(InputError):
                    found += discover(place, channels=self.channels, allowed=self._check_inside)
        return found

    def _check_inside(self, path: Path) -> None:
        """Raises InputError where a table names a file outside of the folders of ``--data``."""
        AllowedPaths(self._data).inside(path.absolute())

    def _entry(self, number: int) -> CaseEntry:
        cases = self.journal.cases()
        if not 0 <= number < len(cases):
            raise InputError(ErrorCode.CASES_MISSING, f"The study has {len(cases)} cases.")
        return self.journal.entry(cases[number])

    def _case_folder(self, entry: CaseEntry) -> Path:
        return self.folder / safe_name(entry.case)

    def _from_files(self, entry: CaseEntry, case: Case) -> CaseData:
        image: MetaTensor = read_channels(case.paths, self.channels, series=case.series)
        affine = np.asarray(image.affine, dtype=np.float64)
        segments = {}
        notes = [case.public(note) for note in image.meta["notes"]]
        if case.segmentations:
            found, more = read_ground_truths(case.segmentations, image)
            notes += map(case.public, more)
            segments = {one.name: (one.color, one.mask) for one in found.segments} if found else {}
        known = len(self.channels) == image.shape[0]
        titles = self.channels if known else [str(n) for n in range(image.shape[0])]
        return CaseData(
            dict(zip(titles, image.numpy(), strict=True)),
            affine,
            read_maps(self._case_folder(entry), affine),
            segments,
            case.paths[0],
            tuple(notes),
        )


def _from_scene(path: Path) -> CaseData:
    scene = open_mrb(path)
    images = [
        node
        for node in nodes_of(scene, "vtkMRMLScalarVolumeNode")
        if not node.GetAttribute(names.KIND) and not node.IsA("vtkMRMLLabelMapVolumeNode")
    ]
    if not images:
        raise InputError(ErrorCode.FILE_FORMAT, f"{path}: holds no image.")
    affine = volume_values(images[0])[1]
    segments: dict[str, tuple[Color, np.ndarray]] = {}
    for node in given_segmentations(scene):
        found = masks_on_grid(node, images[0])
        segments |= {
            name: (color, mask)
            for name, color, mask in zip(found.names, found.colors, found.masks, strict=True)
        }
    return CaseData(
        {node.GetName(): volume_values(node)[0] for node in images},
        affine,
        [read_attribution(node) for node in attributions_of(scene)],
        segments,
        path,
    )
