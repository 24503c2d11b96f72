from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    RTStructureSetStorage,
    SegmentationStorage,
)

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.studies.case import Case, safe_name, single_case
from SaliencyExplain.studies.discovery import describe_cases, discover
from Testing.expected_errors import error_with


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return folder


def seen(cases: list[Case]) -> list[tuple[str, list[str], str | None]]:
    """Case, image names with their channels, and segmentation name."""
    return [
        (
            case.case,
            [f"{name}={path.name}" if name else path.name for name, path in case.images],
            case.segmentation.name if case.segmentation else None,
        )
        for case in cases
    ]


def test_flat_pairs_are_found_in_natural_order(tmp_path: Path) -> None:
    touch(tmp_path, "P10_image.nii.gz", "P10_mask.nii.gz", "P2_image.nii.gz", "P2_seg.nrrd")
    touch(tmp_path, "P3.mha", "P3-label.mha", "P4.nii", ".hidden.nii", "README.md")
    assert seen(discover(tmp_path)) == [
        ("P2", ["P2_image.nii.gz"], "P2_seg.nrrd"),
        ("P3", ["P3.mha"], "P3-label.mha"),
        ("P4", ["P4.nii"], None),
        ("P10", ["P10_image.nii.gz"], "P10_mask.nii.gz"),
    ]


def test_segmentations_as_slicer_names_them_go_with_their_images(tmp_path: Path) -> None:
    touch(tmp_path, "A_image.nii.gz", "A_mask.seg.nrrd", "B.nrrd", "B.seg.nrrd")
    touch(tmp_path, "C_image.nii.gz")
    assert seen(discover(tmp_path)) == [
        ("A", ["A_image.nii.gz"], "A_mask.seg.nrrd"),
        ("B", ["B.nrrd"], "B.seg.nrrd"),
        ("C", ["C_image.nii.gz"], None),
    ]


def test_flat_files_of_several_channels_are_grouped_by_the_classifiers_names(
    tmp_path: Path,
) -> None:
    touch(tmp_path, "A_t1.nii.gz", "A_t1c.nii.gz", "A_seg.nii.gz", "B_t1.nii.gz", "B_t1c.nii.gz")
    assert seen(discover(tmp_path, channels=["t1c", "T1"])) == [
        ("A", ["t1c=A_t1c.nii.gz", "T1=A_t1.nii.gz"], "A_seg.nii.gz"),
        ("B", ["t1c=B_t1c.nii.gz", "T1=B_t1.nii.gz"], None),
    ]


def test_a_missing_channel_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "A_t1.nii.gz", "A_t2.nii.gz", "B_t1.nii.gz")
    with error_with(ErrorCode.CHANNELS, "B", "t2", "case,t1,t2,segmentation"):
        discover(tmp_path, channels=["t1", "t2"])


def test_nnunet_channels_are_named_and_put_in_the_classifiers_order(tmp_path: Path) -> None:
    touch(tmp_path / "imagesTr", "K_1_0000.nii.gz", "K_1_0001.nii.gz")
    touch(tmp_path / "labelsTr", "K_1.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": {"0": "T1", "1": "FLAIR"}}))
    assert seen(discover(tmp_path, channels=["flair", "t1"])) == [
        ("K_1", ["flair=K_1_0001.nii.gz", "t1=K_1_0000.nii.gz"], "K_1.nii.gz")
    ]


def test_nnunet_case_without_a_channel_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "imagesTr", "K_1_0000.nii.gz", "K_1_0001.nii.gz", "K_2_0000.nii.gz")
    with error_with(ErrorCode.CHANNELS, "K_2", "_0001"):
        discover(tmp_path)


