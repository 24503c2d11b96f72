"""The pictures of partly deleted and restored images: the right ones, in the right place."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import nibabel.orientations as orientations
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import CenterSpatialCropd, Compose, Orientationd, ScaleIntensityRanged
from PIL import Image

from SaliencyExplain.attribution.methods.occlusion import Occlusion
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.evaluation.image.cost import CostTier
from SaliencyExplain.evaluation.image.map_evaluation import evaluate_maps
from SaliencyExplain.evaluation.image.partial_images import KINDS, SHOWN
from SaliencyExplain.evaluation.image.removal_curves import SHARES
from SaliencyExplain.evaluation.image.thumbnails import PartialImageRows
from SaliencyExplain.evaluation.image.trust_card import card_png
from SaliencyExplain.explanation.compute import Compute
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.images.reading import to_image
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.pictures.reading_aids import grey_window
from SaliencyExplain.pictures.slab import peak_view, slab_of
from Testing.evaluation.conftest import Small

SHAPE = (24, 20, 14)
SPACING = np.array([2.0, 2.0, 3.0])
AFFINE = np.diag([*SPACING, 1.0])
RAS = (("L", "R"), ("P", "A"), ("I", "S"))


def turned(values, axes):
    """The volume, stored as RAS, with its axes swapped and flipped, and its affine."""
    turn = orientations.ornt_transform(
        orientations.io_orientation(AFFINE), orientations.axcodes2ornt(axes)
    )
    affine = AFFINE @ orientations.inv_ornt_aff(turn, values.shape)
    return np.ascontiguousarray(orientations.apply_orientation(values, turn)), affine


def head():
    """An ellipsoid with texture, its right side (R of RAS) twice as bright."""
    places = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    inside = sum(axis**2 for axis in places) < 0.8
    texture = np.random.default_rng(1).random(SHAPE) * 30 + 50 * (1 + (places[0] > 0))
    return np.where(inside, texture, 0).astype(np.float32)


def asked(axes="RAS", *steps):
    values, affine = turned(head(), axes)
    classifier = Classifier(
        name="small", classes=("a", "b", "c"), channels=("t1",), spatial_dims=3,
        network=ScoreNetwork(Small().eval()),
        preprocessing=Compose([Orientationd(["image"], axcodes="RAS", labels=RAS), *steps]),
        identity="0" * 64, source=Path("small"),
    )  # fmt: skip
    return prepare(to_image(values[None], affine, name="head"), classifier, "b", Compute("cpu"))


def evaluated(case, axes="RAS", random_maps=3):
    """A map that is strongest in front on the right, a voxel more than the others."""
    places = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    values = np.exp(-4 * sum((p - q) ** 2 for p, q in zip(places, (0.5, 0.4, 0.1), strict=True)))
    map_, affine = turned(values.astype(np.float32), axes)
    given = MetaTensor(torch.from_numpy(map_[None]), affine=affine)
    return evaluate_maps(
        case,
        [],
        given_maps={"map": given},
        parts=["faithfulness"],
        cost_tier=CostTier(random_maps=random_maps),
    )


def rows_of(found):
    """The thumbnails of the first map."""
    one = found.evaluation.maps[0]
    return PartialImageRows(one, found.pictures[one.label], found.case)


def test_the_curves_are_taken_at_each_share_that_is_shown():
    assert set(SHOWN) <= set(SHARES)


def test_each_shown_image_has_the_answer_that_stands_under_it():
    case = asked()
    images = evaluated(case).pictures["map"].images
    network = case.classifier.network
    seen = set()
    for kind in KINDS:
        for random in (False, True):
            for share in (0.0, *SHOWN):
                shown = torch.from_numpy(images.shown(kind, share, random=random))
                with torch.no_grad():
                    answer = network.probabilities(network(shown[None, None]).double())[0, 1]
                said = images.probability(kind, share, random=random)
                assert said == pytest.approx(float(answer), abs=1e-6)
                seen.add(round(said, 8))
    assert len(seen) > 15
    removed = images.shown("deletion", 0.1) != images.image
    np.testing.assert_array_equal(
        images.shown("deletion", 0.1) + images.shown("insertion", 0.1),
        images.image + images.baseline,
    )
    assert 0.05 < removed.mean() <= 0.1
    assert (images.places[removed] < 0.1 * images.places.size).all()


def test_the_random_row_is_the_random_map_in_the_middle():
    evaluation = evaluated(asked(), random_maps=5)
    found, images = evaluation.evaluation.maps[0].faithfulness, evaluation.pictures["map"].images
    for kind in KINDS:
        null_values = found.metric(f"{kind}_area").null_values
        area = np.trapezoid(images.random[kind].curve, found.curves.shares)
        assert area == pytest.approx(sorted(null_values)[2])
    told = found.partial_images
    assert told.deletion == tuple(images.probability("deletion", s) for s in (0.0, *SHOWN))
    assert told.random_insertion[-1] == images.probability("insertion", 0.5, random=True)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR", "SRP"])
def test_they_lie_in_the_same_plane_turned_as_the_picture_whatever_the_axes(axes):
    case = asked(axes)
    found = evaluated(case, axes)
    rows, values = rows_of(found), found.pictures["map"].values
    image = case.image[0].numpy()
    affine = case.image.affine.numpy().astype(np.float64)
    seen = peak_view(image, values, affine, [], signed=False)
    plane = seen.view.planes[0]
    np.testing.assert_allclose(rows.pixels("deletion", 0.0), plane.cut(image), atol=1e-4)
    slab = slab_of(seen, affine)
    assert slab.plane.position == plane.position
    assert slab.plane.letters == ("R", "L", "A", "P")
    np.testing.assert_array_equal(slab.plane.cut(values[slab.box]), plane.cut(values))
    # What the map marks lies on the patient's right, in front: on the viewer's left, on top.
    changed = np.abs(rows.pixels("deletion", 0.05) - plane.cut(image)) > 1e-3
    down, across = np.argwhere(changed).mean(axis=0) / changed.shape
    assert across < 0.4
    assert down < 0.5
    unlike = np.abs(rows.pixels("insertion", 0.05) - rows.pixels("insertion", 0.0)) > 1e-3
    np.testing.assert_array_equal(unlike, changed)


@pytest.mark.slow
def test_they_have_the_picture_s_window_in_the_units_of_the_input():
    scaled = ScaleIntensityRanged(["image"], a_min=-20, a_max=180, b_min=1, b_max=-3)
    case = asked("LPS", scaled)
    flipped = rows_of(evaluated(case, "LPS"))
    assert case.input.max() > 0.5
    # A line that falls is no line to be followed: bright would be drawn dark.
    assert flipped.greys == grey_window(case.input[0].numpy())
    rising = ScaleIntensityRanged(["image"], a_min=-20, a_max=180, b_min=-3, b_max=1)
    case = asked("LPS", rising)
    rows = rows_of(evaluated(case, "LPS"))
    own = grey_window(case.image[0].numpy())
    assert rows.greys.black == pytest.approx(own.black / 50 - 2.6, abs=1e-3)
    assert rows.greys.white == pytest.approx(own.white / 50 - 2.6, abs=1e-3)


def test_where_the_network_sees_nothing_they_are_black():
    case = asked("RAS", CenterSpatialCropd(["image"], (12, 20, 14)))
    rows = rows_of(evaluated(case))
    pixels = rows.pixels("insertion", 0.2)
    around = np.r_[pixels[:, :4].ravel(), pixels[:, -4:].ravel()]
    assert (around == np.float32(rows.greys.black)).all()
    middle = pixels[:, 6:-6]
    assert (middle != np.float32(rows.greys.black)).mean() > 0.5


@pytest.mark.slow
def test_the_card_shows_them_and_is_as_tall_as_they_need():
    case = asked()
    found = evaluated(case)
    (one,), rows = found.evaluation.maps, rows_of(found)
    sizes = []
    for images in (one.faithfulness, None):
        shown = dataclasses.replace(one, faithfulness=images)
        with Image.open(io.BytesIO(card_png(found, shown))) as card:
            sizes.append(card.size)
    assert rows.height > 400
    assert abs(sizes[0][1] - sizes[1][1] - rows.height) <= 170


class Brightness(torch.nn.Module):
    """The mean of a corner of either channel speaks for the second class."""

    def forward(self, images):
        score = images[:, :, 2:8, 2:8].mean((1, 2, 3))
        return torch.stack([-score, score], 1)


def test_the_map_of_a_channel_is_shown_with_the_images_of_that_channel():
    rng = np.random.default_rng(0)
    values = np.stack([rng.random((20, 20)), 1 + rng.random((20, 20))]).astype(np.float32)
    classifier = Classifier(
        name="corner", classes=("dark", "bright"), channels=("t1", "flair"), spatial_dims=2,
        network=ScoreNetwork(Brightness().eval()), preprocessing=Compose([]),
        identity="0" * 64, source=Path("corner"),
    )  # fmt: skip
    image = to_image(values, np.diag([-2.0, -2.0, 1.0, 1.0]), name="two")
    case = prepare(image, classifier, "bright", Compute("cpu"))
    method = Occlusion(channel="each", window_mm=8.0)
    found = evaluate_maps(case, [method], parts=["faithfulness"], cost_tier=CostTier(random_maps=2))
    assert {one.layer: one.channel for one in found.evaluation.maps} == {"t1": 0, "flair": 1}
    for one in found.evaluation.maps:
        pictures = found.pictures[one.label]
        images = pictures.images
        own = values[one.channel]
        np.testing.assert_array_equal(images.shown("deletion", 0.0), own)
        assert own.min() <= images.baseline.min()
        assert images.baseline.max() <= own.max()
        rows = PartialImageRows(one, pictures, case)
        window = dataclasses.astuple(grey_window(own))
        assert dataclasses.astuple(rows.greys) == pytest.approx(window, abs=1e-4)
        whole = slab_of(
            peak_view(own, pictures.values, image.affine.numpy(), [], signed=one.signed),
            image.affine.numpy(),
        )
        np.testing.assert_allclose(
            rows.pixels("deletion", 0.0), whole.plane.cut(own[whole.box]), atol=1e-5
        )
