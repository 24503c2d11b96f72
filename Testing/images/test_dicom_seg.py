"""DICOM SEG: fractions, overlaps, slices without frames, frames of several orientations."""

from __future__ import annotations

import copy

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes
from pydicom.uid import RLELossless

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.reading import read_image
from SaliencyExplain.images.segmentation import EMPTY_NOTE, read_ground_truth, read_segmentation

SHAPE = (8, 9, 10)
AFFINE = np.array([[-1, 0, 0, 5], [0, -1, 0, 6], [0, 0, 2, 7], [0, 0, 0, 1]], dtype=float)
BLOCK = np.zeros(SHAPE, bool)
BLOCK[2:5, 3:6, 2:8] = True


@pytest.fixture
def write_seg(tmp_path, write_series):
    """Writes masks (*S, N) as the segments of a SEG beside a CT; gives both paths."""
    values = np.random.default_rng(0).integers(0, 100, SHAPE).astype(np.int16)
    slices = [pydicom.dcmread(path) for path in write_series(tmp_path / "ct", values, AFFINE)]
    for number, dataset in enumerate(slices, start=1):
        for keyword in ("StudyDate", "StudyTime", "AccessionNumber", "StudyID", "PatientSex"):
            setattr(dataset, keyword, "")
        dataset.PatientBirthDate, dataset.InstanceNumber = "", number

    def write(masks, kind="BINARY", **how):
        described = [
            highdicom.seg.SegmentDescription(
                number,
                f"part {number}",
                codes.SCT.MorphologicallyAbnormalStructure,
                codes.SCT.Neoplasm,
                highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
            )
            for number in range(1, masks.shape[-1] + 1)
        ]
        # Frames are given in the order of the slices' heights.
        ordered = sorted(slices, key=lambda one: float(one.ImagePositionPatient[2]))
        seg = highdicom.seg.Segmentation(
            ordered,
            masks.transpose(2, 1, 0, 3),
            kind,
            described,
            "1.2.3.9",
            1,
            "1.2.3.9.1",
            1,
            "m",
            "m",
            "1",
            "1",
            **how,
        )
        seg.save_as(tmp_path / "seg.dcm")
        return tmp_path / "ct", tmp_path / "seg.dcm"

    return write


def read(paths):
    found = read_segmentation(paths[1], read_image(paths[0]))
    return [segment.mask for segment in found.segments], found.notes


def binary(*masks):
    return np.stack(masks, axis=-1).astype(np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize("marked", [[4], [3, 5, 7], [2, 5], [1, 2, 8], [1, 4, 8]])
@pytest.mark.parametrize("distance_told", [True, False])
def test_slices_without_a_frame_are_empty_and_no_marked_one_grows(write_seg, marked, distance_told):
    mask = np.zeros(SHAPE, bool)
    mask[2:5, 3:6, marked] = True
    image, path = write_seg(binary(mask))
    dataset = pydicom.dcmread(path)
    measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    if not distance_told and "SpacingBetweenSlices" in measures:
        # As many writers leave it out; the thickness of slices stays.
        del measures.SpacingBetweenSlices
        dataset.save_as(path)
    (found,), _ = read((image, path))
    np.testing.assert_array_equal(found, mask)


@pytest.mark.parametrize("kind", ["PROBABILITY", "OCCUPANCY"])
def test_fractions_are_cut_at_one_half_aloud(write_seg, kind):
    shares = np.where(BLOCK, 0.8, 0.0)
    shares[3, 4, 4] = 0.3
    paths = write_seg(shares[..., None].astype(np.float32), "FRACTIONAL", fractional_type=kind)
    (found,), notes = read(paths)
    np.testing.assert_array_equal(found, shares >= 0.5)
    assert any(kind.lower() in note and "0.5" in note for note in notes)


def test_fractions_below_one_half_mark_nothing(write_seg):
    paths = write_seg(
        np.where(BLOCK, 0.3, 0.0)[..., None].astype(np.float32),
        "FRACTIONAL",
        fractional_type="PROBABILITY",
    )
    found, notes = read_ground_truth(paths[1], read_image(paths[0]))
    assert found is None
    assert EMPTY_NOTE in notes
    assert any("0.5" in note for note in notes)


def test_overlapping_segments_stay_whole(write_seg):
    other = np.roll(BLOCK, 1, axis=0)
    found, notes = read(write_seg(binary(BLOCK, other)))
    np.testing.assert_array_equal(found[0], BLOCK)
    np.testing.assert_array_equal(found[1], other)
    assert notes == ()


def test_a_label_map_object_is_read(write_seg):
    other = np.zeros(SHAPE, bool)
    other[6, 7, 3:5] = True
    found, _ = read(write_seg(binary(BLOCK, other), "LABELMAP"))
    np.testing.assert_array_equal(found[0], BLOCK)
    np.testing.assert_array_equal(found[1], other)


def test_frames_of_several_orientations_are_refused(write_seg):
    image, path = write_seg(binary(BLOCK))
    dataset = pydicom.dcmread(path)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    orientation = shared.PlaneOrientationSequence
    del shared.PlaneOrientationSequence
    for number, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        frame.PlaneOrientationSequence = copy.deepcopy(orientation)
        if number == 2:
            frame.PlaneOrientationSequence[0].ImageOrientationPatient = [0, 1, 0, 1, 0, 0]
    dataset.save_as(path)
    with pytest.raises(InputError) as error:
        read((image, path))
    assert error.value.code is ErrorCode.IMAGE_GEOMETRY
    assert "seg.dcm" in str(error.value)


def test_a_frame_that_was_cut_off_is_damage(write_seg):
    image, path = write_seg(binary(BLOCK))
    dataset = pydicom.dcmread(path)
    dataset.PixelData = dataset.PixelData[: len(dataset.PixelData) // 2]
    dataset.save_as(path)
    with pytest.raises(InputError) as error:
        read((image, path))
    assert "seg.dcm" in str(error.value)


KINDS = {
    "BINARY": {},
    "FRACTIONAL": {"fractional_type": "PROBABILITY"},
    "LABELMAP": {},
    "compressed": {"transfer_syntax_uid": RLELossless},
}


@pytest.mark.parametrize("kind", KINDS)
def test_frames_that_are_stated_described_and_held_are_equal(write_seg, kind):
    mask = binary(BLOCK)
    if kind == "FRACTIONAL":
        mask = mask.astype(np.float32)
    image, path = write_seg(mask, "LABELMAP" if kind == "compressed" else kind, **KINDS[kind])
    assert read((image, path))[0][0].sum() == BLOCK.sum()
    whole = path.read_bytes()
    count = int(pydicom.dcmread(path).NumberOfFrames)

    def message(code, **change):
        path.write_bytes(whole)
        dataset = pydicom.dcmread(path)
        groups = dataset.PerFrameFunctionalGroupsSequence
        dataset.NumberOfFrames = change["stated"]
        dataset.PerFrameFunctionalGroupsSequence = groups[: change["described"]]
        dataset.save_as(path)
        with pytest.raises(InputError) as error:
            read((image, path))
        assert error.value.code is code
        assert str(change["stated"]) in str(error.value)
        return str(error.value)

    geometry, damage = ErrorCode.IMAGE_GEOMETRY, ErrorCode.FILE_DAMAGED
    assert f"describes {count}" in message(geometry, stated=count - 2, described=count)
    assert f"describes {count - 1}" in message(geometry, stated=count, described=count - 1)
    assert f"describes {count}" in message(geometry, stated=count + 1, described=count)
    assert f"pixels of {count}" in message(damage, stated=count - 2, described=count - 2)