def test_bids_sessions_find_the_lesion_and_not_the_brain_mask(tmp_path: Path) -> None:
    touch(tmp_path / "sub-01" / "ses-a" / "anat", "sub-01_ses-a_T1w.nii.gz")
    touch(tmp_path / "sub-01" / "ses-b" / "anat", "sub-01_ses-b_T1w.nii.gz")
    touch(tmp_path / "sub-02" / "anat", "sub-02_T1w.nii.gz", "sub-02_T1w.json")
    touch(
        tmp_path / "derivatives" / "manual" / "sub-01" / "ses-b" / "anat",
        "sub-01_ses-b_label-lesion_mask.nii.gz",
        "sub-01_ses-b_desc-brain_mask.nii.gz",
        "sub-01_ses-b_dseg.nii.gz",
    )
    assert seen(discover(tmp_path)) == [
        ("sub-01_ses-a", ["sub-01_ses-a_T1w.nii.gz"], None),
        ("sub-01_ses-b", ["sub-01_ses-b_T1w.nii.gz"], "sub-01_ses-b_label-lesion_mask.nii.gz"),
        ("sub-02", ["sub-02_T1w.nii.gz"], None),
    ]


def test_bids_images_become_channels_by_suffix(tmp_path: Path) -> None:
    touch(tmp_path / "sub-1" / "anat", "sub-1_T1w.nii.gz", "sub-1_FLAIR.nii.gz")
    assert seen(discover(tmp_path, channels=["FLAIR", "T1"])) == [
        ("sub-1", ["FLAIR=sub-1_FLAIR.nii.gz", "T1=sub-1_T1w.nii.gz"], None)
    ]
    assert seen(discover(tmp_path, channels=["T1w"])) == [("sub-1", ["T1w=sub-1_T1w.nii.gz"], None)]


def test_a_folder_per_case_names_channels_by_what_their_files_do_not_share(tmp_path: Path) -> None:
    names = [f"BraTS-1-{part}.nii.gz" for part in ("seg", "t1c", "t1n", "t2f", "t2w")]
    touch(tmp_path / "BraTS-1", *names)
    ((case, images, segmentation),) = seen(discover(tmp_path))
    assert case == "BraTS-1"
    assert [image.split("=")[0] for image in images] == ["t1c", "t1n", "t2f", "t2w"]
    assert segmentation == "BraTS-1-seg.nii.gz"
    assert seen(discover(tmp_path, channels=["t2w"]))[0][1] == ["BraTS-1-t2w.nii.gz"]


def test_modalities_with_masks_of_their_own_are_cases_of_their_own(tmp_path: Path) -> None:
    names = [f"{m}_{kind}.nii.gz" for m in ("CT", "MR_T1") for kind in ("image", "mask")]
    touch(tmp_path / "P_2", *names)
    assert seen(discover(tmp_path)) == [
        ("P_2-CT", ["CT_image.nii.gz"], "CT_mask.nii.gz"),
        ("P_2-MR_T1", ["MR_T1_image.nii.gz"], "MR_T1_mask.nii.gz"),
    ]
    assert seen(discover(tmp_path, channels=["MR_T1", "CT"])) == [
        ("P_2", ["MR_T1=MR_T1_image.nii.gz", "CT=CT_image.nii.gz"], "MR_T1_mask.nii.gz")
    ]


def test_pictures_in_a_folder_per_class_are_labelled(tmp_path: Path) -> None:
    touch(tmp_path, "glioma/1.jpg", "no tumour/1.png", "no tumour/1_mask.png")
    cases = discover(tmp_path)
    assert [(case.case, case.label) for case in cases] == [
        ("glioma-1", "glioma"),
        ("no_tumour-1", "no tumour"),
    ]
    assert cases[1].segmentation == tmp_path.resolve() / "no tumour" / "1_mask.png"


def test_results_of_an_earlier_study_are_no_cases(tmp_path: Path) -> None:
    touch(tmp_path / "P1", "image.nii.gz", "seg.nii.gz")
    touch(tmp_path / "out", "journal.jsonl", "P1/gradcam-tumour.nii.gz")
    touch(tmp_path / "one" / "P1", "explanation.json", "gradcam-tumour.nii.gz")
    assert [case.case for case in discover(tmp_path)] == ["P1"]


