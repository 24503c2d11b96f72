from __future__ import annotations

import highdicom
import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.dicom_series import list_series
from SaliencyExplain.images.reading import read_channels, read_image
from SaliencyExplain.images.segmentation import read_segmentation
from Testing.comparing import dice
from Testing.expected_errors import error_with


@pytest.fixture
def sarcoma(shared_data):
    dicom = shared_data / "soft-tissue-sarcoma-dicom-rtstruct" / "STS_019"
    return dicom, shared_data / "soft-tissue-sarcoma-nifti" / "STS_019"


@pytest.mark.slow
@pytest.mark.parametrize("modality", ["CT", "MR_T1", "PET"])
def test_dicom_with_rtstruct_equals_nifti_with_mask(sarcoma, modality):
    dicom, nifti = sarcoma
    image = read_image(dicom / modality / "image")
    same = read_image(nifti / f"{modality}_image.nii.gz")
    np.testing.assert_allclose(image.numpy(), same.numpy(), atol=1e-3)
    np.testing.assert_allclose(image.affine.numpy(), same.affine.numpy(), atol=1e-3)
    contours = read_segmentation(dicom / modality / "mask" / "RS.dcm", image)
    mask = read_segmentation(nifti / f"{modality}_mask.nii.gz", same)
    assert [segment.name for segment in contours.segments] == [f"GTV_Mass_{modality}"]
    assert dice(contours.segments[0].mask, mask.segments[0].mask) > 0.99


def test_contours_drawn_on_the_ct_fill_the_same_place_of_the_mr_as_its_mask(sarcoma):
    dicom, nifti = sarcoma
    image = read_image(dicom / "MR_T1" / "image")
    contours = read_segmentation(dicom / "CT" / "mask", image)
    mask = read_segmentation(nifti / "CT_mask.nii.gz", image)
    assert dice(contours.segments[0].mask, mask.segments[0].mask) > 0.95
    assert mask.notes == ("the segmentation is resampled (nearest voxel) onto the image's grid",)
    assert contours.notes == ()


@pytest.mark.slow
def test_a_study_tree_lists_its_series_and_what_is_drawn_on_them(sarcoma):
    series = list_series(sarcoma[0])
    assert sorted(each.modality for each in series) == ["CT", "MR", "PT"] + ["RTSTRUCT"] * 3
    assert {each.frames for each in series if each.is_image} == {47}
    with error_with(ErrorCode.IMAGE_AMBIGUOUS, "3 series"):
        read_image(sarcoma[0])
    chosen = next(each for each in series if each.modality == "MR")
    assert read_image(sarcoma[0], series=chosen.uid).shape == (1, 112, 110, 47)


def test_the_masks_lie_on_what_they_are_drawn_on(shared_data):
    checks = [
        ("soft-tissue-sarcoma-nifti/STS_002/PET_image.nii.gz", "PET_mask.nii.gz", 7.37),
        ("soft-tissue-sarcoma-nifti/STS_025/PET_image.nii.gz", "PET_mask.nii.gz", 2.95),
        ("breast-tumour-nrrd/breast1_image.nrrd", "breast1_label.nrrd", 131),
        ("dicom-ct-3slice-seg-dcmqi/ct-3slice", "../liver.dcm", 37),
        ("dicom-ct-3slice-seg-dcmqi/ct-3slice", "../liver_seg.nrrd", 37),
    ]
    for image_name, mask_name, mean in checks:
        path = shared_data / image_name
        mask_path = path / mask_name if path.is_dir() else path.parent / mask_name
        image = read_image(path)
        segment = read_segmentation(mask_path, image).segments[0]
        assert float(image[0].numpy()[segment.mask].mean()) == pytest.approx(mean, rel=0.03)


def test_dicom_seg_equals_the_label_map_of_the_same_liver(shared_data):
    folder = shared_data / "dicom-ct-3slice-seg-dcmqi"
    image = read_image(folder / "ct-3slice")
    seg = read_segmentation(folder / "liver.dcm", image).segments[0]
    label = read_segmentation(folder / "liver_seg.nrrd", image).segments[0]
    assert seg.name == "Liver"
    np.testing.assert_array_equal(seg.mask, label.mask)


def test_five_overlapping_segments_stay_five(shared_data):
    folder = shared_data / "dicom-ct-3slice-seg-dcmqi"
    found = read_segmentation(folder / "partial_overlaps.dcm", read_image(folder / "ct-3slice"))
    assert [segment.name for segment in found.segments] == [
        "GREEN",
        "ORANGE",
        "PURPLE",
        "LIGHT_BLUE",
        "DARK_BLUE",
    ]
    assert sum(segment.mask.astype(int) for segment in found.segments).max() > 1


def test_one_slice_in_three_encodings_is_one_image(shared_data):
    folder = shared_data / "dicom-encodings-pydicom"
    plain, *others = (
        read_image(folder / name)
        for name in ("MR_small.dcm", "MR_small_RLE.dcm", "MR_small_jp2klossless.dcm")
    )
    for other in others:
        np.testing.assert_array_equal(other.numpy(), plain.numpy())


