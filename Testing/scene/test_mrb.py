"""Bundles: everything in its place again, nothing half-written, no name of this machine."""

from __future__ import annotations

import os
import resource
import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import slicer

from SaliencyExplain.bands import label_bands
from SaliencyExplain.errors import ErrorCode, OutputError
from SaliencyExplain.scene.arrays import volume_values
from SaliencyExplain.scene.attributions import (
    add_attribution,
    attributions_of,
    read_attribution,
    set_threshold,
    threshold,
    window_of,
)
from SaliencyExplain.scene.band_segments import add_bands, bands_of
from SaliencyExplain.scene.mrb import open_mrb, save_mrb
from SaliencyExplain.scene.nodes import composite_nodes, new_scene, nodes_of, slice_nodes
from SaliencyExplain.scene.points import readings_at
from SaliencyExplain.scene.rendering import show_surfaces, show_volume_rendering
from SaliencyExplain.scene.segmentations import add_segmentation, masks_on_grid, outline
from SaliencyExplain.scene.slice_layers import jump_to, show
from SaliencyExplain.scene.slice_pictures import picture_3d, slice_picture
from SaliencyExplain.scene.subject_hierarchy import hierarchy
from SaliencyExplain.scene.volume_nodes import add_image
from Testing.expected_errors import error_with
from Testing.scene.conftest import GRIDS, SHAPE, Affine, attribution, block, place_of

VALUES = np.random.default_rng(8).normal(size=SHAPE).astype(np.float32)
MASKS = np.stack([block((7, 7, 6), radius=3), block((8, 8, 6), radius=2)])


def filled(grid: Affine) -> slicer.vtkMRMLScene:
    scene = new_scene()
    image = add_image(scene, 100 * VALUES, grid, "case-001")
    node = add_attribution(
        scene,
        attribution(
            VALUES, grid, parameters={"a": 'b"; c'}, provenance={"classifier": "toy", "seed": 3}
        ),
        image,
    )
    add_attribution(scene, attribution(-VALUES, grid, target_name="healthy"), image)
    set_threshold(node, 0.4)
    add_bands(scene, node)
    truth = add_segmentation(
        scene, MASKS, ["core", "oedema"], [(0, 1, 0), (0, 0, 1)], grid, "truth"
    )
    outline(truth)
    show_surfaces(truth, True)
    show_volume_rendering(node, True)
    show(scene, image, node, opacity=0.8)
    jump_to(scene, place_of(grid, (8, 8, 7)))
    return scene


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "out" / "scene.mrb"
    save_mrb(filled(GRIDS["oblique and flipped"]), path)
    return path


@pytest.mark.usefixtures("opengl")
def test_pictures_of_a_scene_are_the_same_after_it_was_opened_again(grid: Affine, tmp_path: Path):
    before = filled(grid)
    save_mrb(before, tmp_path / "scene.mrb")
    after = open_mrb(tmp_path / "scene.mrb")
    place = place_of(grid, (8, 8, 7))
    for orientation in ("axial", "coronal", "sagittal"):
        old = slice_picture(before, orientation, place, (90, 90)).astype(int)
        new = slice_picture(after, orientation, place, (90, 90)).astype(int)
        assert old.any()
        # Slicer turns left-handed grids round when it reads them, and the rounding with them.
        assert (np.abs(old - new).max(axis=-1) > 8).mean() < 0.01
    old, new = (picture_3d(scene, (90, 90)).astype(int) for scene in (before, after))
    assert old.any()
    assert (np.abs(old - new).max(axis=-1) > 24).mean() < 0.02


def test_maps_are_read_back_with_all_that_was_said_of_them(saved: Path):
    scene = open_mrb(saved)
    (image, *_) = nodes_of(scene, "vtkMRMLScalarVolumeNode")
    assert image.GetName() == "case-001"
    one, two = attributions_of(scene, image)
    known = read_attribution(one)
    assert known.parameters == {"a": 'b"; c'}
    assert known.provenance == {"classifier": "toy", "seed": 3}
    assert (known.label, known.title, known.signed) == ("occlusion", "Occlusion", True)
    assert (known.target_name, known.classifier_name) == ("glioma", "toy")
    assert read_attribution(two).target_name == "healthy"
    assert threshold(one) == 0.4
    assert window_of(one) == pytest.approx(np.quantile(np.abs(VALUES), 0.999), rel=0.02)
    set_threshold(one, 0.2)
    for index in [(0, 0, 0), (13, 3, 11), (5, 14, 6)]:
        place = place_of(GRIDS["oblique and flipped"], index)
        reading = readings_at(scene, image, place)
        assert reading.maps[0].value == VALUES[index]
        assert reading.image_value == np.float32(100 * VALUES[index])


