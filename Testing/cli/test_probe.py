"""``saliency-explain probe``: what a place contributes."""

from __future__ import annotations

import pytest

from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.explanation.probing import Prober
from SaliencyExplain.images.reading import read_image
from SaliencyExplain.images.segmentation import read_segmentation
from SaliencyExplain.models.loading import load_classifier

pytestmark = pytest.mark.slow


@pytest.fixture
def case(phantoms, honest_3d):
    image = phantoms / "phantom-001_image.nii.gz"
    return image, phantoms / "phantom-001_mask.seg.nrrd", ("probe", image, "-c", honest_3d)


def test_prints_the_probabilities_before_and_after_and_they_are_the_probers(
    command, case, honest_3d
):
    path, mask, words = case
    ended = command(*words, "--at", "-10,-8.4,5", "--radius", 20, "-s", mask, "--json")
    assert ended.status == 0, ended.err
    found = ended.document
    image = read_image(path)
    prober = Prober(prepare(image, load_classifier(honest_3d)))
    (segment,) = read_segmentation(mask, image).segments
    expected = [
        *prober.at((-10, -8.4, 5), [20.0]).removals,
        *prober.segment(segment.mask, segment.name).removals,
    ]
    assert list(found["before"].values()) == pytest.approx(prober.probabilities, abs=1e-6)
    for told, removal in zip(found["removals"], expected, strict=True):
        assert (told["name"], told["voxels"]) == (removal.name, removal.voxels)
        assert list(told["probabilities"].values()) == pytest.approx(
            removal.probabilities, abs=1e-6
        )


def test_the_table_has_a_column_for_each_radius_and_segment(command, case):
    _, mask, words = case
    ended = command(*words, "--at", "0,0,0", "-s", mask, "--segment", "Tumour")
    assert ended.status == 0, ended.err
    for heading in ("unchanged", "without 4 mm", "without 8 mm", "without 16 mm", "without tumour"):
        assert heading in ended.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "Name a place"),
        (("--at", "1,2"), "three numbers"),
        (("--at", "900,0,0"), "outside of the image"),
        (("--segment", "tumour"), "--segmentation FILE"),
    ],
)
def test_what_is_no_place_is_told_in_one_line(command, case, words, message):
    ended = command(*case[2], *words)
    assert ended.status == 2
    assert message in ended.err
    assert ended.err.count("\n") == 1


def test_an_unknown_segment_names_the_known_ones(command, case):
    _, mask, words = case
    ended = command(*words, "-s", mask, "--segment", "tumor")
    assert ended.status == 2
    assert "Did you mean 'tumour'?" in ended.err


def test_a_picture_without_a_size_is_answered_in_pixels(command, pictures, honest_2d):
    image = sorted(pictures.glob("*_image.png"))[0]
    words = ("probe", image, "-c", honest_2d, "--at", "-60,-60,0")
    ended = command(*words)
    assert ended.status == 0, ended.err
    for heading in ("without 4 px", "without 8 px", "without 16 px"):
        assert heading in ended.out
    document = command(*words, "--json").document
    assert document["length_unit"] == "px"
    assert document["removals"][0]["name"] == "4 px"
    assert document["removals"][0]["radius_mm"] == 4.0