@pytest.mark.parametrize(
    ("names", "listed"),
    [
        (("P/seg-a.nii.gz", "P/seg-b.nii.gz", "P/t1.nii.gz"), "seg-a.nii.gz, seg-b.nii.gz"),
        (("P/1.nii", "P/2.nii", "P/a_seg.nii", "P/b_seg.nii"), "a_seg.nii, b_seg.nii"),
        (("P/mask.nii.gz", "P/seg.nii.gz"), "mask.nii.gz, seg.nii.gz"),
        (("A_image.nii", "A_mask.nii", "A_seg.nii"), "A_mask.nii, A_seg.nii"),
        (("A_image.nii", "A_mask.nii", "B_mask.nii"), "found: B_mask.nii)"),
        (("A.nii", "A.nii.gz"), "A.nii, A.nii.gz"),
    ],
)
def test_ambiguous_files_are_refused_with_advice_to_write_a_csv(
    tmp_path: Path, names: tuple[str, ...], listed: str
) -> None:
    touch(tmp_path, *names)
    with error_with(ErrorCode.CASES_LAYOUT, listed, "CSV with the columns case,image"):
        discover(tmp_path)


def test_nothing_found_says_what_was_looked_for(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt")
    with pytest.raises(InputError, match=r"no images found.*nnU-Net.*BIDS.*DICOM.*CSV"):
        discover(tmp_path)
    with error_with(ErrorCode.FILE_MISSING, "absent"):
        discover(tmp_path / "absent")


def test_csv_of_cases_reads_named_channels_and_labels(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.nii", "a/2.nii", "m.nii", "b.nii")
    table = tmp_path / "cases.csv"
    table.write_text(
        "case,image,segmentation,label,age\n"
        "P/1,t1=a/1.nii;t2=a/2.nii,m.nii,glioma,41\n"
        "P2,b.nii,,,12\n",
        encoding="utf-8-sig",
    )
    cases = discover(table)
    assert seen(cases) == [("P_1", ["t1=1.nii", "t2=2.nii"], "m.nii"), ("P2", ["b.nii"], None)]
    assert [case.label for case in cases] == ["glioma", None]


def test_csv_columns_of_channels_come_in_the_classifiers_order(tmp_path: Path) -> None:
    touch(tmp_path, "1.nii", "2.nii")
    (tmp_path / "cases.csv").write_text("case;T1;T2\nP;1.nii;2.nii\n")
    assert seen(discover(tmp_path / "cases.csv", channels=["t2", "t1"])) == [
        ("P", ["T2=2.nii", "T1=1.nii"], None)
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case,label\nA,x\n", "line 1: the column 'image' is missing"),
        ("case,image\nA,1.nii\nA,1.nii\n", "line 3: the case 'A' is already on line 2"),
        ("case,image\nA,1.nii\nB,2.nii\n", r"line 3: .*2\.nii does not exist"),
        ("case,image\nA,\n", "line 2: the cell 'image' is empty"),
        ("case,image\nA,1.nii,3\n", "line 2: the line has another number of cells"),
        ("case,image\n", "no cases below"),
    ],
)
def test_csv_errors_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    touch(tmp_path, "1.nii")
    (tmp_path / "cases.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        discover(tmp_path / "cases.csv")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("../../etc/passwd", "etc_passwd"),
        ("a b/c:d", "a_b_c_d"),
        ("Läsion β", "Läsion_β"),
        ("gradcam@features.norm5", "gradcam@features.norm5"),
        ("...", "unnamed"),
        ("CON", "CON_"),
    ],
)
def test_names_are_safe_in_any_file_system(text: str, name: str) -> None:
    assert safe_name(text) == name


def test_long_names_are_cut_and_stay_different() -> None:
    one, other = safe_name("ü" * 300 + "a"), safe_name("ü" * 300 + "b")
    assert one != other
    assert max(len(one.encode()), len(other.encode())) <= 100