def test_bands_and_ground_truth_are_in_place_voxel_for_voxel(saved: Path):
    scene = open_mrb(saved)
    node = attributions_of(scene)[0]
    bands = bands_of(scene, node)
    assert bands is not None
    values, to_ras = volume_values(node)
    labels, of_labels = volume_values(bands.label_map)
    np.testing.assert_allclose(of_labels, to_ras, atol=1e-4)
    np.testing.assert_array_equal(labels, label_bands(values))
    found = masks_on_grid(bands.segmentation, node)
    np.testing.assert_array_equal(found.masks[0], labels == 1)
    (truth,) = (n for n in nodes_of(scene, "vtkMRMLSegmentationNode") if n.GetName() == "truth")
    again = masks_on_grid(truth, node)
    assert again.names == ("core", "oedema")
    np.testing.assert_allclose(again.colors, [(0, 1, 0), (0, 0, 1)])
    index = np.linalg.inv(to_ras) @ GRIDS["oblique and flipped"]
    for mask, given in zip(again.masks, MASKS, strict=True):
        moved = np.argwhere(given) @ index[:3, :3].T + index[:3, 3]
        assert mask[tuple(np.rint(moved).astype(int).T)].all()
        assert mask.sum() == given.sum()


def test_views_layers_outlines_and_folders_are_in_place(saved: Path):
    scene = open_mrb(saved)
    image = nodes_of(scene, "vtkMRMLScalarVolumeNode")[0]
    node = attributions_of(scene)[0]
    assert len(slice_nodes(scene)) == 3
    for composite in composite_nodes(scene):
        assert composite.GetBackgroundVolumeID() == image.GetID()
        assert composite.GetForegroundVolumeID() == node.GetID()
        assert composite.GetForegroundOpacity() == 0.8
    place = np.array(place_of(GRIDS["oblique and flipped"], (8, 8, 7)))
    for view in slice_nodes(scene):
        matrix = slicer.util.arrayFromVTKMatrix(view.GetSliceToRAS())
        assert matrix[:3, 2] @ (place - matrix[:3, 3]) == pytest.approx(0, abs=1e-3)
    (truth,) = (n for n in nodes_of(scene, "vtkMRMLSegmentationNode") if n.GetName() == "truth")
    display = truth.GetDisplayNode()
    assert display.GetVisibility2DOutline()
    assert not display.GetVisibility2DFill()
    tree = hierarchy(scene)
    item, above = tree.GetItemByDataNode(node), []
    while item != tree.GetSceneItemID():
        above.insert(0, tree.GetItemName(item))
        item = tree.GetItemParent(item)
    assert above == ["case-001: attributions", "toy", "glioma", "Occlusion - glioma"]
    third = add_attribution(scene, attribution(VALUES, GRIDS["plain"], method="c"), image)
    assert tree.GetItemParent(tree.GetItemByDataNode(third)) == tree.GetItemParent(
        tree.GetItemByDataNode(node)
    )


def test_other_programs_find_the_voxels_where_they_were(saved: Path, tmp_path: Path):
    with zipfile.ZipFile(saved) as bundle:
        bundle.extractall(tmp_path)
    grid = GRIDS["oblique and flipped"]
    image = sitk.ReadImage(str(tmp_path / "scene" / "Data" / "Occlusion - glioma.nrrd"))
    for index in [(0, 0, 0), (13, 3, 11), (5, 14, 6)]:
        right, anterior, superior = place_of(grid, index)
        there = image.TransformPhysicalPointToIndex((-right, -anterior, superior))
        assert image[there] == VALUES[index]
    truth = sitk.ReadImage(str(tmp_path / "scene" / "Data" / "truth.seg.nrrd"))
    assert truth.GetMetaData("Segment0_Name") == "core"


