"""Outside of what the network sees a map is undefined: said, recorded, and not compared."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.transforms import CenterSpatialCropd, Compose, Orientationd, SpatialCropd
from torch import nn

from SaliencyExplain.attribution.method_selection import select_methods
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.comparison.agreement import agreements
from SaliencyExplain.comparison.curve import curves
from SaliencyExplain.comparison.table import rows, unseen_notes
from SaliencyExplain.engine.wire.requests import CompareRequest
from SaliencyExplain.engine.wire.serialisation import made, parse_json, to_json
from SaliencyExplain.evaluation.image.map_evaluation import evaluate_maps
from SaliencyExplain.explanation.explain import explain
from SaliencyExplain.explanation.loaded_references import LoadedReferences
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.field_of_view import FieldOfView
from SaliencyExplain.images.reading import to_image
from SaliencyExplain.images.segmentation import Segment, Segmentation
from SaliencyExplain.models.classifier import Classifier

AFFINE = np.array(
    [[-2.0, 0.0, 0.0, 30.0], [0.0, 1.5, 0.0, -20.0], [0.0, 0.0, 3.0, 5.0], [0.0, 0.0, 0.0, 1.0]]
)
#: What the crop below leaves of a grid of 20 x 24 x 16, the first axis turned by RAS and back.
SEEN = (slice(3, 17), slice(4, 20), slice(4, 12))


class Sum(nn.Module):
    """Class 1 speaks for intensity everywhere."""

    def __init__(self):
        super().__init__()
        self.conv, self.last = nn.Conv3d(1, 2, 3, padding=1), nn.Linear(2, 2)

    def forward(self, images):
        return self.last(torch.relu(self.conv(images)).mean((2, 3, 4)))


def classifier_of(*transforms, network=None, dims=3):
    torch.manual_seed(0)
    return Classifier(
        name="sum",
        classes=("other", "bright"),
        channels=("t1",),
        spatial_dims=dims,
        network=ScoreNetwork((network or Sum()).eval()).requires_grad_(False),
        preprocessing=Compose(
            [
                Orientationd(["image"], axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S"))),
                *transforms,
            ]
        ),
        identity="0" * 64,
        source=Path("sum"),
    )


@pytest.fixture
def image():
    values = np.random.default_rng(3).random((1, 20, 24, 16), dtype=np.float32)
    return to_image(values, AFFINE, name="bright")


@pytest.fixture
def cropping():
    return classifier_of(CenterSpatialCropd(["image"], roi_size=(14, 16, 8)))


def segmentation():
    partly, within, beyond = np.zeros((3, 20, 24, 16), dtype=bool)
    partly[1:6, 8:12, 6:10] = True
    within[8:12, 8:12, 6:10] = True
    beyond[:2, :2, :2] = True
    names = (("partly", partly), ("within", within), ("beyond", beyond))
    return Segmentation(tuple(Segment(name, (1, 0, 0), mask) for name, mask in names), AFFINE, ())


def test_a_crop_is_said_and_recorded_and_the_map_is_there_where_the_network_sees(image, cropping):
    done = explain(prepare(image, cropping), select_methods(["gradient"]))
    (found,) = done.attributions
    share = 14 * 16 * 8 / (20 * 24 * 16)
    assert found.provenance["seen_share"] == pytest.approx(share, abs=1e-6)
    assert any(f"{100 * share:.0f} %" in note for note in done.notes)
    assert found.field_of_view is not None
    seen = found.field_of_view.seen(found.values.shape)
    expected = np.zeros_like(seen)
    expected[SEEN] = True
    np.testing.assert_array_equal(seen, expected)
    assert (found.values[~seen] == 0).all()
    assert (found.values[seen] != 0).mean() > 0.9


def test_a_network_that_sees_the_whole_image_says_nothing(image):
    done = explain(prepare(image, classifier_of()), select_methods(["gradient"]))
    assert "seen_share" not in done.attributions[0].provenance
    assert done.attributions[0].field_of_view is None
    assert not any("network sees" in note for note in done.notes)


def test_a_slice_of_a_volume_has_its_field_of_view_in_the_volumes_axes():
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.last = nn.Conv2d(1, 2, 3, padding=1), nn.Linear(2, 2)

        def forward(self, images):
            return self.last(torch.relu(self.conv(images)).mean((2, 3)))

    classifier = dataclasses.replace(
        classifier_of(network=Flat(), dims=2),
        preprocessing=Compose([SpatialCropd(["image"], roi_start=(2, 3), roi_end=(12, 20))]),
    )
    values = np.random.default_rng(0).random((1, 20, 24, 1), dtype=np.float32)
    done = explain(
        prepare(to_image(values, AFFINE, name="slice"), classifier), select_methods(["gradient"])
    )
    (found,) = done.attributions
    seen = found.field_of_view.seen(found.values.shape)
    expected = np.zeros((20, 24, 1), dtype=bool)
    expected[2:12, 3:20] = True
    np.testing.assert_array_equal(seen, expected)


def test_figures_are_those_of_the_part_that_was_seen():
    random = np.random.default_rng(1)
    whole = np.zeros((20, 24, 16), dtype=np.float32)
    whole[SEEN] = random.standard_normal((14, 16, 8))
    seen = np.zeros(whole.shape, dtype=bool)
    seen[SEEN] = True
    masks = [segment.mask for segment in segmentation().segments]
    found = agreements(whole, masks, AFFINE, seen=seen, body=np.ones_like(seen))
    moved = AFFINE.copy()
    moved[:3, 3] = (AFFINE @ [3, 4, 4, 1])[:3]
    cut = [mask[SEEN] for mask in masks]
    part = np.ascontiguousarray(whole[SEEN])
    expected = agreements(part, cut, moved, body=np.ones(part.shape, bool))
    for one, other in zip(found, expected, strict=True):
        for field in dataclasses.fields(one):
            if "surface" in field.name or "hausdorff" in field.name:
                continue  # A surface at the border of an image is none inside of it.
            assert getattr(one, field.name) == pytest.approx(
                getattr(other, field.name), rel=1e-5, nan_ok=True
            ), field.name
    # Held against the whole image a map of noise would seem to know where the middle is.
    for one, other in zip(curves(whole, masks, seen), curves(part, cut), strict=True):
        np.testing.assert_allclose(one.share_of_segment, other.share_of_segment)


def test_a_negative_map_does_not_lose_to_what_it_never_saw():
    values = np.zeros((20, 24, 16), dtype=np.float32)
    values[SEEN] = -2
    values[8:12, 8:12, 6:10] = -1
    seen = np.zeros(values.shape, dtype=bool)
    seen[SEEN] = True
    mask = segmentation().segments[1].mask
    (within,) = agreements(values, [mask], AFFINE, seen=seen)
    (everywhere,) = agreements(values, [mask], AFFINE)
    assert within.auroc == 1
    assert everywhere.auroc < 0.5


def test_control_maps_are_held_where_the_maps_are(image, cropping):
    (found,) = explain(prepare(image, cropping), select_methods(["gradient"])).attributions
    field = found.field_of_view
    held = segmentation()
    table = rows(
        "case",
        "bright",
        {"gradient": found.values},
        held,
        AFFINE,
        fields_of_view={"gradient": field},
    )
    seen = field.seen(found.values.shape)
    for row in table:
        mask = next(one.mask for one in held.segments if one.name == row.segment)
        chance = (mask & seen).sum() / seen.sum()
        assert row.agreement.energy_chance == pytest.approx(chance)
    notes = unseen_notes(held, field)
    assert [note.partition(":")[0] for note in notes] == ["partly", "beyond"]
    assert "40 %" in notes[0]
    assert "all" in notes[1]
    assert unseen_notes(held, None) == []


def test_an_evaluation_holds_the_map_against_what_was_seen(image, cropping):
    case = prepare(image, cropping, "bright", references=LoadedReferences(segmentation()))
    found = evaluate_maps(
        case, select_methods(["gradient"]), parts=("faithfulness",), budget=1.0
    ).evaluation
    seen = case.field_of_view.seen((20, 24, 16))
    row = next(row for row in found.maps[0].rows if row.segment == "within")
    assert row.agreement.energy_chance == pytest.approx(64 / seen.sum())
    assert any("partly" in note for note in found.notes)


def test_an_engine_is_told_the_field_of_view(image, cropping):
    (found,) = explain(prepare(image, cropping), select_methods(["gradient"])).attributions
    field = FieldOfView.of(parse_json(to_json(found.provenance)))
    request = CompareRequest("v", {"a": "m"}, "bright", "s", ("x",), fields_of_view={"a": field})
    assert made(CompareRequest, parse_json(to_json(request))).fields_of_view["a"] == field
    assert field == found.field_of_view
