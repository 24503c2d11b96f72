"""Scenes of finished cases: by a study, by a later run, and without Slicer's libraries."""

from __future__ import annotations

import json
import shutil
import sys
import types
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from SaliencyExplain.attribution.method_selection import select_methods
from SaliencyExplain.bands import label_bands
from SaliencyExplain.errors import ErrorCode
from SaliencyExplain.peak import RESOLUTION_MM, find_peak
from SaliencyExplain.records.case_record import EXPLANATION
from SaliencyExplain.results.study_result import StudyResult
from SaliencyExplain.scene.arrays import volume_values
from SaliencyExplain.scene.attributions import attributions_of, read_attribution
from SaliencyExplain.scene.band_segments import bands_of
from SaliencyExplain.scene.case_nodes import CaseContent, case_scene
from SaliencyExplain.scene.mrb import open_mrb, save_mrb
from SaliencyExplain.scene.nodes import composite_nodes, nodes_of, slice_nodes
from SaliencyExplain.scene.points import readings_at
from SaliencyExplain.scene.slice_pictures import picture_3d, slice_picture
from SaliencyExplain.studies.case import single_case
from SaliencyExplain.studies.case_scene import SCENE
from SaliencyExplain.studies.discovery import discover
from SaliencyExplain.studies.run import run_study
from SaliencyExplain.studies.single import explain_case
from Testing.expected_errors import error_with
from Testing.scene.conftest import GRIDS, SHAPE, attribution, block, place_of
from Testing.studies import config_of
from Testing.study.conftest import bundle as bundle
from Testing.study.conftest import make_study
from Testing.study.conftest import study_folder as study_folder

METHODS = select_methods(["gradcam", "gradient"], [], [])
CASES = ("P1", "P2")

Study = Callable[..., StudyResult]


@pytest.fixture(scope="module")
def study(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Runs a study of two cases into a folder."""
    data = make_study(tmp_path_factory.mktemp("data"), len(CASES))

    def run(out: Path, *, jobs: int = 1, **options: object) -> StudyResult:
        work = config_of(bundle, out, *METHODS, **options)
        return run_study(discover(data), work, jobs=jobs)

    return run


@pytest.fixture(scope="module")
def done(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of the study with scenes, to be read."""
    out = tmp_path_factory.mktemp("done") / "out"
    assert study(out, scene=True).failed == 0
    return out


@pytest.fixture
def copied(done: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(done, tmp_path / "out"))


@pytest.mark.slow
def test_a_studys_scenes_hold_what_its_files_hold(done: Path):
    for case in CASES:
        folder = done / case
        content = json.loads((folder / EXPLANATION).read_text())
        scene = open_mrb(folder / SCENE)
        nodes = attributions_of(scene)
        assert [read_attribution(node).method_title for node in nodes] == ["Grad-CAM", "Gradient"]
        for node, entry in zip(nodes, content["attributions"], strict=True):
            file = nibabel.load(folder / entry["files"]["map"])
            values, to_ras = volume_values(node)
            place = place_of(file.affine, (3, 12, 9))
            index = tuple(np.rint(np.linalg.solve(to_ras, [*place, 1])[:3]).astype(int))
            assert values[index] == np.asarray(file.dataobj)[3, 12, 9]
            np.testing.assert_array_equal(np.sort(values.ravel()),
                                          np.sort(np.asarray(file.dataobj).ravel()))  # fmt: skip
            known = read_attribution(node)
            assert known.label == entry["label"]
            assert known.parameters == {n: p["value"] for n, p in entry["parameters"].items()}
            assert known.provenance["image"] == case
            bands = bands_of(scene, node)
            np.testing.assert_array_equal(volume_values(bands.label_map)[0], label_bands(values))
        names = {node.GetName() for node in nodes_of(scene, "vtkMRMLSegmentationNode")}
        assert "ground truth" in names


@pytest.mark.usefixtures("opengl")
def test_a_scene_is_ready_to_be_looked_at(done: Path):
    scene = open_mrb(done / "P2" / SCENE)
    first = attributions_of(scene)[0]
    image = nodes_of(scene, "vtkMRMLScalarVolumeNode")[0]
    assert image.GetName() == "P2"
    for composite in composite_nodes(scene):
        assert composite.GetBackgroundVolumeID() == image.GetID()
        assert composite.GetForegroundVolumeID() == first.GetID()
    (layout,) = nodes_of(scene, "vtkMRMLLayoutNode")
    assert layout.GetViewArrangement() == layout.SlicerLayoutFourUpView
    values, to_ras = volume_values(first)
    known = read_attribution(first)
    resolution = known.provenance[RESOLUTION_MM]
    peak = place_of(to_ras, find_peak(values, known.signed, to_ras, resolution).index)
    for view in slice_nodes(scene):
        matrix = view.GetSliceToRAS()
        normal = [matrix.GetElement(row, 2) for row in range(3)]
        origin = [matrix.GetElement(row, 3) for row in range(3)]
        assert np.dot(normal, np.subtract(peak, origin)) == pytest.approx(0, abs=0.01)
    (truth,) = (n for n in nodes_of(scene, "vtkMRMLSegmentationNode")
                if n.GetName() == "ground truth")  # fmt: skip
    assert not truth.GetDisplayNode().GetVisibility2DFill()
    reading = readings_at(scene, image, peak)
    assert reading.maps[0].value > 0.9 * values.max()
    assert reading.maps[0].percentile > 95
    assert slice_picture(scene, "axial", peak, (100, 100)).any()
    assert picture_3d(scene, (100, 100)).any()


def contents(folder: Path) -> dict[str, bytes]:
    """All files but those that hold times."""
    names = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in names
        if path.name not in (EXPLANATION, ".lock")
    }


