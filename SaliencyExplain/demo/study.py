"""Study folders of phantoms, and where the demo classifiers lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from SaliencyExplain import csv_text
from SaliencyExplain.demo.phantoms import Phantom, draw_phantom
from SaliencyExplain.demo.shipped import classifier_folder, shipped_classifiers
from SaliencyExplain.demo.tumours import CLASSES, GLIOMA
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.image_writing import (
    SegmentLabel,
    atomic_file,
    write_label_map,
    write_volume,
)

__all__ = ["STUDY_SEEDS", "classifier_folder", "shipped_classifiers", "write_phantom_study"]

#: Studies draw their phantoms from here on: seeds that no classifier was trained on
#: or measured with.
STUDY_SEEDS = 10_000_000
#: Seeds that a study may use, so that two studies share no phantom.
_LONGEST_STUDY = 10_000

#: The segments of a phantom's segmentation; the marker's voxels are never the tumour's.
_SEGMENTS = (
    SegmentLabel(1, "tumour", (0.90, 0.30, 0.30)),
    SegmentLabel(2, "marker", (0.25, 0.60, 0.95)),
)


def write_phantom_study(
    folder: Path, *, dimensions: int, cases: int, seed: int, marker: bool
) -> Path:
    """Writes a study of fresh phantoms: the tumour classes take turns, then none.

    Volumes are NIfTI, slices 8-bit PNG, segmentations ``.seg.nrrd`` with segments named
    ``tumour`` and ``marker``; a phantom that has neither has no segmentation.

    Args:
        folder: Where to; made if it is missing.
        dimensions: 2 or 3.
        cases: How many phantoms, 1 to 10,000.
        seed: Number of the study; the same number gives the same files.
        marker: Whether the glioma-like cases, and only they, have the marker.

    Returns:
        The table of the cases, ``cases.csv`` in the folder, with paths relative to it.

    Raises:
        InputError: A number is out of range.
        OutputError: The folder cannot be written.
    """
    if not 1 <= cases <= _LONGEST_STUDY:
        raise InputError(
            ErrorCode.VALUE_RANGE,
            f"A study of phantoms has 1 to {_LONGEST_STUDY} cases, not {cases}.",
        )
    if seed < 0:
        raise InputError(
            ErrorCode.VALUE_RANGE, f"The seed of a study is a whole number from 0 on, not {seed}."
        )
    rows = []
    for index in range(cases):
        label = CLASSES[(index + 1) % len(CLASSES)]
        phantom = draw_phantom(
            label,
            STUDY_SEEDS + seed * _LONGEST_STUDY + index,
            dimensions=dimensions,
            marker=marker and label == GLIOMA,
        )
        rows.append(_write_case(folder, f"phantom-{index + 1:03d}", phantom))
    table = folder / "cases.csv"
    with atomic_file(table) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv_text.Writer(file)
        writer.writerow(("case", "image", "segmentation", "label"))
        writer.writerows(rows)
    return table


def _write_case(folder: Path, case: str, phantom: Phantom) -> tuple[str, str, str, str]:
    affine = phantom.image.affine.numpy().astype(np.float64)
    values = phantom.image[0].numpy()
    if values.ndim == 3:
        image = f"{case}_image.nii.gz"
        write_volume(folder / image, values, affine, f"phantom, {phantom.label}")
    else:
        image = f"{case}_image.png"
        _write_picture(folder / image, values)
    segments = [segment for segment in _SEGMENTS if segment.name in phantom.masks]
    if not segments:
        return case, image, "", phantom.label
    labels = np.zeros(values.shape, np.uint8)
    for segment in segments:
        labels[phantom.masks[segment.name]] = segment.label
    segmentation = f"{case}_mask.seg.nrrd"
    write_label_map(folder / segmentation, labels, affine, segments)
    return case, image, segmentation, phantom.label


def _write_picture(path: Path, values: NDArray[np.float32]) -> None:
    """Writes ``(columns, rows)`` as 8-bit grey, the brightest percentile cut off at white."""
    white = float(np.percentile(values, 99.8))
    grey = np.clip(values / white * 255, 0, 255).round().astype(np.uint8)
    with atomic_file(path) as temporary:
        Image.fromarray(np.ascontiguousarray(grey.T)).save(temporary, format="PNG")
