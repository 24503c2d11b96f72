from __future__ import annotations

import errno
import os
import resource
import signal

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from SaliencyExplain.bands import BANDS, label_bands
from SaliencyExplain.errors import ErrorCode, OutputError
from SaliencyExplain.images.image_writing import atomic_file, write_bands, write_volume
from SaliencyExplain.images.reading import read_image, to_image
from SaliencyExplain.images.segmentation import read_segmentation
from Testing.expected_errors import error_with

LPS = np.diag([-1.0, -1.0, 1.0])


@pytest.fixture
def attribution():
    return np.random.default_rng(0).normal(size=(12, 14, 6)).astype(np.float32)


def itk_corner(image, index):
    return LPS @ image.TransformIndexToPhysicalPoint(index)


def test_a_map_is_read_back_by_nibabel_and_itk_voxel_by_voxel(tmp_path, attribution, affine):
    path = tmp_path / "map.nii.gz"
    write_volume(path, attribution, affine, "occlusion: for glioma")
    back = nibabel.load(path)
    assert back.get_data_dtype() == np.float32
    np.testing.assert_array_equal(np.asarray(back.dataobj), attribution)
    np.testing.assert_allclose(back.affine, affine, atol=1e-4)
    np.testing.assert_allclose(back.get_qform(), affine, atol=1e-4)
    assert back.header.get_xyzt_units()[0] == "mm"
    assert bytes(back.header["descrip"]).rstrip(b"\0") == b"occlusion: for glioma"
    itk = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(itk).T, attribution)
    for index in ((0, 0, 0), (11, 0, 0), (0, 13, 0), (11, 13, 5)):
        np.testing.assert_allclose(itk_corner(itk, index), affine[:3] @ (*index, 1), atol=1e-3)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_left_handed_grids_survive(tmp_path, attribution, affine, axis):
    turned = affine.copy()
    turned[:3, axis] *= -1
    write_volume(tmp_path / "map.nii.gz", attribution, turned)
    write_bands(tmp_path / "map.seg.nrrd", label_bands(attribution), turned)
    for name in ("map.nii.gz", "map.seg.nrrd"):
        np.testing.assert_allclose(read_image(tmp_path / name).affine.numpy(), turned, atol=1e-4)


def test_a_map_of_two_axes_keeps_its_shape_and_place(tmp_path, attribution):
    affine = np.diag([-0.5, -0.7, 1.0, 1.0])
    write_volume(tmp_path / "flat.nii.gz", attribution[..., 0], affine)
    back = nibabel.load(tmp_path / "flat.nii.gz")
    assert back.shape == (12, 14)
    np.testing.assert_allclose(back.affine, affine, atol=1e-6)
    itk = sitk.ReadImage(str(tmp_path / "flat.nii.gz"))
    np.testing.assert_allclose(itk.GetSpacing()[:2], (0.5, 0.7), atol=1e-6)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(itk).T, attribution[..., 0])
    ours = read_image(tmp_path / "flat.nii.gz")
    assert ours.shape == (1, 12, 14)
    np.testing.assert_allclose(ours.affine.numpy(), affine, atol=1e-6)


def test_the_same_values_give_the_same_bytes(tmp_path, attribution, affine):
    for folder in ("a", "b"):
        write_volume(tmp_path / folder / f"{folder}.nii.gz", attribution, affine)
        write_bands(tmp_path / folder / "map.seg.nrrd", label_bands(attribution), affine)
        os.utime(tmp_path / folder)
    assert (tmp_path / "a/a.nii.gz").read_bytes() == (tmp_path / "b/b.nii.gz").read_bytes()
    first = (tmp_path / "a/map.seg.nrrd").read_bytes()
    assert first == (tmp_path / "b/map.seg.nrrd").read_bytes()
    assert (tmp_path / "a/a.nii.gz").read_bytes()[4:8] == b"\0\0\0\0"


