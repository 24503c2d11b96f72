"""A model that looks at a region of the image: maps and clicks are exact on the whole grid."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy.spatial.transform import Rotation
from torch import nn

import SaliencyExplain as se
from SaliencyExplain.attribution.registry import find_method
from SaliencyExplain.errors import ErrorCode
from SaliencyExplain.explanation.explain import explain
from SaliencyExplain.explanation.loaded_references import LoadedReferences
from SaliencyExplain.explanation.prepared_case import PreparedCase, prepare
from SaliencyExplain.explanation.probing import Prober
from SaliencyExplain.images.segmentation import Segment, Segmentation
from SaliencyExplain.specification.spec import RegionOfInterest
from SaliencyExplain.specification.spec_fields import spec_of
from Testing.expected_errors import error_with

SHAPE = (30, 34, 26)
EDGE = 8


class WeightedSum(nn.Module):
    """The score of class 1 is a weighted sum of the voxels of a small cube."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.convolution = nn.Conv3d(1, 1, EDGE, bias=False)
        self.convolution.weight.data = torch.randn((1, 1, EDGE, EDGE, EDGE), generator=generator)

    def forward(self, images):
        score = self.convolution(images).flatten(1)[:, :1]
        return torch.cat([torch.zeros_like(score), score], dim=1)

    @property
    def weights(self) -> np.ndarray:
        return self.convolution.weight.detach().numpy()[0, 0]


def affine_of(kind: str) -> np.ndarray:
    spacing = np.diag([1.5, 0.8, 2.0])
    turn = (
        np.eye(3) if kind == "straight" else Rotation.from_euler("xyz", [15, -20, 30], degrees=True)
    )
    affine = np.eye(4)
    affine[:3, :3] = (turn if kind == "straight" else turn.as_matrix()) @ spacing
    affine[:3, 3] = [-20.0, 13.0, 5.0]
    return affine


def image_of(affine: np.ndarray) -> MetaTensor:
    values = torch.rand((1, *SHAPE), generator=torch.Generator().manual_seed(5)) + 0.5
    return MetaTensor(values, affine=torch.from_numpy(affine))


def model(network: nn.Module) -> se.Classifier:
    return se.Model(
        network, ["no", "yes"], spatial_dims=3, size=[EDGE] * 3, fit="crop", orientation="none",
        activation="softmax",
    )  # fmt: skip


def segmentation(affine: np.ndarray, *boxes: tuple[slice, ...]) -> Segmentation:
    mask = np.zeros(SHAPE, dtype=np.uint8)
    for box in boxes:
        mask[box] = 1
    return Segmentation((Segment("nodule", (1.0, 0.0, 0.0), mask),), affine, ())


NODULE = (slice(11, 19), slice(5, 13), slice(16, 24))
OTHER = (slice(2, 5), slice(25, 28), slice(2, 5))


def case_of(
    affine: np.ndarray, region: RegionOfInterest, segments: Segmentation | None = None
) -> tuple[PreparedCase, WeightedSum]:
    network = WeightedSum()
    references = LoadedReferences(segments)
    return prepare(
        image_of(affine), model(network), "yes", references=references, of_interest=region
    ), network


@pytest.mark.parametrize("kind", ["straight", "oblique"])
def test_the_gradient_of_a_linear_model_is_its_weights_at_their_places_in_the_whole_image(kind):
    affine = affine_of(kind)
    region = RegionOfInterest("segmentation")
    case, network = case_of(affine, region, segmentation(affine, NODULE))
    np.testing.assert_allclose(case.input.numpy()[0], image_of(affine).numpy()[0][NODULE])
    (found,) = explain(case, [find_method("gradient-times-input")()])
    assert found.values.shape == SHAPE
    expected = np.zeros(SHAPE)
    expected[NODULE] = network.weights * image_of(affine).numpy()[0][NODULE]
    np.testing.assert_allclose(found.values, expected, atol=1e-4)
    seen = found.field_of_view.seen(SHAPE)
    assert seen[NODULE].all()
    assert seen.sum() == np.prod([EDGE] * 3)
    assert found.provenance["region_of_interest"]["roi"] == "segmentation"
    assert found.provenance["region_of_interest"]["first_voxel"] == [11, 5, 16]


