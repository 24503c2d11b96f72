"""A finished case's results as a scene of 3D Slicer, made from its files."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel
import numpy as np
from monai.data import MetaTensor
from numpy.typing import NDArray

from SaliencyExplain.attribution.registry import find_method
from SaliencyExplain.images.boundary import reading
from SaliencyExplain.images.segmentation import Segmentation
from SaliencyExplain.peak import find_peak
from SaliencyExplain.records.case_record import read_case
from SaliencyExplain.studies.kept_results import SCENE

if TYPE_CHECKING:
    from SaliencyExplain.results.attribution_map import Attribution


def write_scene(
    folder: Path, image: MetaTensor, channels: tuple[str, ...], segmentation: Segmentation | None
) -> Path:
    """Writes ``scene.mrb`` into the folder of a finished case, from the files in it.

    The same files give the same bytes, whenever and wherever it is made.

    Args:
        folder: The case's folder, with ``explanation.json`` and the maps.
        image: ``(C, *S)``, the case's image.
        channels: Names of its channels.
        segmentation: The ground truth on the image's grid.

    Returns:
        The file.

    Raises:
        InputError: The image's grid is sheared, which 3D Slicer's files do not keep.
        OutputError: The disk is full or nothing may be written there.
    """
    # Slicer's libraries take a second to load, and most studies do without them.
    from SaliencyExplain.scene.case_nodes import CaseContent, case_scene
    from SaliencyExplain.scene.mrb import save_mrb

    affine = np.asarray(image.affine, dtype=np.float64)
    maps = read_maps(folder, affine)
    first = maps[0]
    peak = find_peak(first.values, first.signed, affine, first.resolution_mm)
    index = np.array([*peak.index, *(0,) * (3 - first.values.ndim), 1.0])
    right, anterior, superior = (float(at) for at in (affine @ index)[:3])
    segments = segmentation.segments if segmentation else ()
    names = channels if len(channels) == image.shape[0] else map(str, range(image.shape[0]))
    scene = case_scene(
        CaseContent(
            name=read_case(folder).case,
            channels=dict(zip(names, np.asarray(image), strict=True)),
            affine=affine,
            maps=maps,
            place=(right, anterior, superior),
            segments={segment.name: (segment.color, segment.mask) for segment in segments},
        )
    )
    save_mrb(scene, folder / SCENE)
    return folder / SCENE


def has_scene(folder: Path) -> bool:
    """Whether a case's scene is there, whole: its directory, which ends the file, can be read."""
    return zipfile.is_zipfile(folder / SCENE)


def read_maps(folder: Path, affine: NDArray[np.float64]) -> list[Attribution]:
    """The maps of a finished case as they were computed.

    Args:
        folder: The case's folder, with ``explanation.json`` and the maps.
        affine: 4x4 of the case's image, which the maps share.

    Raises:
        InputError: The record or a map's file is gone or damaged.
    """
    from SaliencyExplain.scene.case_maps import attribution_map

    record = read_case(folder)
    maps = []
    for map_ in record.maps:
        path = folder / map_.files.map
        with reading(path):
            values = np.asarray(nibabel.load(path).dataobj, np.float32)
        title = find_method(map_.method).title
        maps.append(attribution_map(record, map_, values, affine, title))
    return maps