def test_bands_are_segments_with_slicers_fields(tmp_path, attribution, affine):
    labels = label_bands(attribution)
    path = tmp_path / "map.seg.nrrd"
    write_bands(path, labels, affine)
    itk = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(itk).T, labels)
    np.testing.assert_allclose(itk_corner(itk, (11, 13, 5)), affine[:3] @ (11, 13, 5, 1), atol=1e-3)
    for index, band in enumerate(BANDS):
        field = f"Segment{index}_"
        assert itk.GetMetaData(field + "Name") == band.name
        assert itk.GetMetaData(field + "LabelValue") == str(band.label)
        assert itk.GetMetaData(field + "Layer") == "0"
        color = [float(part) for part in itk.GetMetaData(field + "Color").split()]
        assert color == pytest.approx(band.color)
        extent = [int(part) for part in itk.GetMetaData(field + "Extent").split()]
        voxels = np.argwhere(labels == band.label)
        assert extent[::2] == voxels.min(axis=0).tolist()
        assert extent[1::2] == voxels.max(axis=0).tolist()
    assert itk.GetMetaData("Segmentation_MasterRepresentation") == "Binary labelmap"
    image = to_image(attribution[np.newaxis], affine, name="image")
    found = read_segmentation(path, image)
    assert [segment.name for segment in found.segments] == [band.name for band in BANDS]
    assert [segment.color for segment in found.segments] == [band.color for band in BANDS]
    for segment, band in zip(found.segments, BANDS, strict=True):
        np.testing.assert_array_equal(segment.mask, labels == band.label)
    assert nrrd_header(path).count(b"space: left-posterior-superior") == 1


def nrrd_header(path):
    return path.read_bytes().split(b"\n\n", 1)[0]


def test_maps_without_a_negative_voxel_have_no_bands_against(tmp_path, attribution, affine):
    write_bands(tmp_path / "m.seg.nrrd", label_bands(np.abs(attribution)), affine)
    header = nrrd_header(tmp_path / "m.seg.nrrd")
    assert b"for the class" in header
    assert b"against" not in header


def test_bands_of_two_axes_are_one_slice(tmp_path, attribution):
    affine = np.diag([-0.5, -0.7, 1.0, 1.0])
    labels = label_bands(attribution[..., 0])
    write_bands(tmp_path / "flat.seg.nrrd", labels, affine)
    itk = sitk.ReadImage(str(tmp_path / "flat.seg.nrrd"))
    assert itk.GetSize() == (12, 14, 1)
    image = to_image(attribution[np.newaxis, ..., 0], affine, name="image")
    found = read_segmentation(tmp_path / "flat.seg.nrrd", image)
    np.testing.assert_array_equal(found.segments[0].mask, labels == 1)


def test_nothing_is_left_of_a_file_that_failed(tmp_path):
    target = tmp_path / "report.html"
    target.write_text("old")

    def fail_halfway():
        with atomic_file(target) as temporary:
            assert temporary.parent == tmp_path
            assert temporary.suffix == ".html"
            temporary.write_text("half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with error_with(ErrorCode.OUTPUT_UNWRITABLE, "report.html", "No space left"):
        fail_halfway()
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert target.read_text() == "old"


def test_an_error_of_another_kind_passes_and_leaves_nothing(tmp_path):
    def fail():
        with atomic_file(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def full_disk():
    """Files of this process end at 2 KiB, as on a disk that fills up."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, handler)


def write_noise_bands(path, values, affine):
    write_bands(path, label_bands(values), affine)


@pytest.mark.parametrize(
    ("name", "write"), [("map.nii.gz", write_volume), ("map.seg.nrrd", write_noise_bands)]
)
def test_a_full_disk_is_said_in_one_line_and_nothing_is_left(
    tmp_path, affine, full_disk, name, write
):
    noise = np.random.default_rng(0).normal(size=(32, 32, 32)).astype(np.float32)
    with pytest.raises(OutputError, match=r"cannot be written") as error:
        write(tmp_path / name, noise, affine)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_refused(tmp_path, attribution, affine):
    (tmp_path / "out").write_text("a file")
    with error_with(ErrorCode.OUTPUT_UNWRITABLE, "map.nii.gz"):
        write_volume(tmp_path / "out" / "map.nii.gz", attribution, affine)
    with error_with(ErrorCode.OUTPUT_UNWRITABLE, "map.seg.nrrd"):
        write_bands(tmp_path / "out" / "map.seg.nrrd", label_bands(attribution), affine)