@pytest.mark.parametrize(
    "name", ["693_J2KR.dcm", "J2K_pixelrep_mismatch.dcm", "explicit_VR-UN.dcm", "MR_small.dcm"]
)
def test_single_slices_equal_what_itk_reads(shared_data, name):
    path = shared_data / "dicom-encodings-pydicom" / name
    image = read_image(path)
    theirs = sitk.ReadImage(str(path))
    if name == "J2K_pixelrep_mismatch.dcm":
        # Its header calls signed pixels unsigned or the other way round; ITK takes the
        # header's word and lands 2**16 off, where the codestream is right.
        difference = sitk.GetArrayFromImage(theirs).T - image[0].numpy()
        assert set(np.unique(difference)) <= {0.0, 65536.0, -65536.0}
    else:
        values = sitk.GetArrayFromImage(theirs).T
        if name == "693_J2KR.dcm":
            # Padding outside of the field of view, which ITK takes as -3024 Hounsfield units.
            assert "21.3 % of the pixels are padding" in image.meta["notes"][0]
            values = np.where(values == -3024, -1024, values)
        np.testing.assert_array_equal(image[0].numpy(), values)
    corner = np.diag([-1, -1, 1]) @ theirs.TransformIndexToPhysicalPoint((20, 30, 0))
    np.testing.assert_allclose(image.affine.numpy()[:3] @ (20, 30, 0, 1), corner, atol=1e-3)


@pytest.mark.parametrize(
    "name", ["dicom-enhanced-mr-siemens/6_1.dcm", "dicom-enhanced-mr-siemens/6_2.dcm"]
)
def test_enhanced_files_equal_what_highdicom_reads(shared_data, name):
    image = read_image(shared_data / name)
    theirs = highdicom.imread(shared_data / name).get_volume()
    count = image.shape[3]
    for index in (0, count - 1):
        place = np.diag([-1, -1, 1, 1]) @ theirs.affine @ (index, 20, 30, 1)
        own = np.linalg.solve(image.affine.numpy(), place)
        np.testing.assert_allclose(own, (30, 20, np.rint(own[2]), 1), atol=1e-3)
        np.testing.assert_allclose(
            image[0, :, :, int(np.rint(own[2]))].numpy().T, theirs.array[index], rtol=1e-6
        )


def test_awkward_files_have_their_one_line(shared_data):
    for name, words in [
        ("dicom-ct-gantry-tilt-variable-spacing", "1.08 mm between 14.dcm and 15.dcm"),
        ("dicom-encodings-pydicom/MR_truncated.dcm", "damaged or cut off"),
        ("dicom-encodings-pydicom/eCT_Supplemental.dcm", "161494 of its pixels are colours"),
        ("dicom-encodings-pydicom/emri_small.dcm", "10 images without a position"),
        ("dicom-enhanced-mr-siemens", "holds 4 volumes (4D) of 6 slices"),
        ("nifti-oddities-nibabel/example4d.nii.gz", "holds 2 volumes (4D)"),
        ("nifti-oddities-nibabel/resampled_anat_moved.nii", "153 of its 1071 voxels"),
    ]:
        with pytest.raises(InputError) as error:
            read_image(shared_data / name)
        assert words in str(error.value)
        assert "\n" not in str(error.value)


def test_the_even_part_of_a_tilted_head_is_put_upright(shared_data, tmp_path):
    for number in range(9, 15):
        name = f"{number:02d}.dcm"
        (tmp_path / name).symlink_to(shared_data / "dicom-ct-gantry-tilt-variable-spacing" / name)
    image = read_image(tmp_path)
    assert image.shape[1] == 512
    assert image.shape[3] == 6
    # 18.5 degrees over 5 distances of 4.22 mm shift the slices by 13.7 rows.
    assert image.shape[2] == 512 + 14
    assert any("sheared by 18.5 degrees" in note for note in image.meta["notes"])
    np.testing.assert_allclose(
        np.linalg.norm(image.affine.numpy()[:3, 2]), 4.22 * np.cos(np.radians(18.5)), atol=1e-2
    )


def test_big_endian_files_equal_what_nibabel_reads(shared_data):
    folder = shared_data / "nifti-oddities-nibabel"
    image = read_image(folder / "anatomical.nii")
    theirs = nibabel.load(folder / "anatomical.nii")
    np.testing.assert_array_equal(image[0].numpy(), theirs.get_fdata(dtype=np.float32))
    found = read_segmentation(folder / "monai_anatomical_label.nii.gz", image)
    assert found.segments[0].mask.sum() == 330
    assert found.notes == ()


def test_pictures_of_one_component_and_of_four_are_read_alike(shared_data):
    folder = shared_data / "cxr-nih-boxes"
    for path in sorted(folder.glob("*.png")):
        image = read_image(path)
        assert image.shape == (1, 1024, 1024)
        assert image.max() <= 255


@pytest.mark.slow
def test_masks_with_transparency_mark_what_the_derived_ones_do(shared_data):
    folder = shared_data / "cxr-opacity-masks"
    checked = 0
    for path in sorted(folder.glob("*__crop.png")):
        crop = read_image(path)
        cropped = read_segmentation(path, crop).segments[0].mask
        whole = folder / path.name.replace("__crop", "__full_derived")
        derived = read_segmentation(whole, read_image(whole)).segments[0].mask
        assert cropped.sum() == derived.sum()
        checked += 1
    assert checked > 5


@pytest.mark.slow
def test_four_sequences_are_four_channels(shared_data):
    folder = shared_data / "brain-glioma-brats-gli-00001-000"
    image = read_channels([folder / f"{name}.nii.gz" for name in ("t1c", "t1n", "t2f", "t2w")])
    assert image.shape == (4, 240, 240, 155)
    assert image.meta["notes"] == []


def test_pet_onto_ct_keeps_the_tumour_in_place(sarcoma):
    _, nifti = sarcoma
    image = read_channels([nifti / "CT_image.nii.gz", nifti / "PET_image.nii.gz"], ["ct", "pet"])
    mask = read_segmentation(nifti / "CT_mask.nii.gz", image).segments[0].mask
    pet = image[1].numpy()
    assert pet[mask].mean() > 3 * pet[~mask].mean()
    assert any(note.startswith("pet is resampled (linear)") for note in image.meta["notes"])