def centre_of(affine: np.ndarray, box: tuple[slice, ...]) -> np.ndarray:
    middle = [(side.start + side.stop - 1) / 2 for side in box]
    return (affine @ [*middle, 1])[:3]


@pytest.mark.parametrize("kind", ["straight", "oblique"])
def test_a_point_with_a_size_cuts_out_the_box_around_it(kind):
    affine = affine_of(kind)
    point = ",".join(f"{value:.6f}" for value in centre_of(affine, NODULE))
    case, _ = case_of(affine, RegionOfInterest(f"point:{point}", roi_size_mm=12.0))
    # 12 mm are 8, 15 and 6 voxels.
    assert case.box is not None
    assert case.box[1] == (8, 15, 6)
    middle = np.array(case.box[0]) + (np.array(case.box[1]) - 1) / 2
    np.testing.assert_allclose(affine[:3] @ [*middle, 1], centre_of(affine, NODULE), atol=1.0)


def test_a_box_between_two_points_and_a_margin():
    affine = affine_of("straight")
    corners = [affine[:3] @ [*index, 1] for index in ((4, 5, 6), (9, 12, 10))]
    text = ",".join(f"{value:.6f}" for corner in corners for value in corner)
    case, _ = case_of(affine, RegionOfInterest(f"box:{text}", roi_margin_mm=3.0))
    # 5 x 7 x 4 voxels between the points, and 2, 3.75 and 1.5 on each side.
    assert case.box == ((3, 2, 5), (9, 14, 7))


def test_a_click_is_at_its_place_in_the_whole_image():
    affine = affine_of("oblique")
    case, network = case_of(affine, RegionOfInterest("segmentation"), segmentation(affine, NODULE))
    prober = Prober(case, fill="value", value=0.0)
    place = (12, 7, 20)
    found = prober.at(affine[:3] @ [*place, 1], [0.3])
    removal = found.removals[0]
    inside = tuple(index - side.start for index, side in zip(place, NODULE, strict=True))
    expected = network.weights[inside] * float(image_of(affine)[0][place])
    assert removal.voxels == 1
    assert found.scores[1] - removal.scores[1] == pytest.approx(expected, abs=1e-3)
    with error_with(ErrorCode.PLACE_OUTSIDE):
        prober.at(affine[:3] @ [2, 30, 2, 1], [2.0])


@pytest.mark.parametrize("kind", ["straight", "oblique"])
def test_padding_about_the_region_is_no_part_of_the_image(kind):
    """The lesion is three voxels wide and the network's input eight."""
    affine = affine_of(kind)
    case, network = case_of(affine, RegionOfInterest("segmentation"), segmentation(affine, OTHER))
    assert tuple(case.input.shape[1:]) == (EDGE,) * 3
    lesion = np.zeros(SHAPE, dtype=bool)
    lesion[OTHER] = True
    (found,) = explain(case, [find_method("gradient")()])
    assert np.array_equal(found.values != 0, lesion)
    assert np.array_equal(found.field_of_view.seen(SHAPE), lesion)
    # Three voxels in the middle of eight begin at the third one.
    weights = np.abs(network.weights[2:5, 2:5, 2:5])
    np.testing.assert_allclose(found.values[OTHER], weights, atol=1e-4)
    prober = Prober(case, fill="value", value=0.0)
    with error_with(ErrorCode.PLACE_OUTSIDE, "region of interest"):
        prober.at(affine[:3] @ [5, 26, 3, 1], [0.3])
    with error_with(ErrorCode.PLACE_OUTSIDE, "elsewhere"):
        prober.segment(~lesion, "elsewhere")
    assert prober.segment(np.ones(SHAPE), "all").removals[0].voxels == lesion.sum()


