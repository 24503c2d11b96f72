"""Study folders of phantoms: found by the study command, read back by other libraries."""

from __future__ import annotations

import hashlib

import nibabel
import numpy as np
import pytest
from PIL import Image

from SaliencyExplain.demo.phantoms import draw_phantom
from SaliencyExplain.demo.study import STUDY_SEEDS, classifier_folder, write_phantom_study
from SaliencyExplain.demo.tumours import CLASSES, GLIOMA
from SaliencyExplain.errors import InputError
from SaliencyExplain.images.reading import read_image
from SaliencyExplain.images.segmentation import read_segmentation
from SaliencyExplain.studies.discovery import discover


@pytest.mark.slow
@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_study_is_discovered_with_its_truth(tmp_path, dimensions):
    table = write_phantom_study(tmp_path, dimensions=dimensions, cases=4, seed=1, marker=True)
    cases = discover(table)
    assert sorted(case.label for case in cases) == sorted(CLASSES)
    for index, case in enumerate(cases):
        truth = draw_phantom(
            case.label,
            STUDY_SEEDS + 10_000 + index,
            dimensions=dimensions,
            marker=case.label == GLIOMA,
        )
        image = read_image(case.paths[0])
        assert image.affine.numpy() == pytest.approx(truth.image.affine.numpy(), abs=1e-4)
        correlation = np.corrcoef(image.numpy().ravel(), truth.image.numpy().ravel())[0, 1]
        assert correlation > 0.99
        if not truth.masks:
            assert case.segmentation is None
            continue
        segments = read_segmentation(case.segmentation, image).segments
        assert {segment.name for segment in segments} == set(truth.masks)
        for segment in segments:
            assert np.array_equal(segment.mask, truth.masks[segment.name])


def test_the_files_are_read_by_nibabel_and_pillow(tmp_path):
    write_phantom_study(tmp_path / "3d", dimensions=3, cases=1, seed=0, marker=False)
    write_phantom_study(tmp_path / "2d", dimensions=2, cases=1, seed=0, marker=False)
    volume = nibabel.load(tmp_path / "3d" / "phantom-001_image.nii.gz")
    assert volume.header.get_zooms() == pytest.approx((2.5, 2.5, 3.0))
    assert nibabel.aff2axcodes(volume.affine) == ("R", "A", "S")
    picture = Image.open(tmp_path / "2d" / "phantom-001_image.png")
    assert (picture.mode, picture.size) == ("L", (184, 224))


def test_paths_in_the_table_are_relative_so_that_the_folder_can_be_moved(tmp_path):
    write_phantom_study(tmp_path / "here", dimensions=2, cases=2, seed=0, marker=False)
    (tmp_path / "here").rename(tmp_path / "there")
    assert len(discover(tmp_path / "there" / "cases.csv")) == 2


def test_the_same_seed_writes_the_same_bytes(tmp_path):
    digests = []
    for name in ("a", "b"):
        write_phantom_study(tmp_path / name, dimensions=2, cases=3, seed=5, marker=True)
        files = sorted((tmp_path / name).iterdir())
        digests.append([(f.name, hashlib.sha256(f.read_bytes()).hexdigest()) for f in files])
    assert digests[0] == digests[1]


def test_without_markers_no_case_has_one(tmp_path):
    table = write_phantom_study(tmp_path, dimensions=2, cases=4, seed=1, marker=False)
    for case in discover(table):
        if case.segmentation:
            segments = read_segmentation(case.segmentation, read_image(case.paths[0])).segments
            assert [segment.name for segment in segments] == ["tumour"]


@pytest.mark.parametrize(("cases", "seed"), [(0, 0), (10_001, 0), (1, -1)])
def test_numbers_out_of_range_are_refused_and_nothing_is_written(tmp_path, cases, seed):
    with pytest.raises(InputError):
        write_phantom_study(tmp_path / "x", dimensions=2, cases=cases, seed=seed, marker=False)
    assert not (tmp_path / "x").exists()


def test_an_unknown_classifier_is_answered_with_the_nearest():
    with pytest.raises(InputError, match="phantom-3d-honest"):
        classifier_folder("phantom-3d-honst")
