"""The segments of ``.seg.nrrd`` files that other tools than 3D Slicer wrote or changed."""

from __future__ import annotations

import numpy as np
import pytest

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.reading import to_image
from SaliencyExplain.images.segmentation import read_segmentation

SHAPE = (8, 9, 7)
AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])
IMAGE = to_image(np.random.default_rng(0).random((1, *SHAPE)), AFFINE, name="image")
ONE = np.zeros(SHAPE, np.uint8)
ONE[1:4, 2:5, 1:3] = 1
TWO = np.zeros(SHAPE, np.uint8)
TWO[3:6, 3:6, 2:5] = 1


def write(path, layers, fields, encoding="utf-8"):
    """A NRRD file as pynrrd and slicerio write it, one layer or a list of them first."""
    layers = np.asarray(layers, np.uint8)
    listed = layers.ndim == 4
    lines = [
        "NRRD0004",
        "type: uint8",
        f"dimension: {layers.ndim}",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, layers.shape))}",
        f"kinds: {'list ' * listed}domain domain domain",
        f"space directions: {'none ' * listed}(1,0,0) (0,1,0) (0,0,1)",
        "encoding: raw",
        "space origin: (0,0,0)",
        *(f"{key}:={value}" for key, value in fields.items()),
    ]
    path.write_bytes("\n".join(lines).encode(encoding) + b"\n\n" + layers.tobytes(order="F"))
    return path


def read(path):
    found = read_segmentation(path, IMAGE)
    return {segment.name: segment.mask for segment in found.segments}, found.notes


def refused(path, *parts):
    with pytest.raises(InputError) as error:
        read(path)
    assert error.value.code is ErrorCode.SEGMENTATION_LABELS
    for part in (path.name, *parts):
        assert part in str(error.value)


def segment(number, name, **fields):
    return {f"Segment{number}_ID": f"id{number}", f"Segment{number}_Name": name} | {
        f"Segment{number}_{field}": value for field, value in fields.items()
    }


def same(found, **wanted):
    assert list(found) == list(wanted)
    for name, mask in wanted.items():
        np.testing.assert_array_equal(found[name], mask > 0)


def test_numbers_with_gaps_lose_no_segment(tmp_path):
    fields = segment(0, "A", Layer=0, LabelValue=1) | segment(3, "B", Layer=0, LabelValue=5)
    path = write(tmp_path / "s.seg.nrrd", np.where(TWO, 5, ONE), fields)
    same(read(path)[0], A=(ONE > 0) & (TWO == 0), B=TWO)


def test_labels_that_the_header_does_not_name_are_kept_aloud(tmp_path):
    path = write(tmp_path / "s.nrrd", np.where(TWO, 5, ONE), segment(0, "A", Layer=0, LabelValue=1))
    found, notes = read(path)
    same(found, **{"A": (ONE > 0) & (TWO == 0), "label 5": TWO})
    assert any("label 5" in note for note in notes)


def test_one_value_in_two_layers_are_two_segments_that_overlap(tmp_path):
    fields = segment(0, "A", Layer=0, LabelValue=1) | segment(1, "B", Layer=1, LabelValue=1)
    path = write(tmp_path / "s.seg.nrrd", np.stack([ONE, TWO]), fields)
    same(read(path)[0], A=ONE, B=TWO)
    assert (ONE & TWO).any()


def test_a_missing_layer_is_found_by_its_label(tmp_path):
    fields = segment(0, "A", LabelValue=2) | segment(1, "B", LabelValue=7)
    fields |= segment(2, "C", LabelValue=4)
    path = write(tmp_path / "s.seg.nrrd", np.stack([ONE * 2, np.where(ONE, 4, TWO * 7)]), fields)
    same(read(path)[0], A=ONE, B=(TWO > 0) & (ONE == 0), C=ONE)


def test_a_single_segment_without_its_label_is_what_is_marked(tmp_path):
    same(read(write(tmp_path / "s.seg.nrrd", ONE * 9, segment(0, "A")))[0], A=ONE)


def test_fields_that_do_not_tell_the_voxels_are_refused_with_the_segments_name(tmp_path):
    path = tmp_path / "s.seg.nrrd"
    both = np.where(TWO, 5, ONE)
    refused(write(path, both, segment(0, "A") | segment(1, "B")), "'A'")
    twice = segment(0, "A", LabelValue=1, Layer=0) | segment(1, "B", LabelValue=1, Layer=0)
    refused(write(path, both, twice), "'A' and 'B'")
    refused(write(path, both, segment(0, "A", LabelValue=1, Layer=2)), "'A'", "layer 2")
    refused(write(path, both, segment(0, "A", LabelValue="one", Layer=0)), "'one'")
    three = np.stack([ONE, TWO, ONE])
    refused(write(path, three, segment(0, "A", LabelValue=1)), "'A'", "3")


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_names_of_other_alphabets_stay(tmp_path, encoding):
    path = write(tmp_path / "s.seg.nrrd", ONE, segment(0, "Läsion", LabelValue=1), encoding)
    found = read_segmentation(path, IMAGE)
    assert [segment.name for segment in found.segments] == ["Läsion"]
    assert len(found.sha256) == 64


def test_a_colour_that_is_none_costs_no_segment(tmp_path):
    fields = segment(0, "A", LabelValue=1, Color="red")
    same(read(write(tmp_path / "s.seg.nrrd", ONE, fields))[0], A=ONE)
    fields = segment(0, "A", LabelValue=1, Color="0.5 7 0")
    same(read(write(tmp_path / "s.seg.nrrd", ONE, fields))[0], A=ONE)


def test_an_image_of_many_values_is_a_label_map_where_its_header_names_them(tmp_path):
    noise = np.random.default_rng(1).integers(0, 70, SHAPE)
    fields: dict[str, object] = {}
    for value in range(1, 70):
        fields |= segment(value - 1, f"part {value}", Layer=0, LabelValue=value)
    found, _ = read(write(tmp_path / "s.seg.nrrd", noise, fields))
    assert len(found) == len(np.unique(noise)) - 1
