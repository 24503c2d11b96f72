"""Files of the form of the brain tumour set: MATLAB 7.3, which is HDF5 with a header before it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from SaliencyExplain.brain_tumour_set.matlab_files import read_description
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.reading import read_image
from SaliencyExplain.images.segmentation import read_segmentation
from Testing.brain_tumour_set.tumour_slices import picture, write_tumour_slice
from Testing.expected_errors import error_with

h5py = pytest.importorskip("h5py")


def test_the_image_lies_as_the_same_picture_does_in_a_png(tmp_path):
    image, mask = picture()
    read = read_image(write_tumour_slice(tmp_path / "7.mat", image, mask))
    Image.fromarray(image.astype(np.uint8)).save(tmp_path / "7.png")
    other = read_image(tmp_path / "7.png")
    np.testing.assert_array_equal(read.numpy(), other.numpy())
    assert read.shape == (1, 24, 32)
    directions = read.affine.numpy()[:3, :3] / np.linalg.norm(read.affine.numpy()[:3, :3], axis=0)
    np.testing.assert_allclose(directions, other.affine.numpy()[:3, :3])
    assert read.meta["name"] == "7"
    assert any("size of its pixels" in note for note in read.meta["notes"])


def test_a_pixel_has_the_size_that_the_set_is_described_with(tmp_path):
    image = np.random.default_rng(1).integers(0, 9, (512, 512))
    mask = image == 5
    for size, expected in ((512, 0.49), (256, 0.98)):
        path = write_tumour_slice(tmp_path / f"{size}.mat", image[:size, :size], mask[:size, :size])
        assert abs(read_image(path).affine.numpy()[0, 0]) == pytest.approx(expected)


def test_the_tumour_is_a_segment_on_the_image(tmp_path):
    image, mask = picture()
    path = write_tumour_slice(tmp_path / "7.mat", image, mask)
    read = read_image(path)
    (segment,) = read_segmentation(path, read).segments
    assert segment.name == "tumour"
    np.testing.assert_array_equal(segment.mask, mask.T)
    assert read.numpy()[0][segment.mask].min() >= 150


def test_a_classifier_of_colours_gets_three_equal_channels(tmp_path):
    path = write_tumour_slice(tmp_path / "7.mat", *picture())
    colour = read_image(path, colour=True).numpy()
    assert colour.shape == (3, 24, 32)
    np.testing.assert_array_equal(colour, np.repeat(read_image(path).numpy(), 3, axis=0))


@pytest.mark.parametrize(("number", "name"), [(1, "meningioma"), (2, "glioma"), (3, "pituitary")])
def test_label_and_patient_are_read(tmp_path, number, name):
    path = write_tumour_slice(tmp_path / "7.mat", *picture(), label=number, patient="MR017260F")
    said = read_description(path)
    assert (said.label, said.patient) == (name, "MR017260F")


def test_damaged_and_other_files_are_told_in_one_line(tmp_path):
    whole = write_tumour_slice(tmp_path / "whole.mat", *picture())
    content = whole.read_bytes()
    cases = {
        "cut.mat": (content[: len(content) // 2], "damaged or cut off"),
        "old.mat": (b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(400), "-v7.3"),
        "text.mat": (b"not at all", "no MATLAB 7.3 file"),
    }
    for name, (bytes_, words) in cases.items():
        (tmp_path / name).write_bytes(bytes_)
        for read in (read_image, read_description):
            with pytest.raises(InputError, match=words) as caught:
                read(tmp_path / name)
            assert name in str(caught.value)
            assert "\n" not in str(caught.value)
    other = write_tumour_slice(tmp_path / "other.mat", *picture(), structure="cvind")
    with error_with(ErrorCode.FILE_FORMAT, "other.mat", "'cjdata'", "cvind"):
        read_image(other)
    with error_with(ErrorCode.LABELS, "seven.mat", "7.0"):
        read_description(write_tumour_slice(tmp_path / "seven.mat", *picture(), label=7))
    with h5py.File(tmp_path / "bare.mat", "w") as file:
        file.create_group("cjdata")
    with error_with(ErrorCode.FILE_FORMAT, "bare.mat", "image"):
        read_image(tmp_path / "bare.mat")
    image, mask = picture()
    path = write_tumour_slice(tmp_path / "sizes.mat", image, mask[:-1])
    with error_with(ErrorCode.GRID_MISMATCH, "sizes.mat", "24 x 31", "24 x 32"):
        read_segmentation(path, read_image(path))
    empty = write_tumour_slice(tmp_path / "empty.mat", image, np.zeros_like(mask))
    with error_with(ErrorCode.SEGMENTATION_EMPTY, "empty.mat"):
        read_segmentation(empty, read_image(empty))
