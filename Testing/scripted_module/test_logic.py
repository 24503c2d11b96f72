"""The logic from end to end: a real scene, a real engine, phantoms with a known tumour."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import slicer
import vtk
from numpy.testing import assert_allclose
from SlicerSaliencyExplainLib.Images import read_image as read_nodes
from SlicerSaliencyExplainLib.Logic import SaliencyExplainLogic
from SlicerSaliencyExplainLib.Samples import SAMPLES, load_sample
from SlicerSaliencyExplainLib.SceneFiles import add_segments, load_segmentation
from SlicerSaliencyExplainLib.StudyCases import (
    CaseSources,
    find_sources,
    load_case,
)

from SaliencyExplain.demo.study import classifier_folder, write_phantom_study
from SaliencyExplain.engine.wire.requests import PredictRequest, StudyRequest
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.reading import read_image
from SaliencyExplain.records.journal_file import JournalFile
from SaliencyExplain.records.study_rows import study_rows
from SaliencyExplain.scene.arrays import volume_values
from SaliencyExplain.scene.attributions import attributions_of, read_attribution
from SaliencyExplain.scene.names import IMAGE_ROLE
from SaliencyExplain.scene.segmentations import masks_on_grid
from SaliencyExplain.scene.volume_nodes import add_image
from SaliencyExplain.specification.spec import ExplainSpec, MethodChoice
from SaliencyExplain.voxel_volume import Volume
from Testing.expected_errors import error_with

from .conftest import WAIT_SECONDS

GLIOMA = "glioma-like"


class Case:
    """A phantom in the scene, and the logic with the honest classifier open."""

    def __init__(self, scene: Any, engine: Any, classifier: str = "phantom-3d-honest") -> None:
        self.scene = scene
        self.logic = SaliencyExplainLogic(engine, scene)
        self.failures: list[Any] = []
        self.answers: list[Any] = []
        self.volume, self.segmentation = load_sample(scene)
        self.open(classifier)

    def open(self, classifier: str) -> None:
        call = self.logic.open_classifier(
            str(classifier_folder(classifier)), failed=self.failures.append
        )
        while not call.finished:
            self.logic.calls.deliver()
        assert self.failures == []

    def centre(self) -> tuple[float, float, float]:
        """The middle of the tumour, RAS mm."""
        ras = [0.0] * 3
        identity = self.segmentation.GetSegmentation().GetNthSegmentID(0)
        self.segmentation.GetSegmentCenterRAS(identity, ras)
        return ras[0], ras[1], ras[2]

    def tumour(self) -> Any:
        return masks_on_grid(self.segmentation, self.volume).masks[0].astype(bool)

    def answer(self, job: Any, timeout: float = WAIT_SECONDS) -> Any:
        job.wait(timeout)
        assert self.failures == []
        return self.answers[-1]

    @property
    def hear(self) -> dict[str, Any]:
        return {"done": self.answers.append, "failed": self.failures.append}


@pytest.fixture
def case(scene: Any, engine: Any) -> Case:
    return Case(scene, engine)


def test_predicts_what_the_engine_says_of_the_file(case: Case, engine: Any) -> None:
    result = case.answer(case.logic.predict([case.volume], **case.hear))
    assert result.classes[int(np.argmax(result.probabilities))] == GLIOMA

    image = read_image(SAMPLES[0].volume)
    volume = Volume(image.numpy(), image.affine.numpy())
    job = engine.start(PredictRequest(case.logic.classifier.key, engine.put(volume)))
    while engine.status(job, wait=1).state not in ("done", "failed"):
        pass
    assert_allclose(result.probabilities, engine.result(job).probabilities, atol=1e-6)


@pytest.mark.parametrize(
    "method",
    ["occlusion", "cam", "gradcam", "gradcam++", "gradient", "guided-backprop", "smoothgrad",
     "guided-smoothgrad", "centre", "random"],
)  # fmt: skip
def test_each_method_puts_a_map_on_the_volume_s_grid(case: Case, method: str) -> None:
    fast = {"occlusion": {"stride_mm": 30.0}, "smoothgrad": {"samples": 2}}
    fast["guided-smoothgrad"] = fast["smoothgrad"]
    shown: list[Any] = []
    job = case.logic.explain(
        [case.volume],
        {method: fast.get(method, {})},
        target=GLIOMA,
        shown=shown.append,
        **case.hear,
    )
    if method == "cam":
        # The demo's network has more than a mean between its last layer and its classes.
        job.wait(WAIT_SECONDS)
        if case.failures:
            assert "cam" in case.failures[0].line.lower()
            return
    result = case.answer(job)
    (node,) = shown[-1]
    values, affine = volume_values(node)
    image, image_affine = volume_values(case.volume)
    assert values.shape == image.shape
    assert_allclose(affine, image_affine, atol=1e-5)
    assert node.GetNodeReference(IMAGE_ROLE) is case.volume
    map_ = read_attribution(node)
    assert (map_.target_name, map_.classifier_name) == (GLIOMA, "phantom-3d-honest")
    assert map_.share_done == 1
    assert result.attributions[0].label.partition("@")[0] == method
    if method in ("occlusion", "gradcam", "smoothgrad"):
        # The tumour holds one voxel in a hundred; the heat is in it far above that.
        inside = case.tumour()
        strength = np.clip(values, 0, None)
        assert strength[inside].mean() > 5 * strength[~inside].mean()


@pytest.mark.slow
def test_a_map_grows_in_one_node(case: Case) -> None:
    shares: list[float] = []
    nodes: set[str] = set()

    def look(shown: list[Any]) -> None:
        shares.append(read_attribution(shown[0]).share_done)
        nodes.add(shown[0].GetID())

    # So many copies that a panel on a busy machine does not miss all partial maps.
    job = case.logic.explain(
        [case.volume], {"smoothgrad": {"samples": 600}}, target=GLIOMA, shown=look, **case.hear
    )
    case.answer(job)
    assert len(shares) > 1
    assert shares == sorted(shares)
    assert shares[0] < 1 == shares[-1]
    assert len(nodes) == 1
    assert len(attributions_of(case.scene)) == 1


def test_cancelling_ends_a_long_job_and_leaves_what_is_there(case: Case) -> None:
    ended: list[bool] = []
    seen: list[Any] = []
    job = case.logic.explain(
        [case.volume],
        {"occlusion": {"stride_mm": 2.0}},
        progress=lambda status: seen.append(status) if status.done else None,
        cancelled=lambda: ended.append(True),
        **case.hear,
    )
    while not seen:
        case.logic.calls.deliver()
    job.cancel()
    job.wait(WAIT_SECONDS)
    assert ended == [True]
    assert case.answers == case.failures == []
    assert case.scene.IsNodePresent(case.volume)


def test_the_result_of_a_volume_that_was_changed_meanwhile_is_dropped(case: Case) -> None:
    job = case.logic.explain([case.volume], {"gradcam": {}}, **case.hear)
    slicer.util.arrayFromVolume(case.volume)[:] += 1
    slicer.util.arrayFromVolumeModified(case.volume)
    job.wait(WAIT_SECONDS)
    (failure,) = case.failures
    assert "was changed meanwhile" in failure.line
    assert attributions_of(case.scene) == []
    # What is asked now is asked about the volume as it is.
    case.failures.clear()
    case.answer(case.logic.predict([case.volume], **case.hear))


def test_a_volume_that_goes_in_the_middle_takes_its_answer_with_it(case: Case) -> None:
    job = case.logic.explain([case.volume], {"gradcam": {}}, **case.hear)
    case.scene.RemoveNode(case.volume)
    job.wait(WAIT_SECONDS)
    (failure,) = case.failures
    assert "was removed meanwhile" in failure.line
    assert attributions_of(case.scene) == []


def test_a_closed_scene_hears_nothing_of_what_was_asked_before(case: Case) -> None:
    job = case.logic.explain([case.volume], {"occlusion": {}}, **case.hear)
    case.scene.Clear(False)
    case.logic.forget_scene()
    job.wait(WAIT_SECONDS)
    assert case.answers == case.failures == []
    assert attributions_of(case.scene) == []


def test_a_map_lies_on_a_volume_that_was_moved_by_a_transform(case: Case) -> None:
    matrix = vtk.vtkMatrix4x4()
    turn = np.deg2rad(20)
    for row, column, value in (
        (0, 0, np.cos(turn)), (0, 1, -np.sin(turn)), (1, 0, np.sin(turn)), (1, 1, np.cos(turn)),
        (0, 3, 30.0), (2, 3, -12.0),
    ):  # fmt: skip
        matrix.SetElement(row, column, value)
    transform = case.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(matrix)
    case.volume.SetAndObserveTransformNodeID(transform.GetID())
    case.segmentation.SetAndObserveTransformNodeID(transform.GetID())
    shown: list[Any] = []
    job = case.logic.explain(
        [case.volume], {"gradcam": {}}, target=GLIOMA, shown=shown.append, **case.hear
    )
    case.answer(job)
    values, affine = volume_values(shown[-1][0])
    assert_allclose(affine, volume_values(case.volume)[1], atol=1e-4)
    inside = case.tumour()
    assert values[inside].mean() > 5 * values[~inside].mean()


def test_removing_the_tumour_moves_the_probability_and_removing_air_does_not(case: Case) -> None:
    at_tumour = case.answer(
        case.logic.probe([case.volume], case.centre(), (4.0, 24.0), **case.hear)
    )
    index = at_tumour.classes.index(GLIOMA)
    small, large = at_tumour.removals
    assert large.probabilities[index] < at_tumour.before[index] - 0.3
    assert small.voxels < large.voxels
    corner = volume_values(case.volume)[1] @ [4, 4, 4, 1]
    in_air = case.answer(
        case.logic.probe([case.volume], tuple(corner[:3]), (4.0,), fill="window-mean", **case.hear)
    )
    assert_allclose(in_air.removals[0].probabilities, in_air.before, atol=0.05)


def test_removes_a_whole_segment(case: Case) -> None:
    identity = case.segmentation.GetSegmentation().GetNthSegmentID(0)
    result = case.answer(
        case.logic.probe_segment([case.volume], case.segmentation, identity, **case.hear)
    )
    (removal,) = result.removals
    assert (removal.name, removal.radius_mm) == ("tumour", None)
    index = result.classes.index(GLIOMA)
    assert removal.probabilities[index] < result.before[index] - 0.3


def test_a_newer_click_replaces_the_one_before(case: Case) -> None:
    gone: list[int] = []
    jobs = [
        case.logic.probe(
            [case.volume], case.centre(), (4.0, 8.0, 16.0),
            cancelled=lambda number=number: gone.append(number), **case.hear,
        )
        for number in range(6)
    ]  # fmt: skip
    for job in jobs:
        job.wait(WAIT_SECONDS)
    assert case.failures == []
    assert len(case.answers) + len(gone) == 6
    assert 5 not in gone


def test_a_click_that_was_given_up_never_overtakes_the_one_in_its_place(case: Case) -> None:
    """The first is held up on its way, as a slow network does, and arrives when all is over."""
    reached, sent, put = threading.Event(), threading.Event(), case.logic.engine.put
    first = case.logic.probe([case.volume], case.centre(), (4.0,), **case.hear)
    first.wait(WAIT_SECONDS)
    known = len(case.logic.engine.jobs())

    def slow(volume: Volume) -> str:
        reached.set()
        sent.wait(WAIT_SECONDS)
        return put(volume)

    case.logic.engine.put = slow
    held = case.logic.probe([case.volume], case.centre(), (8.0,), **case.hear)
    assert reached.wait(WAIT_SECONDS)
    case.logic.engine.put = put
    case.answer(case.logic.probe([case.volume], case.centre(), (16.0,), **case.hear))
    sent.set()
    held.wait(WAIT_SECONDS)
    assert [answer.removals[0].radius_mm for answer in case.answers] == [4.0, 16.0]
    assert len(case.logic.engine.jobs()) == known + 1


@pytest.mark.slow
def test_compares_maps_with_a_segmentation_beside_chance(case: Case) -> None:
    shown: list[Any] = []
    methods = {"gradcam": {}, "occlusion": {"stride_mm": 20.0}}
    job = case.logic.explain([case.volume], methods, target=GLIOMA, shown=shown.append, **case.hear)
    case.answer(job)
    result = case.answer(case.logic.compare(case.volume, shown[-1], case.segmentation, **case.hear))
    rows = {row["method"]: row for row in result.rows}
    assert set(rows) == {node.GetName() for node in shown[-1]} | {"random", "centre"}
    assert all(row["segment"] == "tumour" for row in rows.values())
    assert min(rows[node.GetName()]["auroc"] for node in shown[-1]) > 0.9
    assert abs(rows["random"]["auroc"] - 0.5) < 0.2
    curves = {curve.label: curve for curve in result.curves}
    assert set(curves) == set(rows)


def test_maps_for_two_classes_are_not_compared_as_one(case: Case) -> None:
    nodes: list[Any] = []
    for target in (GLIOMA, "none"):
        job = case.logic.explain(
            [case.volume], {"gradcam": {}}, target=target,
            shown=lambda shown: nodes.append(shown[0]), **case.hear,
        )  # fmt: skip
        case.answer(job)
    with error_with(ErrorCode.OPTION_CONFLICT, "glioma-like, none"):
        case.logic.compare(case.volume, nodes, case.segmentation)


def test_says_which_channel_lacks_a_volume_and_that_grids_differ(case: Case) -> None:
    classifier = replace(case.logic.classifier, channels=("t1", "t2"))
    with error_with(ErrorCode.SELECTION, "t2"):
        read_nodes([case.volume, None], classifier)
    values, affine = volume_values(case.volume)
    other = add_image(case.scene, values[::2], affine, "halved")
    with pytest.raises(InputError, match=r"halved has another grid than SaliencyExplainPhantom"):
        read_nodes([case.volume, other], classifier)
    same = add_image(case.scene, values + 1, affine, "second")
    sent = read_nodes([case.volume, same], classifier)
    assert sent.volume.values.shape == (2, *values.shape)
    assert_allclose(sent.volume.values[1] - sent.volume.values[0], 1)


def test_explains_a_slice_with_a_2d_classifier(scene: Any, engine: Any, tmp_path: Path) -> None:
    table = write_phantom_study(tmp_path, dimensions=2, cases=1, seed=5, marker=False)
    image = read_image(table.parent / "phantom-001_image.png")
    case = Case(scene, engine, "phantom-2d-honest")
    node = add_image(scene, image.numpy()[0], image.affine.numpy(), "slice")
    result = case.answer(case.logic.predict([node], **case.hear))
    assert len(result.probabilities) == 4
    shown: list[Any] = []
    case.answer(case.logic.explain([node], {"gradcam": {}}, shown=shown.append, **case.hear))
    values, affine = volume_values(shown[-1][0])
    assert values.shape == volume_values(node)[0].shape
    assert_allclose(affine, volume_values(node)[1], atol=1e-5)
    centre = volume_values(node)[1] @ [90, 110, 0, 1]
    answer = case.answer(case.logic.probe([node], tuple(centre[:3]), (10.0,), **case.hear))
    assert answer.removals[0].voxels > 0


@pytest.mark.slow
def test_a_study_runs_is_found_again_and_its_cases_open(case: Case, tmp_path: Path) -> None:
    table = write_phantom_study(tmp_path / "in", dimensions=3, cases=2, seed=3, marker=False)
    request = StudyRequest(
        folder=str(table),
        classifier=str(classifier_folder("phantom-3d-honest")),
        spec=ExplainSpec((MethodChoice("gradcam"),)),
        out=str(tmp_path / "out"),
    )
    first = case.logic.start_study(request)
    while first.status is None:
        case.logic.calls.deliver()
    first.leave()
    found: list[Any] = []
    case.logic.find_studies(found.extend)
    while not found:
        case.logic.calls.deliver()
    again = case.logic.follow_study(found[-1].job, **case.hear)
    result = case.answer(again, 60)
    assert (result.total, result.failed) == (2, 0)

    cases = study_rows(JournalFile.read(tmp_path / "out"))
    assert [known.case for known in cases] == ["phantom-001", "phantom-002"]
    (first, _) = result.cases
    sources = CaseSources(tuple(map(Path, first.images)), Path(first.segmentation))
    # A study of another day is found again by its table, and one without a table by names.
    assert find_sources(table, "phantom-001") == sources
    table.rename(tmp_path / "cases.csv")
    assert find_sources(tmp_path / "in", "phantom-001") == sources
    (image,), maps, mask = load_case(
        case.scene, sources, tmp_path / "out", "phantom-001", {"gradcam": "Grad-CAM"}
    )
    assert [node.GetNodeReference(IMAGE_ROLE) for node in maps] == [image]
    assert_allclose(volume_values(maps[0])[1], volume_values(image)[1], atol=1e-4)
    assert read_attribution(maps[0]).method_title == "Grad-CAM"
    assert mask.GetSegmentation().GetNthSegment(0).GetName() == "tumour"
    with error_with(ErrorCode.STUDY_INCOMPLETE, "phantom-009") as refused:
        load_case(case.scene, sources, tmp_path / "out", "phantom-009", {})
    assert refused.value.code is ErrorCode.STUDY_INCOMPLETE


def test_a_case_is_found_by_the_columns_of_any_table_and_has_all_its_segments(
    scene: Any, tmp_path: Path
) -> None:
    for number, name in enumerate(("liver", "spleen"), start=1):
        mask = np.zeros((6, 6, 6), np.uint8)
        mask[number] = 1
        nibabel.save(nibabel.Nifti1Image(mask, np.eye(4)), tmp_path / f"{name}.nii.gz")
    (tmp_path / "i.nii.gz").write_bytes(b"")
    table = tmp_path / "cases.csv"
    table.write_text(
        "Case ID;Image;Mask;Age\nP 1;i.nii.gz;liver.nii.gz;5\nP2;i.nii.gz;;6\n", encoding="utf-16"
    )
    assert find_sources(table, "P_1").segmentation == tmp_path / "liver.nii.gz"
    assert find_sources(table, "P2").segmentation is None
    # Without a column of cases each is called as its image.
    table.write_text("image,mask\ni.nii.gz,liver.nii.gz\n")
    assert find_sources(table, "i").segmentation == tmp_path / "liver.nii.gz"
    table.write_text("case,image,mask\n1,ct=i.nii.gz,liver.nii.gz;spleen.nii.gz\n")
    sources = find_sources(table, "1")
    assert sources.images == (tmp_path / "i.nii.gz",)
    assert sources.segmentation is not None
    node = load_segmentation(scene, sources.segmentation, "truth")
    for path in sources.further_segmentations:
        add_segments(scene, node, path)
    assert node.GetSegmentation().GetNumberOfSegments() == 2
    assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 1


def test_what_cannot_be_asked_is_said_at_once(scene: Any, engine: Any) -> None:
    with error_with(ErrorCode.SELECTION, "classifier"):
        SaliencyExplainLogic(engine, scene).predict([])
    with error_with(ErrorCode.ENGINE_LOST):
        SaliencyExplainLogic(None, scene).open_classifier("somewhere")


def test_a_classifier_that_cannot_be_opened_fails_in_one_line(scene: Any, engine: Any) -> None:
    logic = SaliencyExplainLogic(engine, scene)
    failures: list[Any] = []
    call = logic.open_classifier("/nowhere/at/all", failed=failures.append)
    while not call.finished:
        logic.calls.deliver()
    (failure,) = failures
    assert "/nowhere/at/all" in failure.line
    assert "\n" not in failure.line
    assert "Traceback" in failure.details
    assert logic.classifier is None