@pytest.mark.slow
def test_scenes_made_later_or_by_two_processes_have_the_same_bytes(
    study: Study, done: Path, tmp_path: Path
):
    expected = contents(done)
    assert f"P2/{SCENE}" in expected
    study(tmp_path / "jobs" / "out", scene=True, jobs=2)
    assert contents(tmp_path / "jobs" / "out") == expected
    later = tmp_path / "later" / "out"
    assert study(later).resumed == 0
    assert not (later / "P1" / SCENE).exists()
    computed = (later / "P1" / EXPLANATION).stat().st_mtime_ns
    assert study(later, scene=True).resumed == 2
    assert (later / "P1" / EXPLANATION).stat().st_mtime_ns == computed
    assert contents(later) == expected


def test_a_study_that_goes_on_without_scenes_keeps_those_that_are_there(study: Study, copied: Path):
    before = contents(copied)
    assert study(copied).resumed == 2
    assert contents(copied) == before
    (copied / "P2" / SCENE).unlink()
    study(copied, scene=True)
    assert contents(copied) == before


def test_a_case_whose_scene_cannot_be_made_keeps_its_other_results(study: Study, copied: Path):
    for file in ("P1/scene.mrb", "P2/scene.mrb"):
        (copied / file).unlink()
    # As long as before: a map that is shorter or gone is computed again.
    damaged = copied / "P1" / "gradient-tumour.nii.gz"
    damaged.write_bytes(bytes(damaged.stat().st_size))
    kept = contents(copied)
    for _ in range(2):
        result = study(copied, scene=True)
        assert (result.resumed, result.failed) == (2, 1)
        _, line = (copied / "failures.csv").read_text().splitlines()
        assert line.startswith("P1,making the scene,")
        assert "gradient-tumour.nii.gz" in line
        assert (copied / "P2" / SCENE).is_file()
        assert not (copied / "P1" / SCENE).exists()
        after = contents(copied)
        for name in ("comparison.csv", "predictions.csv"):
            assert after[name] == kept[name]
        assert {name for name in after if name.startswith("P1/")} == {
            name for name in kept if name.startswith("P1/")
        }


def test_a_sheared_image_has_a_scene_on_the_right_angled_grid_that_it_was_read_onto(
    bundle: Path, tmp_path: Path
):
    data = make_study(tmp_path / "data", 1)
    file = data / "P1_image.nii.gz"
    image = nibabel.load(file)
    sheared = image.affine.copy()
    sheared[0, 2] = 0.5
    values = np.asarray(image.dataobj)
    nibabel.save(nibabel.Nifti1Image(values, sheared), file)
    case = single_case([(None, file)], name="tilted")
    explain_case(case, config_of(bundle, tmp_path / "out", *METHODS, scene=True))
    scene = open_mrb(tmp_path / "out" / "tilted" / SCENE)
    node = nodes_of(scene, "vtkMRMLScalarVolumeNode")[0]
    brightest = tuple(np.unravel_index(np.argmax(values), values.shape))
    found = readings_at(scene, node, place_of(sheared, brightest)).image_value
    assert found > np.quantile(values, 0.97)