def write_dicom(
    path: Path, kind: str, series: str, *, frame: str = "1.9", refers: str = "", study: str = "1.1"
) -> None:
    header = Dataset()
    header.SOPClassUID = kind
    header.SOPInstanceUID = f"1.5.{abs(hash(str(path))) % 10**9}"
    header.Modality = {CTImageStorage: "CT", SegmentationStorage: "SEG"}.get(kind, "RTSTRUCT")
    header.SeriesInstanceUID, header.StudyInstanceUID = series, study
    header.FrameOfReferenceUID = frame
    if kind == CTImageStorage:
        header.Rows = header.Columns = 4
    if refers:
        item = Dataset()
        item.SeriesInstanceUID = refers
        if kind == SegmentationStorage:
            header.ReferencedSeriesSequence = [item]
        else:
            del header.FrameOfReferenceUID
            inner, outer = Dataset(), Dataset()
            inner.RTReferencedSeriesSequence = [item]
            outer.FrameOfReferenceUID = frame
            outer.RTReferencedStudySequence = [inner]
            header.ReferencedFrameOfReferenceSequence = [outer]
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = kind
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    path.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(path, enforce_file_format=True)


def test_dicom_cases_are_numbered_and_matched_by_reference(tmp_path: Path) -> None:
    for patient, series in (("DOE^JANE", "1.2.1"), ("ROE^RICHARD", "1.2.2")):
        for n in range(2):
            write_dicom(tmp_path / patient / "deep" / f"{n}", CTImageStorage, series, study=series)
    write_dicom(tmp_path / "all" / "a.dcm", SegmentationStorage, "1.3.1", refers="1.2.2")
    write_dicom(tmp_path / "all" / "b.dcm", RTStructureSetStorage, "1.3.2", refers="1.2.1")
    cases = discover(tmp_path)
    assert [(c.case, c.segmentation.name) for c in cases if c.segmentation] == [
        ("case-001", "b.dcm"),
        ("case-002", "a.dcm"),
    ]
    assert not any("DOE" in line or "ROE" in line for line in describe_cases(cases))
    named = discover(tmp_path, keep_identifiers=True)
    assert [case.case for case in named] == ["DOE_JANE-deep", "ROE_RICHARD-deep"]


def test_a_reference_to_nothing_is_matched_by_frame_and_folder_and_said(tmp_path: Path) -> None:
    for part, series in (("CT", "1.2.1"), ("PET", "1.2.2")):
        write_dicom(tmp_path / "P" / part / "image" / "0.dcm", CTImageStorage, series)
        write_dicom(
            tmp_path / "P" / part / "mask" / f"{part}.dcm",
            RTStructureSetStorage,
            f"1.3.{series}",
            refers="1.2.777",
        )
    cases = discover(tmp_path)
    assert [case.segmentation.name for case in cases if case.segmentation] == ["CT.dcm", "PET.dcm"]
    assert all("nearest folder" in case.notes[0] for case in cases)


def test_two_series_in_one_folder_are_told_apart_by_their_uid(tmp_path: Path) -> None:
    write_dicom(tmp_path / "P" / "1.dcm", CTImageStorage, "1.2.1")
    write_dicom(tmp_path / "P" / "2.dcm", CTImageStorage, "1.2.2")
    assert [case.series for case in discover(tmp_path)] == ["1.2.1", "1.2.2"]


def test_series_without_segmentation_are_left_out_where_the_study_has_one(tmp_path: Path) -> None:
    write_dicom(tmp_path / "scout" / "1.dcm", CTImageStorage, "1.2.1")
    write_dicom(tmp_path / "ct" / "1.dcm", CTImageStorage, "1.2.2")
    write_dicom(tmp_path / "seg.dcm", SegmentationStorage, "1.3.1", refers="1.2.2")
    (case,) = discover(tmp_path)
    assert case.images[0][1].name == "ct"
    assert "1 further series" in case.notes[0]


