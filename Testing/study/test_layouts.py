"""Which layouts of a study folder are read, what is refused, and what is said of the rest."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.studies.discovery import Found, discover

#: ``(case, images, segmentations, label)``
Seen = list[tuple[str, list[str], list[str], str | None]]


def touch(folder: Path, *names: str) -> Path:
    """Makes empty files; a name that ends in ``/`` is an empty folder."""
    for name in names:
        path = folder / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return folder


def seen(cases: Found, root: Path) -> Seen:
    root = root.resolve()
    return [
        (
            case.case,
            [path.relative_to(root).as_posix() for path in case.paths],
            [path.relative_to(root).as_posix() for path in case.segmentations],
            case.label,
        )
        for case in cases
    ]


def said(cases: Found) -> str:
    return "\n".join([*cases.sentences(), *(note for case in cases for note in case.notes)])


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("images", "masks"),
        ("imgs", "labels"),
        ("img", "seg"),
        ("image", "label"),
        ("Images", "GroundTruth"),
        ("original", "Ground Truth"),
        ("data", "annotations"),
        ("scans", "gt"),
        ("ISIC_Training_Input", "ISIC_Training_Part1_GroundTruth"),
        ("imagesTs", "labelsTs"),
    ],
)
@pytest.mark.parametrize("names", [("{}.png", "{}.png"), ("{}.jpg", "{}_segmentation.png")])
def test_folders_of_images_and_of_masks_are_pairs_also_with_equal_names(
    tmp_path: Path, images: str, masks: str, names: tuple[str, str]
) -> None:
    for number in (2, 10):
        touch(tmp_path, f"{images}/{names[0].format(number)}", f"{masks}/{names[1].format(number)}")
    assert seen(discover(tmp_path, channels=["image"]), tmp_path) == [
        (
            str(number),
            [f"{images}/{names[0].format(number)}"],
            [f"{masks}/{names[1].format(number)}"],
            None,
        )
        for number in (2, 10)
    ]


def test_image_and_mask_folders_pair_inside_parts_classes_and_cases(tmp_path: Path) -> None:
    parts = touch(tmp_path / "parts", *(
        f"{part}_{kind}/{n}.png" for part in ("train", "test") for kind in ("images", "masks")
        for n in (1, 2)
    ))  # fmt: skip
    found = discover(parts)
    assert [(case.case, case.split) for case in found] == [
        ("test-1", "test"), ("test-2", "test"), ("train-1", "train"), ("train-2", "train"),
    ]  # fmt: skip
    assert all(case.segmentation and case.label is None for case in found)
    classes = touch(tmp_path / "classes", *(
        f"{name}/{kind}/{n}.png" for name in ("benign", "malignant") for kind in ("images", "masks")
        for n in (1, 2)
    ))  # fmt: skip
    assert [(c.label, c.segmentation is not None) for c in discover(classes)] == [
        ("benign", True), ("benign", True), ("malignant", True), ("malignant", True),
    ]  # fmt: skip
    cases = touch(
        tmp_path / "cases", "images/P1/ct.nii", "masks/P1/1.nii", "images/P2/ct.nii",
        "masks/P2/1.nii",
    )  # fmt: skip
    assert seen(discover(cases), cases) == [
        ("P1", ["images/P1/ct.nii"], ["masks/P1/1.nii"], None),
        ("P2", ["images/P2/ct.nii"], ["masks/P2/1.nii"], None),
    ]
    named = touch(tmp_path / "named", "P1/ct.nii", "P2/ct.nii", "masks/P1.nii", "masks/P2.nii")
    assert [c[2] for c in seen(discover(named), named)] == [["masks/P1.nii"], ["masks/P2.nii"]]


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("X", "X_gt"),
        ("X", "X_tumour"),
        ("X", "X-Tumor"),
        ("X", "X_mask_1"),
        ("X", "X_mask"),
        ("X", "X-label"),
        ("X", "X_seg"),
        ("X", "seg_X"),
        ("X", "X_ground_truth"),
        ("X", "X.labels"),
        ("X", "X_lesion_mask"),
        ("X_1", "X_mask_1"),
        ("X_image_1", "X_mask_1"),
        ("image0001", "label0001"),
        ("img1", "mask1"),
        ("X", "X_mask2"),
        ("Caf\u00e9", "Cafe\u0301_mask"),
    ],
)
def test_masks_are_known_by_their_names(tmp_path: Path, image: str, mask: str) -> None:
    touch(tmp_path, f"{image}.png", f"{mask}.png", "other.png")
    found = {case.paths[0].name: case.segmentation for case in discover(tmp_path)}
    assert found == {f"{image}.png": tmp_path.resolve() / f"{mask}.png", "other.png": None}


@pytest.mark.parametrize(
    "names",
    [
        ("X.png", "Y.png", "X_other_mask.png"),
        ("X.png", "X_tumour.png", "Y.png", "Z_tumour.png"),
        ("images/1.png", "images/2.png", "masks/3.png"),
        ("P1/ct.nii", "P2/ct.nii", "masks/Q.nii"),
        ("A.png", "P1/1.png", "P1/2.png"),
        ("imagesTr/A.nii.gz", "labelsTr/A.nii.gz", "labelsTr/B.nii.gz"),
        ("A.nii", "A_mask.nii", "A_seg.nii"),
        ("ct.nii.gz", *(f"segmentations/organ {n}.nii.gz" for n in range(40))),
    ],
)
def test_what_does_not_pair_is_refused_by_name(tmp_path: Path, names: tuple[str, ...]) -> None:
    touch(tmp_path, *names)
    with pytest.raises(InputError) as error:
        discover(tmp_path)
    assert error.value.code is ErrorCode.CASES_LAYOUT
    assert "CSV" in str(error.value)


def test_several_masks_of_an_image_are_one_segmentation(tmp_path: Path) -> None:
    names = ["(1).png", "(1)_mask.png", "(1)_mask_1.png", "(2).png", "(2)_mask.png"]
    touch(tmp_path, *(f"{kind}/{kind} {name}" for kind in ("benign", "normal") for name in names))
    first, *_ = found = discover(tmp_path, channels=["image"])
    assert [path.name for path in first.segmentations] == [
        "benign (1)_mask.png",
        "benign (1)_mask_1.png",
    ]
    assert [case.label for case in found] == ["benign", "benign", "normal", "normal"]
    organs = touch(
        tmp_path / "total", *(f"s{n}/ct.nii.gz" for n in (1, 2)),
        *(f"s{n}/segmentations/{organ}.nii.gz" for n in (1, 2) for organ in ("liver", "spleen")),
    )  # fmt: skip
    assert seen(discover(organs), organs)[1] == (
        "s2",
        ["s2/ct.nii.gz"],
        ["s2/segmentations/liver.nii.gz", "s2/segmentations/spleen.nii.gz"],
        None,
    )


def test_masks_of_several_attributes_go_to_the_only_folder_of_images(tmp_path: Path) -> None:
    attributes = ("globules", "streaks")
    touch(
        tmp_path, "in/I_1.jpg", "in/I_2.jpg",
        *(f"GroundTruth/I_{n}_attribute_{name}.png" for n in (1, 2) for name in attributes),
    )  # fmt: skip
    assert [(case.case, len(case.segmentations)) for case in discover(tmp_path)] == [
        ("I_1", 2),
        ("I_2", 2),
    ]


def test_class_folders_stay_classes_whatever_lies_among_them(tmp_path: Path) -> None:
    touch(
        tmp_path, "set/benign/1.png", "set/benign/2.png", "set/malignant/1.png",
        "set/malignant/2.png", "set/benign/Thumbs.db", "set/malignant/desktop.ini",
        "set/.DS_Store", "set/benign/notes.docx", "set/malignant/labels.xls", "set/empty/",
        "set/benign/strange",
    )  # fmt: skip
    found = discover(tmp_path, channels=["image"])
    assert [case.label for case in found] == ["benign", "benign", "malignant", "malignant"]
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "notes.docx", "labels.xls", "empty",
                 "strange"):  # fmt: skip
        assert name in said(found)


def test_a_folder_per_case_of_pictures_is_no_class(tmp_path: Path) -> None:
    touch(tmp_path, "P1/image.png", "P1/mask.png", "P2/image.png", "P2/mask.png")
    found = discover(tmp_path, channels=["image"])
    assert [(case.case, case.label) for case in found] == [("P1", None), ("P2", None)]


def test_names_of_what_is_outlined_are_images_where_they_stand_alone(tmp_path: Path) -> None:
    touch(tmp_path, "tumour/tumour_1.png", "tumour/tumour_2.png", "healthy/1.png", "healthy/2.png")
    assert [case.label for case in discover(tmp_path)] == ["healthy"] * 2 + ["tumour"] * 2


def test_previews_beside_volumes_are_neither_channels_nor_masks(tmp_path: Path) -> None:
    touch(tmp_path, "P1/ct.nii.gz", "P1/seg.nii.gz", "P1/preview.png", "P2/ct.nii.gz")
    found = discover(tmp_path, channels=["image"])
    assert [len(case.images) for case in found] == [1, 1]
    assert "P1/preview.png" in said(found)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("share", [0.2, 1.0])
def test_files_named_as_an_image_and_more_are_refused_where_they_may_be_masks(
    tmp_path: Path, binary: bool, share: float
) -> None:
    grey = np.arange(400).reshape(20, 20) % 251
    for number in range(10):
        Image.fromarray(grey.astype(np.uint8)).save(tmp_path / f"{number}.png")
        if number < 10 * share:
            other = (grey < 90) * 255 if binary else grey
            Image.fromarray(other.astype(np.uint8)).save(tmp_path / f"{number}_maska.png")
    if not binary and share < 0.5:
        # A few edited copies are images like the others.
        assert len(discover(tmp_path)) == 12
        return
    with pytest.raises(InputError) as error:
        discover(tmp_path)
    assert error.value.code is ErrorCode.CASES_LAYOUT
    assert "0_maska.png" in str(error.value)


def test_masks_of_two_folders_are_those_of_the_images_of_a_third(tmp_path: Path) -> None:
    for kind in ("images", "lung masks", "infection masks"):
        touch(tmp_path, f"{kind}/1.png", f"{kind}/2.png")
    for case in discover(tmp_path):
        name = case.paths[0].name
        assert [path.parent.name for path in case.segmentations] == [
            "infection masks",
            "lung masks",
        ]
        assert {path.name for path in case.files} == {name}


def test_bids_masks_belong_to_the_image_that_they_do_not_contradict(tmp_path: Path) -> None:
    touch(
        tmp_path / "rawdata" / "sub-1" / "anat", "sub-1_acq-a_T1w.nii.gz", "sub-1_acq-b_T1w.nii.gz"
    )
    touch(
        tmp_path / "derivatives" / "x" / "sub-1" / "anat", "sub-1_acq-b_label-lesion_mask.nii.gz",
        "sub-1_space-MNI_acq-a_label-lesion_mask.nii.gz",
    )  # fmt: skip
    found = discover(tmp_path)
    assert [(case.case, case.segmentation and case.segmentation.name) for case in found] == [
        ("sub-1_acq-a", None),
        ("sub-1_acq-b", "sub-1_acq-b_label-lesion_mask.nii.gz"),
    ]
    assert "another space" in said(found)


@pytest.mark.parametrize("entity", ["acq-mprage", "run-1", "desc-preproc", "ce-gd"])
def test_an_entity_that_only_the_image_has_does_not_part_it_from_its_mask(
    tmp_path: Path, entity: str
) -> None:
    touch(tmp_path / "sub-1" / "anat", f"sub-1_{entity}_T1w.nii.gz")
    touch(tmp_path / "derivatives" / "m" / "sub-1", "sub-1_label-lesion_mask.nii.gz")
    (case,) = discover(tmp_path)
    assert case.segmentation is not None
    (same,) = discover(tmp_path, channels=["T1w"])
    assert same.segmentation == case.segmentation


def test_bids_channels_with_entities_of_their_own_are_one_case(tmp_path: Path) -> None:
    touch(tmp_path / "sub-1" / "anat", "sub-1_acq-3d_T1w.nii.gz", "sub-1_FLAIR.nii.gz")
    assert seen(discover(tmp_path, channels=["FLAIR", "T1"]), tmp_path) == [
        ("sub-1", ["sub-1/anat/sub-1_FLAIR.nii.gz", "sub-1/anat/sub-1_acq-3d_T1w.nii.gz"], [], None)
    ]


def test_bids_derivatives_are_a_study_of_their_own(tmp_path: Path) -> None:
    touch(
        tmp_path / "derivatives" / "prep" / "sub-1" / "anat",
        "sub-1_space-MNI_desc-preproc_T1w.nii.gz",
        "sub-1_space-MNI_label-lesion_mask.nii.gz",
    )
    (case,) = discover(tmp_path)
    assert case.segmentation is not None
    assert discover(tmp_path / "derivatives")[0].segmentation == case.segmentation


def test_links_back_and_hidden_files_are_left_out_and_said(tmp_path: Path) -> None:
    touch(tmp_path, "P1/ct.nii", "P1/seg.nii", "P2/ct.nii", "P2/._ct.nii")
    (tmp_path / "P2" / "again").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "P2" / "gone").symlink_to(tmp_path / "nowhere")
    found = discover(tmp_path)
    assert [case.case for case in found] == ["P1", "P2"]
    for name in ("P2/again", "P2/gone", "P2/._ct.nii"):
        assert name in said(found)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_a_folder_that_cannot_be_opened_is_left_out_and_said(tmp_path: Path) -> None:
    touch(tmp_path, "P1/ct.nii", "P2/ct.nii", "locked/ct.nii")
    (tmp_path / "locked").chmod(0)
    try:
        found = discover(tmp_path)
    finally:
        (tmp_path / "locked").chmod(0o700)
    assert [case.case for case in found] == ["P1", "P2"]
    assert "locked" in said(found)


def test_names_that_become_one_stay_two_cases(tmp_path: Path) -> None:
    touch(tmp_path, "a b.nii", "a_b.nii", "A\nB.nii", f"{'x' * 240}.nii", "CON.nii")
    touch(tmp_path, "failures.csv.nii", "journal.jsonl.nii", "report.html.nii")
    found = discover(tmp_path)
    names = [case.case.casefold() for case in found]
    assert len(found) == len(set(names)) == 8
    assert not {"failures.csv", "journal.jsonl", "report.html", "con", "..", "."} & set(names)
    assert [case.case for case in discover(tmp_path)] == [case.case for case in found]
    assert sum("becomes" in note for case in found for note in case.notes) == 2


def test_a_folder_called_images_is_neither_a_class_nor_a_case(tmp_path: Path) -> None:
    parts = touch(tmp_path / "parts", *(
        f"{part}/images/{n}.png" for part in ("train", "val") for n in (1, 2)
    ), "train/labels/1.txt")  # fmt: skip
    found = discover(parts, channels=["image"])
    assert [(case.case, case.label, case.split) for case in found] == [
        ("train-1", None, "train"), ("train-2", None, "train"),
        ("val-1", None, "val"), ("val-2", None, "val"),
    ]  # fmt: skip
    assert "labels/1.txt" in said(found)
    flat = touch(tmp_path / "flat", "images/1.png", "images/2.png")
    assert [case.case for case in discover(flat, channels=["image"])] == ["1", "2"]


def test_links_are_asked_for_before_they_are_followed(tmp_path: Path) -> None:
    touch(tmp_path, "in/P1/ct.nii", "out/P2/ct.nii")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "out", target_is_directory=True)
    assert len(discover(tmp_path / "in")) == 2

    def refuse(path: Path) -> None:
        raise InputError(ErrorCode.ENGINE_ACCESS, f"{path}: outside.")

    with pytest.raises(InputError) as error:
        discover(tmp_path / "in", allowed=refuse)
    assert error.value.code is ErrorCode.ENGINE_ACCESS


def test_a_link_to_a_folder_of_the_study_makes_no_case_twice(tmp_path: Path) -> None:
    touch(tmp_path, "P1/ct.nii", "P2/ct.nii", ".store/P3/ct.nii")
    (tmp_path / "latest").symlink_to(tmp_path / "P2", target_is_directory=True)
    (tmp_path / "P3").symlink_to(tmp_path / ".store" / "P3", target_is_directory=True)
    found = discover(tmp_path)
    assert [case.case for case in found] == ["P1", "P2", "P3"]
    assert "latest" in said(found)


@pytest.mark.parametrize(
    "files",
    [
        ["masks/a.png"],
        ["labels/a1.nii.gz", "labels/a2.nii.gz"],
        ["train/masks/a.png", "test/masks/b.png"],
        ["labelsTr/a.nii.gz", "labelsTs/b.nii.gz"],
    ],
)
def test_masks_alone_are_no_images(tmp_path: Path, files: list[str]) -> None:
    with pytest.raises(InputError) as error:
        discover(touch(tmp_path, *files))
    assert error.value.code is ErrorCode.CASES_LAYOUT
    assert "no image" in str(error.value)


def test_classes_with_and_without_a_mask_are_classes(tmp_path: Path) -> None:
    touch(tmp_path, "with_mask/1.png", "with_mask/2.png", "without_mask/3.png")
    assert {case.label for case in discover(tmp_path)} == {"with_mask", "without_mask"}


def test_an_empty_folder_is_said_to_be_empty(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        discover(tmp_path)
    assert error.value.code is ErrorCode.CASES_MISSING
    assert "empty" in str(error.value)
    assert "1 file" not in str(error.value)
