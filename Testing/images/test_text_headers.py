"""NRRD and MetaImage: beside SimpleITK, and where its reading would be wrong or fatal."""

from __future__ import annotations

import gzip
import os
import zlib

import numpy as np
import pytest
import SimpleITK as sitk

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.reading import read_image
from SaliencyExplain.images.volume_reading import read_volume
from Testing.expected_errors import error_with
from Testing.images.refusals import refused

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
VALUES = np.random.default_rng(0).permutation(8 * 7 * 6).astype("<f4").reshape((8, 7, 6), order="F")
BYTES = VALUES.tobytes(order="F")
NRRD = "NRRD0004\ntype: float\ndimension: 3\nsizes: 8 7 6\nendian: little\n"
IN_SPACE = "space: left-posterior-superior\nspace directions: (1,0,0) (0,2,0) (0,0,3)\n"
META = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "CompressedData": "False",
    "TransformMatrix": "1 0 0 0 1 0 0 0 1",
    "Offset": "0 0 0",
    "ElementSpacing": "1 2 3",
    "DimSize": "8 7 6",
    "ElementType": "MET_FLOAT",
}


@pytest.fixture
def nrrd(tmp_path):
    def write(*lines, name="a.nrrd", content=BYTES, head=NRRD, encoding="raw"):
        text = head + f"encoding: {encoding}\n" + "".join(f"{line}\n" for line in lines) + "\n"
        (tmp_path / name).write_bytes(text.encode() + content)
        return tmp_path / name

    return write


@pytest.fixture
def meta(tmp_path):
    def write(name="a.mha", data="LOCAL", content=BYTES, **fields):
        lines = {**META, **fields, "ElementDataFile": data}
        text = "".join(f"{key} = {value}\n" for key, value in lines.items() if value is not None)
        (tmp_path / name).write_bytes(text.encode() + content)
        return tmp_path / name

    return write


def by_itk(path):
    image = sitk.ReadImage(str(path))
    axes = image.GetDimension()
    lps = np.eye(4)
    direction = np.array(image.GetDirection()).reshape(axes, axes)
    lps[:axes, :axes] = direction * image.GetSpacing()
    lps[:axes, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).T, LPS @ lps


def same_as_itk(path):
    values, affine = by_itk(path)
    found = read_volume(path)
    assert np.array_equal(found.values[0], values)
    assert found.values.dtype == values.dtype
    assert np.allclose(found.affine, affine, atol=1e-9)
    return found