def test_one_case_by_itself_has_its_scene_too(bundle: Path, tmp_path: Path):
    data = make_study(tmp_path / "data", 1)
    case = single_case([(None, data / "P1_image.nii.gz")], data / "P1_mask.nii.gz", name="x")
    explain_case(case, config_of(bundle, tmp_path / "out", *METHODS, scene=True))
    assert len(attributions_of(open_mrb(tmp_path / "out" / "x" / SCENE))) == 2


@pytest.mark.parametrize("stranger", [None, types.ModuleType("slicer")])
def test_without_slicers_libraries_a_study_says_so_before_the_first_case(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stranger: types.ModuleType | None
):
    """None is an import that fails; another project's package has the name slicer, too."""
    monkeypatch.setitem(sys.modules, "slicer", stranger)
    with error_with(ErrorCode.PACKAGE_MISSING, "pip install '.[scene]'") as caught:
        study(tmp_path / "out", scene=True)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_whole_numbers_are_kept_as_such_and_others_as_they_are():
    grid = GRIDS["plain"]
    whole = np.random.default_rng(9).integers(-1000, 3000, SHAPE).astype(np.float32)
    half = whole + 0.5
    scene = case_scene(
        CaseContent(
            name="case-001",
            channels={"T1": whole, "FLAIR": half},
            affine=grid,
            maps=[attribution(block((4, 4, 4)), grid)],
            place=(0, 0, 0),
        )
    )
    one, two = nodes_of(scene, "vtkMRMLScalarVolumeNode")[:2]
    assert (one.GetName(), two.GetName()) == ("case-001 T1", "case-001 FLAIR")
    np.testing.assert_array_equal(volume_values(one)[0], whole)
    np.testing.assert_array_equal(volume_values(two)[0], half)
    assert one.GetImageData().GetScalarTypeAsString() == "short"
    assert two.GetImageData().GetScalarTypeAsString() == "float"


def test_an_image_of_two_axes_has_a_scene(tmp_path: Path):
    values = np.random.default_rng(1).normal(size=(30, 40)).astype(np.float32)
    grid = np.diag([-0.5, -0.5, 1.0, 1.0])
    scene = case_scene(
        CaseContent(
            name="X-ray", channels={"grey": values}, affine=grid,
            maps=[attribution(values, grid)], place=(-5.0, -5.0, 0.0),
            segments={"lung": ((0.0, 1.0, 0.0), values > 0)},
        )
    )  # fmt: skip
    save_mrb(scene, tmp_path / "scene.mrb")
    again = open_mrb(tmp_path / "scene.mrb")
    node = attributions_of(again)[0]
    np.testing.assert_array_equal(volume_values(node)[0][..., 0], values)
    assert slice_picture(again, "axial", (-5.0, -5.0, 0.0), (80, 80)).any()


@pytest.mark.slow
def test_a_real_glioma_lies_in_its_place(shared_data: Path, tmp_path: Path):
    folder = shared_data / "brain-glioma-brats-gli-00001-000"
    image = nibabel.load(folder / "t1c.nii.gz")
    tumour = np.asarray(nibabel.load(folder / "seg-BraTS23_1.nii.gz").dataobj) > 0
    strength = tumour * np.asarray(image.dataobj, dtype=np.float32)
    scene = case_scene(
        CaseContent(
            name="case-001",
            channels={"t1c": np.asarray(image.dataobj)},
            affine=image.affine,
            maps=[attribution(strength, image.affine, signed=False)],
            place=place_of(image.affine, np.argwhere(tumour).mean(axis=0)),
            segments={"tumour": ((0.0, 1.0, 0.0), tumour)},
        )
    )
    save_mrb(scene, tmp_path / "scene.mrb")
    assert (tmp_path / "scene.mrb").stat().st_size < 12e6
    again = open_mrb(tmp_path / "scene.mrb")
    node = nodes_of(again, "vtkMRMLScalarVolumeNode")[0]
    inside = place_of(image.affine, np.argwhere(tumour)[1000])
    reading = readings_at(again, node, inside)
    assert reading.segments == ("tumour",)
    assert reading.maps[0].value == reading.image_value
    # In this patient the tumour is on the left: on the viewer's right.
    middle = place_of(image.affine, np.argwhere(tumour).mean(axis=0))
    picture = slice_picture(again, "axial", middle, (200, 200))
    green = (picture[..., 1] > 200) & (picture[..., 0] < 60)
    assert np.argwhere(green)[:, 1].mean() > 110