def test_several_segmentations_of_a_series_are_refused_without_naming_the_patient(
    tmp_path: Path,
) -> None:
    write_dicom(tmp_path / "DOE^JANE" / "1.dcm", CTImageStorage, "1.2.1")
    for name in ("a.dcm", "b.dcm"):
        write_dicom(tmp_path / name, SegmentationStorage, f"1.3.{ord(name[0])}", refers="1.2.1")
    with error_with(ErrorCode.CASES_LAYOUT, "a.dcm, b.dcm") as caught:
        discover(tmp_path)
    assert "DOE" not in str(caught.value)


def test_paths_of_private_cases_stay_out_of_messages(tmp_path: Path) -> None:
    folder = tmp_path / "DOE^JANE" / "ct"
    case = Case("case-001", ((None, folder),), folder.parent / "seg.dcm", private=True)
    said = case.public(f"{folder / '1.dcm'}: truncated; {case.segmentation}: no voxel")
    assert said == "the image of case-001/1.dcm: truncated; the segmentation of case-001: no voxel"
    flat = Case("case-002", ((None, tmp_path / "DOE^JANE"),), private=True)
    assert flat.public("DOE^JANE: resampled") == "the image of case-002: resampled"


def test_files_of_a_private_folder_are_numbered_in_messages(tmp_path: Path) -> None:
    folder = touch(tmp_path / "scans" / "ct", "DOE_JANE_a.dcm", "DOE_JANE_b.dcm", "1")
    case = Case("case-001", ((None, folder),), private=True)
    said = case.public(f"{folder}: 1.08 mm between DOE_JANE_a.dcm and DOE_JANE_b.dcm.")
    assert said == "the image of case-001: 1.08 mm between file 2 and file 3."
    assert case.public(f"{folder / '1'}: cut off") == "file 1 of the image of case-001: cut off"


def test_a_relative_folder_takes_no_point_out_of_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path / "scan", "0")
    monkeypatch.chdir(tmp_path)
    case = single_case([(None, Path("scan"))])
    assert case.public("sheared by 18.5 degrees. 1.0 mm") == "sheared by 18.5 degrees. 1.0 mm"
    assert case.public("scan: rescanned") == "the image of case-001: rescanned"


def test_dicom_named_in_a_csv_is_as_private_as_dicom_found_in_a_tree(tmp_path: Path) -> None:
    touch(tmp_path, "DOE_JANE/0", "a.nii.gz")
    (tmp_path / "cases.csv").write_text("case,image\na,DOE_JANE\nb,a.nii.gz\n")
    assert [case.private for case in discover(tmp_path / "cases.csv")] == [True, False]
    kept = discover(tmp_path / "cases.csv", keep_identifiers=True)
    assert [case.private for case in kept] == [False, False]


def test_a_single_case_is_named_by_its_image_unless_it_is_dicom(tmp_path: Path) -> None:
    image, folder = tmp_path / "scan 1.nii.gz", tmp_path / "DOE^JANE"
    assert single_case([(None, image)]).case == "scan_1"
    assert not single_case([(None, image)]).private
    assert (single_case([(None, folder)]).case, single_case([(None, folder)]).private) == (
        "case-001",
        True,
    )
    assert single_case([(None, folder)], keep_identifiers=True).case == "DOE_JANE"
    assert single_case([(None, folder)], name="A/1").case == "A_1"


def test_the_real_layouts_are_recognised(shared_data: Path) -> None:
    sarcoma = discover(shared_data / "soft-tissue-sarcoma-nifti")
    assert len(sarcoma) == 12
    assert all(case.segmentation for case in sarcoma)
    assert {case.case for case in sarcoma} >= {"STS_002-CT", "STS_019-MR_T1", "STS_025-PET"}
    dicom = discover(shared_data / "soft-tissue-sarcoma-dicom-rtstruct")
    assert [case.images[0][1].parent.name for case in dicom] == ["CT", "MR_T1", "PET"]
    assert all(
        c.segmentation.parent.parent == c.images[0][1].parent for c in dicom if c.segmentation
    )
    pictures = discover(shared_data / "brain-mri-4class-nickparvar")
    assert {case.label for case in pictures} == {"glioma", "meningioma", "notumor", "pituitary"}
    assert Image.open(pictures[0].images[0][1]).size[0] > 1
    assert np.all([case.segmentation for case in discover(shared_data / "cxr-lung-masks")])


