from __future__ import annotations

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from PIL import Image
from pydicom.sr.codedict import codes

from SaliencyExplain.errors import ErrorCode
from SaliencyExplain.images.reading import read_image, to_image
from SaliencyExplain.images.segmentation import EMPTY_NOTE, read_ground_truth, read_segmentation
from Testing.expected_errors import error_with


@pytest.fixture
def image(values, affine):
    return to_image(values[np.newaxis], affine, name="image")


def save(path, labels, affine):
    nibabel.save(nibabel.Nifti1Image(labels, affine), path)
    return path


@pytest.fixture
def labels():
    labels = np.zeros((7, 9, 5), dtype=np.uint8)
    labels[1:3, 2:5, 1:4] = 1
    labels[4:6, 6:8, 2:] = 4
    return labels


def test_a_label_map_has_a_segment_for_each_value(tmp_path, image, labels, affine):
    found = read_segmentation(save(tmp_path / "l.nii.gz", labels, affine), image)
    assert [segment.name for segment in found.segments] == ["label 1", "label 4"]
    for segment, value in zip(found.segments, (1, 4), strict=True):
        assert segment.mask.dtype == bool
        np.testing.assert_array_equal(segment.mask, labels == value)
    assert found.segments[0].color != found.segments[1].color
    assert found.notes == ()
    np.testing.assert_array_equal(found.affine, affine)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int16])
def test_whole_numbers_of_any_type_are_labels(tmp_path, image, labels, affine, kind):
    found = read_segmentation(save(tmp_path / "l.nii", labels.astype(kind), affine), image)
    np.testing.assert_array_equal(found.segments[1].mask, labels == 4)


def test_a_flipped_and_cropped_copy_marks_the_same_voxels_without_a_note(
    tmp_path, image, labels, affine
):
    turned = affine.copy()
    turned[:3, 3] += turned[:3, 0] * 6 + turned[:3, 2]
    turned[:3, 0] *= -1
    found = read_segmentation(save(tmp_path / "l.nii", labels[::-1, :, 1:], turned), image)
    np.testing.assert_array_equal(found.segments[0].mask, labels == 1)
    assert found.notes == ()


def test_another_grid_is_resampled_aloud(tmp_path, image, labels, affine):
    fine = affine @ np.diag([0.5, 0.5, 0.5, 1.0])
    # The centres of the fine voxels: two within each coarse one along each axis.
    fine[:3, 3] -= fine[:3, :3] @ (0.5, 0.5, 0.5)
    detailed = labels.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    found = read_segmentation(save(tmp_path / "l.nii", detailed, fine), image)
    np.testing.assert_array_equal(found.segments[0].mask, labels == 1)
    np.testing.assert_array_equal(found.segments[1].mask, labels == 4)
    assert found.notes == ("the segmentation is resampled (nearest voxel) onto the image's grid",)


def test_what_lies_outside_the_image_is_said_aloud(tmp_path, image, labels, affine):
    moved = affine.copy()
    moved[:3, 3] += 2 * affine[:3, 2]
    found = read_segmentation(save(tmp_path / "l.nii", labels, moved), image)
    np.testing.assert_array_equal(found.segments[0].mask[..., 2:], (labels == 1)[..., :3])
    outside = 100 * (labels[..., 3:] > 0).sum() / (labels > 0).sum()
    elsewhere, beyond = found.notes
    assert "(0, 0, 2) voxels" in elsewhere
    assert beyond == f"{outside:.1f} % of the segmentation lie outside the image"


def slicer_file(path, layers, affine, fields):
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image = sitk.GetImageFromArray(np.moveaxis(layers, 0, -1).transpose(2, 1, 0, 3), isVector=True)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    for key, value in fields.items():
        image.SetMetaData(key, value)
    sitk.WriteImage(image, str(path))
    return path


def test_slicer_segments_keep_names_colours_and_overlap(tmp_path, image, labels, affine):
    other = np.zeros_like(labels)
    other[:, 3, :] = 2
    fields = {
        "Segment0_ID": "Segment_1",
        "Segment0_Name": "Enhancing tumour",
        "Segment0_Color": "0.9 0.1 0.2",
        "Segment0_Layer": "0",
        "Segment0_LabelValue": "4",
        "Segment1_ID": "Segment_2",
        "Segment1_Name": "Falx",
        "Segment1_Color": "0 1 0",
        "Segment1_Layer": "1",
        "Segment1_LabelValue": "2",
    }
    path = slicer_file(tmp_path / "s.seg.nrrd", np.stack([labels, other]), affine, fields)
    found = read_segmentation(path, image)
    names = ["Enhancing tumour", "Falx", "layer 1 label 1"]
    assert [segment.name for segment in found.segments] == names
    assert any("layer 1 label 1" in note for note in found.notes)
    assert found.segments[0].color == (0.9, 0.1, 0.2)
    np.testing.assert_array_equal(found.segments[0].mask, labels == 4)
    np.testing.assert_array_equal(found.segments[1].mask, other == 2)
    assert (found.segments[0].mask & found.segments[1].mask).sum() == 0
    fields["Segment0_LabelValue"] = "1"
    found = read_segmentation(slicer_file(path, np.stack([labels, other]), affine, fields), image)
    assert (found.segments[0].mask & found.segments[1].mask).sum() == 6


