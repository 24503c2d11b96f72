"""The classifier that looks at the marker is flagged at the marker, the honest one is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from SaliencyExplain.demo.phantoms import (
    MARKER_MARGIN,
    MARKER_SIZE,
    SHAPE_3D,
    SPACING_3D,
    draw_phantom,
)
from SaliencyExplain.demo.study import classifier_folder
from SaliencyExplain.demo.tumours import GLIOMA
from SaliencyExplain.evaluation.study.study_evaluation import StudyEvaluation, evaluate_study
from SaliencyExplain.images.image_writing import SegmentLabel, write_label_map, write_volume
from SaliencyExplain.studies.discovery import discover
from SaliencyExplain.studies.run import run_study
from Testing.studies import config_of

COUNT = 6


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Glioma-like phantoms with the marker, which the segmentations do not show."""
    folder = tmp_path_factory.mktemp("phantoms")
    for number in range(COUNT):
        phantom = draw_phantom(GLIOMA, 20_000_000 + number, marker=True)
        affine = phantom.image.affine.numpy().astype(np.float64)
        write_volume(folder / f"P{number}_image.nii.gz", phantom.image[0].numpy(), affine)
        write_label_map(
            folder / f"P{number}_mask.seg.nrrd", phantom.masks["tumour"].astype(np.uint8), affine,
            [SegmentLabel(1, "tumour", (0.9, 0.3, 0.3))],
        )  # fmt: skip
    return folder


def evaluated(phantoms: Path, classifier: str, out: Path) -> StudyEvaluation:
    config = config_of(classifier_folder(classifier), out, "gradient", target=GLIOMA)
    result = run_study(discover(phantoms), config)
    assert result.failed == 0
    # The journal names the files of the phantoms.
    return evaluate_study(out)


@pytest.mark.slow
def test_the_classifier_that_looks_at_the_marker_is_flagged_at_the_marker(phantoms, tmp_path):
    (found,) = evaluated(phantoms, "phantom-3d-shortcut", tmp_path / "out").fixed_places
    assert found.alarm
    assert found.stands_out == 1
    sides = np.array(SHAPE_3D) * SPACING_3D
    marker = 1 - (MARKER_MARGIN + MARKER_SIZE / 2) / sides
    assert np.abs((np.array(found.place) - marker) * sides).max() < MARKER_SIZE


@pytest.mark.slow
def test_the_honest_classifier_on_the_same_images_is_not(phantoms, tmp_path):
    found = evaluated(phantoms, "phantom-3d-honest", tmp_path / "out")
    (place,) = found.fixed_places
    assert not place.alarm
    tumour = next(one for one in found.places if one.place == "segment tumour")
    assert tumour.energy.low > 3 * tumour.volume
