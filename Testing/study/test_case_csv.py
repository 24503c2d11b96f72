"""The table of cases: its columns, its paths, its mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.studies.case_csv import read_cases
from SaliencyExplain.studies.discovery import discover


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("i.nii.gz", "j.nii.gz", "m.nii.gz", "n.nii.gz", "sub/Cafe\u0301.nii"):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return tmp_path / "data"


def table(folder: Path, text: str) -> Path:
    path = folder / "cases.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "header",
    [
        "case,image,mask,label", "case,image,seg,label", "case,Image,Mask,Class",
        "Case ID,image,Segmentation,diagnosis", "case,image_path,ground_truth,target",
        "case,img,label_map,category", "CASE,IMAGE,SEG_PATH,DX",
    ],
)  # fmt: skip
def test_usual_names_of_columns_are_taken_and_said(folder: Path, header: str) -> None:
    found = read_cases(table(folder, f"{header}\n1,i.nii.gz,m.nii.gz,glioma\n"))
    assert (found[0].segmentation, found[0].label) == (folder / "m.nii.gz", "glioma")
    for name in (header.split(",")[2], header.split(",")[3]):
        if name.casefold() not in ("segmentation", "label"):
            assert name in " ".join(found.notes)


def test_columns_that_are_not_used_are_named(folder: Path) -> None:
    (case,) = found = read_cases(table(folder, "case,image,Maske,Befund\n1,i.nii.gz,m.nii.gz,x\n"))
    assert case.segmentation is None
    for word in ("Maske", "Befund", "segmentation", "label"):
        assert word in " ".join(found.notes)
        assert word in " ".join(case.notes)
    other = read_cases(table(folder, "case,image,mask,label,age\n1,i.nii.gz,m.nii.gz,x,7\n"))
    assert "age" in " ".join(other.notes)
    assert not other[0].notes


def test_two_columns_that_could_be_the_same_are_refused(folder: Path) -> None:
    with pytest.raises(InputError) as error:
        read_cases(table(folder, "case,image,class,diagnosis\n1,i.nii.gz,a,b\n"))
    assert error.value.code is ErrorCode.CASES_TABLE
    assert "class, diagnosis" in str(error.value)
    (case,) = read_cases(table(folder, "case,image,label,diagnosis\n1,i.nii.gz,a,b\n"))
    assert case.label == "a"


def test_a_label_column_of_files_names_segmentations(folder: Path) -> None:
    (case,) = found = read_cases(table(folder, "case,image,label\n1,i.nii.gz,m.nii.gz\n"))
    assert (case.segmentation, case.label) == (folder / "m.nii.gz", None)
    assert "label" in " ".join(found.notes)


def test_labels_of_pandas_are_whole_numbers_and_gaps_are_said(folder: Path) -> None:
    text = "case,image,label\n1,i.nii.gz,1.0\n2,j.nii.gz,NaN\n3,m.nii.gz,\n4,n.nii.gz,0.0\n"
    found = read_cases(table(folder, text))
    assert [case.label for case in found] == ["1", None, None, "0"]
    assert "2 of 4" in " ".join(found.notes)
    decimal = "case;image;label\n1;i.nii.gz;1,0\n2;j.nii.gz;2,0\n"
    assert [case.label for case in read_cases(table(folder, decimal))] == ["1", "2"]
    mixed = "case,image,label\n1,i.nii.gz,1.0\n2,j.nii.gz,1.5\n"
    assert [case.label for case in read_cases(table(folder, mixed))] == ["1.0", "1.5"]


def test_a_class_may_be_called_none(folder: Path) -> None:
    text = "case,image,mask,label\n1,i.nii.gz,none,none\n2,j.nii.gz,None,None\n3,m.nii.gz,,glioma\n"
    found = read_cases(table(folder, text))
    assert [case.label for case in found] == ["none", None, "glioma"]
    assert [case.segmentation for case in found] == [None] * 3


def test_several_segmentations_stand_in_one_cell(folder: Path) -> None:
    (case,) = read_cases(table(folder, "case,image,mask\n1,i.nii.gz,m.nii.gz; n.nii.gz\n"))
    assert case.segmentations == (folder / "m.nii.gz", folder / "n.nii.gz")


@pytest.mark.parametrize("name", ["sub/Café.nii", "sub\\Cafe\u0301.nii", ".\\sub\\Café.nii"])
def test_paths_of_other_systems_meet_the_file(folder: Path, name: str) -> None:
    (case,) = read_cases(table(folder, f"case,image\n1,{name}\n"))
    assert case.paths[0].samefile(folder / "sub" / "Cafe\u0301.nii")
    (same,) = read_cases(table(folder, f"case,image\n1,{folder / 'sub'}/Café.nii\n"))
    assert same.paths[0].samefile(case.paths[0])


def test_missing_files_are_named_all_at_once_with_their_lines(folder: Path) -> None:
    lines = "".join(f"{n},{n}.nii,i.nii.gz\n" for n in range(30))
    with pytest.raises(InputError) as error:
        read_cases(table(folder, f"case,image,mask\n{lines}"))
    assert error.value.code is ErrorCode.FILE_MISSING
    for word in ("30 files", "line 2: 0.nii", "line 11: 9.nii", "20 more"):
        assert word in str(error.value)
    with pytest.raises(InputError) as error:
        read_cases(table(folder, f"case,image\n1,{'x' * 5000}.nii\n"))
    assert error.value.code is ErrorCode.FILE_MISSING


def test_paths_are_asked_for_before_they_are_looked_for(folder: Path) -> None:
    asked: list[Path] = []

    def refuse(path: Path) -> None:
        asked.append(path)
        if "data" not in path.resolve().parts:
            raise InputError(ErrorCode.ENGINE_ACCESS, f"{path}: outside.")

    with pytest.raises(InputError) as error:
        discover(table(folder, "case,image\n1,../../nowhere.nii\n"), allowed=refuse)
    assert error.value.code is ErrorCode.ENGINE_ACCESS
    assert len(discover(table(folder, "case,image\n1,i.nii.gz\n"), allowed=refuse)) == 1
    assert asked


def test_names_that_become_one_are_told_apart_and_the_same_name_is_refused(folder: Path) -> None:
    first, second = found = read_cases(table(folder, "case,image\nP 1,i.nii.gz\nP/1,j.nii.gz\n"))
    assert first.case == "P_1" != second.case
    assert "P_1" in " ".join(second.notes)
    assert found[1].case == read_cases(folder / "cases.csv")[1].case
    with pytest.raises(InputError) as error:
        read_cases(table(folder, "case,image\nP 1,i.nii.gz\nP 1,i.nii.gz\n"))
    assert error.value.code is ErrorCode.NAME_DUPLICATE


def test_a_name_like_a_formula_comes_back_from_the_tables_that_are_written(folder: Path) -> None:
    (case,) = read_cases(table(folder, "case,image,label\n'=1+1,i.nii.gz,'-none\n"))
    assert (case.case, case.label) == ("=1+1", "-none")


@pytest.mark.parametrize(
    "column",
    ["ID", "patient", "PatientID", "subject", "name", "image_id", "study"],
)
def test_usual_names_of_the_column_of_cases_are_taken_and_said(folder: Path, column: str) -> None:
    text = f"{column},image,mask,label\nA,i.nii.gz,m.nii.gz,x\nB,j.nii.gz,n.nii.gz,y\n"
    found = read_cases(table(folder, text))
    assert [case.case for case in found] == ["A", "B"]
    assert f"'{column}' as case" in " ".join(found.notes)


@pytest.mark.parametrize(
    "text",
    [
        "Image,Mask\ni.nii.gz,m.nii.gz\nj.nii.gz,n.nii.gz\n",
        "patient,image,mask\nA,i.nii.gz,m.nii.gz\nA,j.nii.gz,n.nii.gz\n",
        "ID,name,image\n1,a,i.nii.gz\n2,b,j.nii.gz\n",
    ],
)
def test_without_one_column_of_cases_they_are_called_as_their_images(
    folder: Path, text: str
) -> None:
    found = read_cases(table(folder, text))
    assert [case.case for case in found] == ["i", "j"]
    assert "names the cases" in " ".join(found.notes)


def test_images_of_equal_names_in_two_folders_are_called_by_their_paths(folder: Path) -> None:
    (folder / "sub" / "i.nii.gz").write_bytes(b"")
    found = read_cases(table(folder, "image\ni.nii.gz\nsub/i.nii.gz\n"))
    assert len({case.case for case in found}) == 2


def test_dicom_is_not_called_by_its_patient_or_file(folder: Path) -> None:
    (folder / "DOE^JOHN").mkdir()
    (case,) = read_cases(table(folder, "PatientID,image\nDOE^JOHN,DOE^JOHN\n"))
    assert case.case == "case-001"
    (case,) = read_cases(table(folder, "image\nDOE^JOHN\n"))
    assert case.case == "case-001"


@pytest.mark.parametrize("empty", ["None", "-", "?", "n/a", "N.A.", "null"])
def test_words_for_no_value_are_empty_cells(folder: Path, empty: str) -> None:
    (case,) = read_cases(table(folder, f"case,image,mask,label\n1,i.nii.gz,{empty},{empty}\n"))
    assert (case.segmentation, case.label) == (None, None)


@pytest.mark.parametrize(
    ("mask", "label"), [("roi", "y"), ("annotation", "group"), ("label_path", "finding")]
)
def test_weaker_names_are_taken_where_there_is_no_other(
    folder: Path, mask: str, label: str
) -> None:
    found = read_cases(table(folder, f"case,image,{mask},{label}\n1,i.nii.gz,m.nii.gz,x\n"))
    assert (found[0].segmentation, found[0].label) == (folder / "m.nii.gz", "x")
    assert mask in " ".join(found.notes)
    beside = f"case,image,{mask},{label},seg,label\n1,i.nii.gz,m.nii.gz,x,n.nii.gz,z\n"
    if mask != "label_path":
        (case,) = read_cases(table(folder, beside))
        assert (case.segmentation, case.label) == (folder / "n.nii.gz", "z")
    (case,) = read_cases(table(folder, "case,image,roi,x,y\n1,i.nii.gz,left,3,4\n"))
    assert (case.segmentation, case.label) == (None, None)