def test_several_lesions_are_several_questions():
    affine = affine_of("straight")
    both = segmentation(affine, NODULE, OTHER)
    with error_with(ErrorCode.OPTION_MISSING, "lesion:1", "lesion:2"):
        case_of(affine, RegionOfInterest("segmentation"), both)
    first, _ = case_of(affine, RegionOfInterest("lesion:1"), both)
    second, _ = case_of(affine, RegionOfInterest("lesion:2"), both)
    assert first.box == ((11, 5, 16), (8, 8, 8))
    assert second.box == ((2, 25, 2), (3, 3, 3))
    with error_with(ErrorCode.NAME_UNKNOWN, "lesion:3"):
        case_of(affine, RegionOfInterest("lesion:3"), both)


def test_at_the_border_the_region_is_cut_off_and_the_map_stays_in_place():
    affine = affine_of("straight")
    corner = affine[:3] @ [0, 0, 0, 1]
    text = ",".join(f"{value:.6f}" for value in corner)
    case, _ = case_of(affine, RegionOfInterest(f"point:{text}", roi_size_mm=16.0))
    assert case.box is not None
    assert case.box[0] == (0, 0, 0)
    assert any("cut off" in note for note in case.notes)
    (found,) = explain(case, [find_method("gradient")()])
    assert not found.values[~found.field_of_view.seen(SHAPE)].any()


@pytest.mark.parametrize(
    ("roi", "code", "named"),
    [
        ("nodule", ErrorCode.NAME_UNKNOWN, "nodule"),
        ("segment:", ErrorCode.NAME_UNKNOWN, "segment:"),
        ("segment:lung", ErrorCode.NAME_UNKNOWN, "lung"),
        ("point:1,2", ErrorCode.VALUE_FORM, "point:1,2"),
        ("point:1,2,nan", ErrorCode.VALUE_FORM, "nan"),
        ("point:1,2,3", ErrorCode.OPTION_MISSING, "point:1,2,3"),
        ("box:900,900,900,950,950,950", ErrorCode.PLACE_OUTSIDE, "box:900"),
    ],
)
def test_a_region_that_makes_no_sense_is_refused(roi, code, named):
    affine = affine_of("straight")
    with error_with(code, named):
        case_of(affine, RegionOfInterest(roi), segmentation(affine, NODULE))


def test_a_region_by_a_segmentation_needs_one_and_a_size_needs_a_region():
    affine = affine_of("straight")
    with error_with(ErrorCode.SEGMENTATION_MISSING, "segmentation"):
        case_of(affine, RegionOfInterest("segmentation"))
    with error_with(ErrorCode.OPTION_MISSING, "roi"):
        RegionOfInterest(roi_size_mm=3.0)
    background = dataclasses.replace(LoadedReferences(), backgrounds=(image_of(affine),))
    with error_with(ErrorCode.BACKGROUNDS):
        prepare(
            image_of(affine), model(WeightedSum()), "yes", references=background,
            of_interest=RegionOfInterest("box:0,13,5,10,20,20"),
        )  # fmt: skip


def test_the_specification_carries_the_region_by_its_flat_names():
    spec = spec_of(roi="segmentation", roi_size_mm="4 cm", roi_margin_mm=5.0)
    assert spec.region == RegionOfInterest("segmentation", 40.0, 5.0)


def test_in_python_the_map_lies_on_the_whole_image():
    affine = affine_of("straight")
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[NODULE] = 1
    result = se.explain(
        image_of(affine), model(WeightedSum()), "gradient", target="yes",
        segmentation={"nodule": mask}, roi="segmentation",
    )  # fmt: skip
    values = result[0].values
    assert values.shape == SHAPE
    assert values[NODULE].any()
    outside = np.ones(SHAPE, dtype=bool)
    outside[NODULE] = False
    assert not values[outside].any()