@pytest.mark.parametrize("suffix", ["nrrd", "mha", "mhd", "nhdr"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", ["int8", "uint16", "int32", "uint64", "float32", "float64"])
def test_what_itk_writes_is_read_as_itk_does(tmp_path, affine, suffix, compressed, kind):
    image = sitk.GetImageFromArray((VALUES.T % 100).astype(kind))
    lps = LPS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    path = tmp_path / f"a.{suffix}"
    sitk.WriteImage(image, str(path), useCompression=compressed)
    same_as_itk(path)


def test_two_axes_are_read_as_itk_does(tmp_path):
    image = sitk.GetImageFromArray(VALUES[..., 0].T.copy())
    image.SetSpacing((0.5, 2.0))
    image.SetOrigin((3.0, -4.0))
    for name in ("a.nrrd", "a.mha"):
        sitk.WriteImage(image, str(tmp_path / name))
        assert read_volume(tmp_path / name).values.shape == (1, 8, 7)
        same_as_itk(tmp_path / name)


@pytest.mark.parametrize(
    "space", ["RAS", "right-anterior-superior", "LAS", "left-anterior-superior", "LPS"]
)
def test_spaces_of_the_patient_are_read_as_itk_does(nrrd, space):
    directions = "space directions: (0,1,0) (0,0,2) (3,0,0)"
    found = same_as_itk(nrrd(f"space: {space}", directions, "space origin: (5,6,7)"))
    assert not found.notes


@pytest.mark.parametrize(
    "lines",
    [
        ["spacings: 1 2 3", "axis mins: 5 6 7"],
        ["spacings: 1 2 3", "axis mins: 5 6 7", "centerings: node node cell"],
        ["spacings: 1 2 3"],
        [],
    ],
)
def test_spacings_without_a_space_are_read_as_itk_does(nrrd, lines):
    for name in ("a.nrrd", "b.NRRD"):
        assert "no patient space" in same_as_itk(nrrd(*lines, name=name)).notes[0]


@pytest.mark.parametrize(
    "fields",
    [
        {"TransformMatrix": "0 1 0 0 0 1 1 0 0", "Offset": "1 2 3"},
        {"TransformMatrix": None, "Rotation": "0 1 0 0 0 1 1 0 0"},
        {"TransformMatrix": None, "Orientation": "0 1 0 0 0 1 1 0 0", "Position": "4 5 6"},
        {"Offset": None, "Position": "4 5 6"},
        {"Offset": "1 1 1", "Origin": "4 5 6"},
        {"ElementSpacing": None, "ElementSize": "2 2 2"},
        {"BinaryData": None},
        {"BinaryDataByteOrderMSB": "True"},
    ],
)
def test_meta_image_fields_are_read_as_itk_does(meta, fields):
    same_as_itk(meta(**fields))


def test_suffixes_in_capitals(nrrd, meta):
    assert np.array_equal(read_volume(nrrd(IN_SPACE[:-1], name="a.NRRD")).values[0], VALUES)
    assert np.array_equal(read_volume(meta(name="a.MHA")).values[0], VALUES)


@pytest.mark.parametrize(
    ("encoding", "content"),
    [
        ("gzip", gzip.compress(BYTES)),
        ("gz", gzip.compress(BYTES[:500]) + gzip.compress(BYTES[500:])),
        ("ascii", " ".join(str(int(v)) for v in VALUES.ravel(order="F")).encode()),
        ("hex", BYTES.hex().encode()),
    ],
)
def test_encodings(nrrd, encoding, content):
    found = read_volume(nrrd(IN_SPACE[:-1], content=content, encoding=encoding))
    assert np.array_equal(found.values[0], VALUES)


@pytest.mark.parametrize("written", ["a.nhdr", "a.mhd"])
def test_voxels_in_numbered_and_listed_files(tmp_path, nrrd, meta, written):
    names = [f"s{index:02d}.raw" for index in range(1, 7)]
    for index, name in enumerate(names):
        (tmp_path / name).write_bytes(VALUES[..., index].tobytes(order="F"))
    for kind in ("s%02d.raw 1 6 1", "LIST"):
        behind = "".join(f"{name}\n" for name in names) if kind == "LIST" else ""
        if written == "a.nhdr":
            path = nrrd(
                IN_SPACE[:-1],
                f"data file: {kind}\n{behind}"[:-1] or kind,
                name=written,
                content=b"",
            )
        else:
            path = meta(name=written, data=kind, content=behind.encode())
        assert np.array_equal(read_volume(path).values[0], VALUES)


def test_units_are_turned_into_millimetres(nrrd, meta):
    found = read_volume(nrrd(IN_SPACE[:-1], "space origin: (5,6,7)", 'space units: "um" "um" "um"'))
    assert np.allclose(found.affine, LPS @ np.diag([1e-3, 2e-3, 3e-3, 1]) + _at(-5e-3, -6e-3, 7e-3))
    assert any("um" in note for note in found.notes)
    found = read_volume(nrrd("spacings: 1 2 3", 'units: "cm" "cm" "mm"'))
    assert np.allclose(np.abs(np.diag(found.affine)[:3]), [10, 20, 3])
    found = read_volume(meta(DistanceUnits="um"))
    assert np.allclose(np.abs(np.diag(found.affine)[:3]), [1e-3, 2e-3, 3e-3])
    assert any("um" in note for note in found.notes)
    assert not read_volume(meta(DistanceUnits="mm")).notes
    refused(nrrd(IN_SPACE[:-1], 'space units: "px" "px" "px"'), ErrorCode.IMAGE_GEOMETRY, "px")


def _at(*place):
    affine = np.zeros((4, 4))
    affine[:3, 3] = place
    return affine


@pytest.mark.parametrize("space", ["scanner-xyz", "3D-right-handed", "3D-left-handed", "RPI"])
def test_spaces_that_say_nothing_of_the_patient(nrrd, space):
    path = nrrd(f"space: {space}", "space directions: (1,0,0) (0,1,0) (0,0,2)")
    refused(path, ErrorCode.IMAGE_GEOMETRY, space)


def test_slicers_names_of_segments(nrrd):
    path = nrrd(IN_SPACE[:-1], r"Segment0_Name:=one\\two\nthree: four", "Segment0_ID:=a=b")
    assert read_volume(path).header == {
        "Segment0_Name": "one\\two\nthree: four",
        "Segment0_ID": "a=b",
    }


@pytest.mark.parametrize("axes", [-1, 0, 1, 6, 16, 17, 100, 2**31])
def test_numbers_of_axes(nrrd, meta, axes):
    head = NRRD.replace("dimension: 3", f"dimension: {axes}")
    head = head.replace("8 7 6", "8 7 6" + " 1" * (min(axes, 200) - 3))
    with pytest.raises(InputError, match=r"a\.nrrd: "):
        read_image(nrrd(head=head))
    with error_with(ErrorCode.IMAGE_AXES, "a.mha"):
        read_image(meta(NDims=axes))


@pytest.mark.parametrize("sizes", ["8 7 -6", "8 7 0", "8 7 60", "800000 700000 600000", "8 7", "x"])
def test_sizes_that_the_file_does_not_hold(nrrd, meta, sizes):
    for path in (
        nrrd(head=NRRD.replace("8 7 6", sizes)),
        nrrd(head=NRRD.replace("8 7 6", sizes), encoding="gzip", content=gzip.compress(BYTES)),
        meta(DimSize=sizes),
        meta(DimSize=sizes, CompressedData="True", content=zlib.compress(BYTES)),
    ):
        with pytest.raises(InputError) as error:
            read_image(path)
        assert str(error.value).startswith(f"{path}: ")


def test_voxels_that_cannot_be_unpacked(meta):
    # ITK gives other values without a word.
    path = meta(CompressedData="True", CompressedDataSize="0", content=zlib.compress(BYTES)[3:])
    refused(path, ErrorCode.FILE_DAMAGED)
    refused(meta(Offset="1 2"), ErrorCode.FILE_DAMAGED, "Offset")
    refused(meta(Name="a" * 300, ElementSpacing="0 1 1"), ErrorCode.IMAGE_GEOMETRY, "0 1 1")
    refused(meta(ElementToIntensityFunctionSlope="2"), ErrorCode.IMAGE_VALUES)


@pytest.mark.parametrize("named", ["outside", "link", "absolute", "pipe", "missing"])
@pytest.mark.parametrize("written", ["a.nhdr", "a.mhd", "list.nhdr", "list.mhd"])
def test_voxels_outside_of_the_headers_folder(tmp_path, nrrd, meta, named, written):
    outside = tmp_path / "secret.raw"
    outside.write_bytes(BYTES)
    folder = tmp_path / "image"
    folder.mkdir()
    name = {
        "outside": "../secret.raw",
        "link": "link.raw",
        "absolute": str(outside),
        "pipe": "pipe.raw",
        "missing": "none.raw",
    }[named]
    (folder / "link.raw").symlink_to(outside)
    os.mkfifo(folder / "pipe.raw")
    listed = written.startswith("list")
    if written.endswith("nhdr"):
        line = f"data file: LIST\n{name}" if listed else f"data file: {name}"
        path = nrrd(IN_SPACE[:-1], line, name=f"image/{written}", content=b"")
    else:
        content = f"{name}\n".encode() if listed else b""
        path = meta(name=f"image/{written}", data="LIST" if listed else name, content=content)
    with pytest.raises(InputError) as error:
        read_image(path)
    assert name in str(error.value)