def test_old_slicer_files_have_a_layer_for_each_segment(tmp_path, image, labels, affine):
    layers = np.stack([labels == 1, labels == 4]).astype(np.uint8)
    fields = {"Segment0_ID": "a", "Segment0_Name": "A", "Segment1_ID": "b", "Segment1_Name": "A"}
    found = read_segmentation(slicer_file(tmp_path / "o.seg.nrrd", layers, affine, fields), image)
    assert [segment.name for segment in found.segments] == ["A", "A (2)"]
    np.testing.assert_array_equal(found.segments[1].mask, labels == 4)


def test_empty_segments_are_left_out_aloud(tmp_path, image, labels, affine):
    layers = np.stack([labels == 1, labels == 9]).astype(np.uint8)
    fields = {"Segment0_ID": "a", "Segment0_Name": "A", "Segment1_ID": "b", "Segment1_Name": "B"}
    found = read_segmentation(slicer_file(tmp_path / "o.seg.nrrd", layers, affine, fields), image)
    assert [segment.name for segment in found.segments] == ["A"]
    (note,) = found.notes
    assert note.endswith(": B")


def test_dicom_seg_written_by_highdicom_keeps_overlapping_segments(
    tmp_path, values, affine, labels, write_series
):
    slices = [pydicom.dcmread(path) for path in write_series(tmp_path / "ct", values, affine)]
    for dataset in slices:
        for keyword in ("StudyDate", "StudyTime", "AccessionNumber", "StudyID", "PatientSex"):
            setattr(dataset, keyword, "")
        dataset.PatientBirthDate = ""
        dataset.InstanceNumber = 1
    overlapping = np.stack([labels == 1, labels > 0], axis=-1).astype(np.uint8)
    described = [
        highdicom.seg.SegmentDescription(
            number,
            name,
            codes.SCT.MorphologicallyAbnormalStructure,
            codes.SCT.Neoplasm,
            highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, name in ((1, "Core"), (2, "Whole"))
    ]
    described[0].RecommendedDisplayCIELabValue = [
        34889,
        53488,
        50172,
    ]  # pure red: L 53.2, a 80.1, b 67.2
    seg = highdicom.seg.Segmentation(
        slices,
        overlapping.transpose(2, 1, 0, 3),
        highdicom.seg.SegmentationTypeValues.BINARY,
        described,
        "1.2.3.9",
        1,
        "1.2.3.9.1",
        1,
        "m",
        "m",
        "1",
        "1",
        omit_empty_frames=True,
    )
    seg.save_as(tmp_path / "seg.dcm")
    image = read_image(tmp_path / "ct")
    found = read_segmentation(tmp_path / "seg.dcm", image)
    assert [segment.name for segment in found.segments] == ["Core", "Whole"]
    np.testing.assert_array_equal(found.segments[0].mask, labels == 1)
    np.testing.assert_array_equal(found.segments[1].mask, labels > 0)
    assert found.segments[0].color == pytest.approx((1, 0, 0), abs=0.02)
    assert found.notes == ()
    with error_with(ErrorCode.FILE_FORMAT, "seg.dcm", "SEG"):
        read_image(tmp_path / "seg.dcm")


@pytest.fixture
def photo():
    grey = np.arange(24, dtype=np.float32).reshape(6, 4)
    return to_image(grey[np.newaxis], np.diag([-1.0, -1.0, 1.0, 1.0]), name="photo")


MASK = np.zeros((4, 6), dtype=np.uint8)
MASK[1, 4:] = 255
MASK[2, 0] = 255


def test_a_black_and_white_picture_is_one_mask(tmp_path, photo):
    Image.fromarray(MASK).save(tmp_path / "m.png")
    found = read_segmentation(tmp_path / "m.png", photo)
    assert [segment.name for segment in found.segments] == ["mask"]
    np.testing.assert_array_equal(found.segments[0].mask, MASK.T > 0)


def test_a_transparent_picture_is_a_mask_where_it_is_not_transparent(tmp_path, photo):
    black = np.zeros_like(MASK)
    Image.fromarray(np.dstack([black, black, black, MASK])).save(tmp_path / "m.png")
    found = read_segmentation(tmp_path / "m.png", photo)
    np.testing.assert_array_equal(found.segments[0].mask, MASK.T > 0)
    opaque = np.full_like(MASK, 255)
    Image.fromarray(np.dstack([MASK, black, black, opaque])).save(tmp_path / "o.png")
    found = read_segmentation(tmp_path / "o.png", photo)
    np.testing.assert_array_equal(found.segments[0].mask, MASK.T > 0)


def test_few_grey_values_and_palettes_are_labels(tmp_path, photo):
    labels = MASK // 255
    labels[3, 3] = 2
    Image.fromarray(labels).save(tmp_path / "g.png")
    palette = Image.fromarray(labels, mode="P")
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
    palette.save(tmp_path / "p.png")
    named = {"g.png": ["label 1", "label 2"], "p.png": ["label 1 (red)", "label 2 (blue)"]}
    for name, names in named.items():
        found = read_segmentation(tmp_path / name, photo)
        assert [segment.name for segment in found.segments] == names
        np.testing.assert_array_equal(found.segments[1].mask, labels.T == 2)
    assert found.segments[1].color == (0, 0, 1)


def test_jpeg_masks_are_cut_at_half_aloud(tmp_path):
    square = np.zeros((64, 64), np.uint8)
    square[16:40, 8:32] = 255
    Image.fromarray(square).save(tmp_path / "m.jpg", quality=60)
    image = to_image(np.random.default_rng(0).random((1, 64, 64)), np.eye(4), name="x")
    found = read_segmentation(tmp_path / "m.jpg", image)
    np.testing.assert_array_equal(found.segments[0].mask, square.T > 0)
    assert any("JPEG" in note for note in found.notes)


def test_a_picture_of_another_size_is_refused(tmp_path, photo):
    Image.fromarray(MASK[:, :5]).save(tmp_path / "m.png")
    with error_with(ErrorCode.GRID_MISMATCH, "m.png", "5 x 4", "6 x 4"):
        read_segmentation(tmp_path / "m.png", photo)


def test_a_picture_lies_on_the_one_slice_of_a_volume_too(tmp_path, affine):
    image = to_image(np.arange(24.0).reshape(1, 6, 4, 1), affine, name="slice")
    Image.fromarray(MASK).save(tmp_path / "m.png")
    mask = read_segmentation(tmp_path / "m.png", image).segments[0].mask
    np.testing.assert_array_equal(mask[..., 0], MASK.T > 0)


def test_bad_segmentations_have_their_one_line(tmp_path, image, labels, affine):
    def refused(code, path, *named, reference=image):
        with error_with(code, path.name, *named) as error:
            read_segmentation(path, reference)
        assert "\n" not in str(error.value)

    refused(ErrorCode.FILE_MISSING, tmp_path / "none.nii")
    refused(ErrorCode.SEGMENTATION_EMPTY, save(tmp_path / "empty.nii", labels * 0, affine))
    assert read_ground_truth(tmp_path / "empty.nii", image) == (None, (EMPTY_NOTE,))
    far = affine.copy()
    far[0, 3] += 400
    refused(ErrorCode.NO_OVERLAP, save(tmp_path / "far.nii", labels, far))
    fractions = save(tmp_path / "p.nii", labels * np.float32(0.3), affine)
    # 18 voxels of 0.3 and 12 of 1.2.
    refused(ErrorCode.SEGMENTATION_LABELS, fractions, "30 voxels", "0.3")
    nan = labels.astype(np.float32)
    nan[0, 0, 0] = np.nan
    refused(ErrorCode.SEGMENTATION_LABELS, save(tmp_path / "n.nii", nan, affine), "1 voxel")
    noise = np.arange(8000, dtype=np.int16).reshape(20, 20, 20)
    refused(ErrorCode.SEGMENTATION_LABELS, save(tmp_path / "i.nii", noise, affine), "7999")
    single = labels * 0
    single[3, 3, 3] = 1
    fine = affine @ np.diag([0.1, 0.1, 0.1, 1])
    refused(ErrorCode.SEGMENTATION_EMPTY, save(tmp_path / "s.nii", single, fine))
    flat = to_image(np.arange(24.0).reshape(1, 6, 4), affine, name="flat")
    refused(ErrorCode.IMAGE_AXES, save(tmp_path / "d.nii", labels, affine), reference=flat)