def test_a_bundle_names_no_path_of_this_machine_and_packs_its_voxels(saved: Path):
    with zipfile.ZipFile(saved) as bundle:
        entries = bundle.namelist()
        text = bundle.read("scene/scene.mrml").decode()
        header = bundle.read("scene/Data/case-001.nrrd")[:600]
    assert str(saved.parent) not in text
    assert str(Path.home()) not in text
    assert os.sep + "tmp" not in text
    assert all(name.startswith("scene/") for name in entries)
    assert b"encoding: gzip" in header


def test_the_same_scene_has_the_same_bytes(saved: Path, tmp_path: Path):
    save_mrb(filled(GRIDS["oblique and flipped"]), tmp_path / "scene.mrb")
    assert (tmp_path / "scene.mrb").read_bytes() == saved.read_bytes()


def test_saving_leaves_the_scene_and_the_folder_clean(tmp_path: Path):
    scene = filled(GRIDS["plain"])
    url = scene.GetURL()
    save_mrb(scene, tmp_path / "scene.mrb")
    assert scene.GetURL() == url
    assert os.listdir(tmp_path) == ["scene.mrb"]
    assert not any(node.GetFileName() for node in nodes_of(scene, "vtkMRMLStorageNode"))


def test_what_a_killed_run_left_behind_goes_with_the_next(tmp_path: Path):
    (tmp_path / ".part-scene").mkdir()
    (tmp_path / ".part-scene" / "half.nrrd").write_bytes(b"x")
    (tmp_path / ".part-scene.mrb").write_bytes(b"x")
    save_mrb(filled(GRIDS["plain"]), tmp_path / "scene.mrb")
    assert os.listdir(tmp_path) == ["scene.mrb"]
    with zipfile.ZipFile(tmp_path / "scene.mrb") as bundle:
        assert not [name for name in bundle.namelist() if "half" in name]


def test_a_scene_that_cannot_be_written_is_said_and_leaves_the_old_one(tmp_path: Path):
    save_mrb(filled(GRIDS["plain"]), tmp_path / "scene.mrb")
    old = (tmp_path / "scene.mrb").read_bytes()
    scene = filled(GRIDS["oblique"])
    # As on a full disk, writing stops in the middle.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"scene cannot be saved|cannot be written"):
            save_mrb(scene, tmp_path / "scene.mrb")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "scene.mrb").read_bytes() == old
    assert os.listdir(tmp_path) == ["scene.mrb"]
    with error_with(ErrorCode.OUTPUT_UNWRITABLE, "below.mrb"):
        save_mrb(scene, tmp_path / "scene.mrb" / "below.mrb")
    with error_with(ErrorCode.FILE_FORMAT, "scene.zip", ".mrb"):
        save_mrb(scene, tmp_path / "scene.zip")


def test_what_is_no_bundle_is_refused_by_name(tmp_path: Path):
    with error_with(ErrorCode.FILE_MISSING, "absent.mrb"):
        open_mrb(tmp_path / "absent.mrb")
    (tmp_path / "text.mrb").write_text("no zip")
    with error_with(ErrorCode.FILE_DAMAGED, "text.mrb"):
        open_mrb(tmp_path / "text.mrb")
    with zipfile.ZipFile(tmp_path / "empty.mrb", "w") as bundle:
        bundle.writestr("a/readme.txt", "nothing")
    with error_with(ErrorCode.FILE_FORMAT, "empty.mrb"):
        open_mrb(tmp_path / "empty.mrb")


def test_a_bundle_that_would_fill_the_disk_is_refused_before_it_is_unpacked(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "large.mrb", "w") as bundle:
        bundle.writestr("a/a.mrml", "<MRML/>")
        # What the list of contents claims, a pebibyte, is all that is asked.
        bundle.filelist[0].file_size = 1 << 50
    with error_with(ErrorCode.FILE_DAMAGED, "large.mrb") as error:
        open_mrb(tmp_path / "large.mrb")
    assert error.value.code is ErrorCode.FILE_DAMAGED
    assert "GiB" in str(error.value)