def test_volumes_and_dicom_series_in_one_tree_are_refused(tmp_path: Path) -> None:
    write_dicom(tmp_path / "P1" / "ct" / "1.dcm", CTImageStorage, "1.2.1")
    touch(tmp_path, "P2/ct.nii.gz", "P2/seg.nii.gz")
    with pytest.raises(InputError) as error:
        discover(tmp_path)
    assert error.value.code is ErrorCode.CASES_LAYOUT
    assert "ct.nii.gz" in str(error.value)
    shutil.rmtree(tmp_path / "P1")
    write_dicom(tmp_path / "P2" / "rt.dcm", RTStructureSetStorage, "1.3", refers="1.2.1")
    with pytest.raises(InputError) as error:
        discover(tmp_path)
    assert error.value.code is ErrorCode.CASES_LAYOUT


def test_segmentations_of_other_formats_belong_to_the_series_of_their_folder_or_name(
    tmp_path: Path,
) -> None:
    for patient in ("P1", "P2"):
        for n in range(2):
            path = tmp_path / patient / "ct" / f"{n}.dcm"
            write_dicom(path, CTImageStorage, f"1.2.{patient[1]}", study=patient[1])
    touch(tmp_path, "P1/seg.nii.gz", "P2/masks/1.nrrd", "P1/shot.png")
    found = discover(tmp_path)
    assert [case.segmentation and case.segmentation.name for case in found] == [
        "seg.nii.gz",
        "1.nrrd",
    ]
    assert "picture" in " ".join(found.sentences())
    assert "shot" not in " ".join(found.sentences())
    for name in ("P1/seg.nii.gz", "P2/masks/1.nrrd"):
        (tmp_path / name).unlink()
    touch(tmp_path, "masks/P2.nii.gz")
    assert [case.segmentation is not None for case in discover(tmp_path)] == [False, True]


@pytest.mark.parametrize("segmentation", ["P2/seg.nii.gz", "P2/seg.dcm"])
def test_a_segmentation_of_a_series_that_cannot_be_read_is_no_other_ones(
    tmp_path: Path, segmentation: str
) -> None:
    write_dicom(tmp_path / "P1" / "ct" / "1.dcm", CTImageStorage, "1.2.1", study="1")
    touch(tmp_path, "P2/ct/1.dcm", "P2/ct/2.dcm")
    if segmentation.endswith(".dcm"):
        path = tmp_path / segmentation
        write_dicom(path, SegmentationStorage, "1.3", refers="1.2.2", study="2", frame="1.8")
        with pytest.raises(InputError) as error:
            discover(tmp_path)
        assert error.value.code is ErrorCode.CASES_LAYOUT
        return
    touch(tmp_path, segmentation)
    (case,) = found = discover(tmp_path)
    assert case.segmentation is None
    assert "cannot be read" in " ".join(found.sentences())
    shutil.rmtree(tmp_path / "P1")
    with pytest.raises(InputError) as error:
        discover(tmp_path)
    assert error.value.code is ErrorCode.CASES_MISSING
    assert "cut off or damaged" in str(error.value)


def test_a_segmentation_without_any_series_in_its_folder_is_refused(tmp_path: Path) -> None:
    write_dicom(tmp_path / "P1" / "ct" / "1.dcm", CTImageStorage, "1.2.1")
    touch(tmp_path, "P2/seg.nii.gz")
    with pytest.raises(InputError) as error:
        discover(tmp_path)
    assert error.value.code is ErrorCode.CASES_LAYOUT
