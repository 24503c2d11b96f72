"""A click says what plain forward passes of the image without that place would say."""

from __future__ import annotations

import gc
import logging
import weakref
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.networks.nets import DenseNet121, resnet18
from monai.transforms import CenterSpatialCropd, Compose, Orientationd, Spacingd
from torch import nn

from SaliencyExplain.attribution.incremental import box_scorer, inference
from SaliencyExplain.attribution.incremental.inference import IncrementalInference
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.attribution.perturbation.infill import infill_of
from SaliencyExplain.demo.phantoms import draw_phantom
from SaliencyExplain.demo.study import STUDY_SEEDS, classifier_folder
from SaliencyExplain.demo.tumours import GLIOMA, MENINGIOMA
from SaliencyExplain.errors import Cancelled, ErrorCode
from SaliencyExplain.explanation.compute import Compute
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.explanation.probing import Prober
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.loading import load_classifier
from Testing.comparing import assert_same
from Testing.expected_errors import error_with
from Testing.networks import monai_network, trained

#: Turned about the z axis, one axis flipped, voxels of 0.8 x 1.5 x 2.5 mm, off the origin.
OBLIQUE = np.array(
    [[0.64, -0.9, 0, -11.0], [0.48, 1.2, 0, 4.0], [0, 0, -2.5, 31.0], [0, 0, 0, 1.0]]
)
SEED = STUDY_SEEDS + 91_000_000


@pytest.fixture(autouse=True)
def _same_random_numbers():
    torch.manual_seed(0)


def classifier_of(network, channels=1, dims=3, transforms=(), activation="softmax"):
    return Classifier(
        name="a classifier",
        classes=("none", "glioma", "meningioma"),
        channels=tuple(f"c{number}" for number in range(channels)),
        spatial_dims=dims,
        network=ScoreNetwork(network, activation).eval().requires_grad_(False),
        preprocessing=Compose(list(transforms)),
        identity="0" * 64,
        source=Path("a classifier"),
    )


def image_of(shape, affine=OBLIQUE):
    return MetaTensor(torch.randn(shape), affine=torch.as_tensor(affine, dtype=torch.float64))


def world(affine, shape):
    """The place of every voxel, (*S, 3)."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return index @ affine[:3, : len(shape)].T + affine[:3, 3]


def by_hand(classifier, prepared, mask, fill="mean"):
    """Probabilities with the masked voxels replaced, by a plain forward pass."""
    values = prepared.as_tensor().clone()
    for channel in values:
        channel[torch.from_numpy(mask)] = {
            "mean": channel.mean(),
            "minimum": channel.min(),
            "window-mean": channel[torch.from_numpy(mask)].mean(),
        }[fill]
    with torch.no_grad():
        scores = classifier.network(values[None])
        return classifier.network.probabilities(scores.double())[0].numpy()


def efficient_net(*shape):
    """With statistics of its images: an EfficientNet without them hardly looks at its input."""
    network = monai_network("EfficientNet", 3).train()
    with torch.no_grad():
        for _ in range(20):
            network(torch.randn(4, *shape))
    return network.eval()


def resnet(dims, channels):
    return resnet18(spatial_dims=dims, n_input_channels=channels, num_classes=3)


NETWORKS = {
    "DenseNet121 3D, two channels": (lambda: trained(DenseNet121(3, 2, 3)), (2, 41, 37, 34)),
    "DenseNet121 2D": (lambda: trained(DenseNet121(2, 1, 3)), (1, 75, 90)),
    "ResNet18 3D": (lambda: trained(resnet(3, 1)), (1, 25, 28, 22)),
    "ResNet18 2D": (lambda: trained(resnet(2, 3)), (3, 64, 61)),
    "SENet 3D": (lambda: trained(monai_network("SENet", 3)), (1, 32, 32, 32)),
    "SENet 2D": (lambda: trained(monai_network("SENet", 2)), (1, 49, 40)),
    "EfficientNet 3D": (lambda: efficient_net(1, 32, 32, 32), (1, 32, 32, 32)),
    "ViT 3D": (lambda: monai_network("ViT", 3), (1, 32, 32, 32)),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", list(NETWORKS))
def test_equals_plain_forward_passes_anywhere_also_over_the_border(name):
    make, shape = NETWORKS[name]
    dims = len(shape) - 1
    classifier = classifier_of(make(), channels=shape[0], dims=dims)
    image = image_of(shape)
    prober = Prober(prepare(image, classifier), fill="minimum")
    prepared = classifier.prepare(image)
    places = world(np.asarray(image.affine), shape[1:])
    np.testing.assert_allclose(prober.probabilities, classifier.predict(image), atol=1e-7)
    moved = 0.0
    for share in (0.0, 0.6):
        point = np.append([share * (size - 1) + 0.2 for size in shape[1:]], [0] * (3 - dims))
        point = (OBLIQUE @ [*point, 1.0])[:3]
        answer = prober.at(point, [9.0, 2.2, 25.0])
        for removal, radius in zip(answer.removals, (2.2, 9.0, 25.0), strict=True):
            ball = np.linalg.norm(places - point, axis=-1) <= radius
            expected = by_hand(classifier, prepared, ball, "minimum")
            np.testing.assert_allclose(removal.probabilities, expected, atol=1e-5)
            assert (removal.name, removal.radius_mm) == (f"{radius:g} mm", radius)
            values = prepared.numpy()
            differs = (values != values.min(axis=tuple(range(1, dims + 1)), keepdims=True)).any(
                axis=0
            )
            assert removal.voxels == (ball & differs).sum()
            moved = max(moved, np.abs(expected - answer.before).max())
    assert moved > 5e-4, "the places must matter"


@pytest.mark.parametrize("fill", ["mean", "minimum", "window-mean"])
def test_fills_are_those_of_occlusion(fill):
    classifier = classifier_of(trained(monai_network("ResNet", 3)), channels=1)
    image = image_of((1, 20, 24, 18))
    point = (OBLIQUE @ [9, 11, 8, 1])[:3]
    found = Prober(prepare(image, classifier), fill=fill).at(point, [6.1]).removals[0]
    ball = np.linalg.norm(world(OBLIQUE, image.shape[1:]) - point, axis=-1) <= 6.1
    expected = by_hand(classifier, classifier.prepare(image), ball, fill)
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-5)


@pytest.mark.parametrize("fill", ["blur", "noise", "inpaint"])
def test_other_infills_and_one_channel_are_those_of_a_plain_pass(fill):
    classifier = classifier_of(trained(monai_network("DenseNet", 3)), channels=1)
    two = classifier_of(trained(DenseNet121(3, 2, 3, 8, 4, (2, 2))), channels=2)
    point = (OBLIQUE @ [9, 11, 8, 1])[:3]
    for asked, channel in ((classifier, None), (two, "c1")):
        image = image_of((len(asked.channels), 20, 24, 18))
        removal = (
            Prober(prepare(image, asked), fill=fill, channel=channel).at(point, [6.1]).removals[0]
        )
        ball = np.linalg.norm(world(OBLIQUE, image.shape[1:]) - point, axis=-1) <= 6.1
        prepared = asked.prepare(image)
        spacing = tuple(np.linalg.norm(OBLIQUE[:3, :3], axis=0))
        # Noise is drawn for the image, as in an explanation.
        seed = prepare(image, asked, "0", Compute("cpu")).task().seed
        content = infill_of(prepared.as_tensor()[None], fill, spacing, seed=seed)
        content = content.place((0, 0, 0), torch.from_numpy(ball))
        changed = torch.where(torch.from_numpy(ball), content, prepared.as_tensor())
        if channel:
            changed[0] = prepared.as_tensor()[0]
        with torch.no_grad():
            scores = asked.network(changed[None]).double()
        expected = asked.network.probabilities(scores)[0].numpy()
        np.testing.assert_allclose(removal.probabilities, expected, atol=1e-5)
    with error_with(ErrorCode.NAME_UNKNOWN, "'T1'", "'c1'"):
        Prober(prepare(image, two), channel="T1")


class Weighted(nn.Module):
    """Class 1 has the score <weights, image>, class 2 minus that, class 0 zero."""

    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, images):
        score = (images * self.weights).flatten(1).sum(1)
        return torch.stack([0 * score, score, -score], dim=1)


def test_a_linear_model_loses_the_weights_of_the_removed_voxels():
    weights = torch.randn(1, 9, 9, 9)
    classifier = classifier_of(Weighted(weights), activation="none")
    image = image_of((1, 9, 9, 9), np.diag([1.0, 2.0, 3.0, 1.0]))
    answer = Prober(prepare(image, classifier), fill="value", value=0.5).at((4.0, 8.0, 12.0), [2.5])
    # In voxels of 1 x 2 x 3 mm the ball holds five along i, and three at each neighbour in j.
    inside = [(i, 4, 4) for i in range(2, 7)] + [(i, j, 4) for i in (3, 4, 5) for j in (3, 5)]
    expected = answer.before[1] + sum(
        float(weights[0][v]) * (0.5 - float(image[0][v])) for v in inside
    )
    assert answer.removals[0].voxels == len(inside)
    assert answer.removals[0].probabilities[1] == pytest.approx(expected, abs=1e-5)


def test_a_segment_is_removed_on_the_networks_grid_though_it_is_flipped_and_cropped():
    transforms = [
        Orientationd("image", axcodes="LPS"),
        CenterSpatialCropd("image", roi_size=(14, 15, 9)),
    ]
    classifier = classifier_of(trained(monai_network("ResNet", 3)), transforms=transforms)
    image = image_of((1, 20, 22, 16))
    prepared = classifier.prepare(image)
    mask = np.random.default_rng(0).random(image.shape[1:]) < 0.4
    removal = Prober(prepare(image, classifier)).segment(mask, "tumour").removals[0]
    there = np.round(world(OBLIQUE, mask.shape)[mask], 3)
    marked = {tuple(place) for place in there + 0.0}
    grid = np.round(world(prepared.affine.numpy(), prepared.shape[1:]), 3) + 0.0
    wanted = np.array([tuple(place) in marked for place in grid.reshape(-1, 3)])
    wanted = wanted.reshape(grid.shape[:3])
    assert 0 < wanted.sum() < mask.sum(), "the crop must cut some of it off"
    assert (removal.name, removal.radius_mm, removal.voxels) == ("tumour", None, wanted.sum())
    expected = by_hand(classifier, prepared, wanted)
    np.testing.assert_allclose(removal.probabilities, expected, atol=1e-5)


def test_a_segment_of_one_slice_before_a_classifier_of_slices():
    network = trained(monai_network("DenseNet", 2))
    flat = image_of((1, 40, 44))
    thick = MetaTensor(flat.as_tensor()[..., None], affine=flat.affine)
    mask = np.zeros((40, 44), dtype=bool)
    mask[8:20, 30:41] = True
    expected = by_hand(classifier_of(network, dims=2), flat, mask)
    for image, marked in ((flat, mask), (thick, mask[..., None])):
        prober = Prober(prepare(image, classifier_of(network, dims=2)))
        found = prober.segment(marked, "tumour").removals[0]
        np.testing.assert_allclose(found.probabilities, expected, atol=1e-5)
        off = (OBLIQUE @ [20, 20, 3, 1])[:3]
        with error_with(ErrorCode.PLACE_OUTSIDE):
            prober.at(off, [5.0])


def test_a_segment_smaller_than_a_voxel_of_the_network_takes_the_voxel_that_holds_it():
    spacing = Spacingd("image", pixdim=(6.0, 6.0, 6.0), mode="bilinear")
    classifier = classifier_of(Weighted(torch.randn(1, 4, 4, 4)), transforms=[spacing])
    image = image_of((1, 10, 10, 10), np.diag([2.0, 2.0, 2.0, 1.0]))
    mask = np.zeros((10, 10, 10), dtype=bool)
    mask[3, 6, 3] = True  # at (6, 12, 6) mm: the network's voxel (1, 2, 1)
    answer = Prober(prepare(image, classifier)).segment(mask, "nodule")
    assert "nodule" in answer.notes[0]
    assert "half" in answer.notes[0]
    wanted = np.zeros((4, 4, 4), dtype=bool)
    wanted[1, 2, 1] = True
    expected = by_hand(classifier, classifier.prepare(image), wanted)
    np.testing.assert_allclose(answer.removals[0].probabilities, expected, atol=1e-5)


@cache
def shipped(name):
    return load_classifier(classifier_folder(name))


def centre_of(mask, affine):
    return (affine @ [*np.argwhere(mask).mean(axis=0), 1.0])[:3]


@pytest.mark.parametrize("label", [GLIOMA, MENINGIOMA])
def test_an_honest_classifier_needs_the_tumour_and_not_a_ball_elsewhere(label):
    honest, lost, elsewhere = shipped("phantom-3d-honest"), [], []
    for seed in range(SEED, SEED + 3):
        phantom = draw_phantom(label, seed)
        affine = phantom.image.affine.numpy()
        prober = Prober(prepare(phantom.image, honest))
        tumour, index = centre_of(phantom.masks["tumour"], affine), honest.classes.index(label)
        answer = prober.at(tumour, [16.0])
        lost.append(answer.before[index] - answer.removals[0].probabilities[index])
        whole = prober.segment(phantom.masks["tumour"], "tumour")
        assert whole.removals[0].probabilities[index] < 0.5 * whole.before[index]
        other = prober.at(tumour * [-1, -1, 1], [16.0])
        elsewhere.append(abs(other.before[index] - other.removals[0].probabilities[index]))
        assert other.removals[0].voxels > 50
    assert np.mean(lost) > 0.35
    assert np.mean(lost) > 10 * np.mean(elsewhere)


def test_a_classifier_with_a_shortcut_needs_the_marker_and_not_the_tumour():
    shortcut = shipped("phantom-3d-shortcut")
    index = shortcut.classes.index(GLIOMA)
    for seed in range(SEED, SEED + 2):
        phantom = draw_phantom(GLIOMA, seed, marker=True)
        prober = Prober(prepare(phantom.image, shortcut))
        marker = prober.at(centre_of(phantom.masks["marker"], phantom.image.affine.numpy()), [20])
        tumour = prober.segment(phantom.masks["tumour"], "tumour")
        assert marker.before[index] - marker.removals[0].probabilities[index] > 0.4
        assert abs(tumour.before[index] - tumour.removals[0].probabilities[index]) < 0.2


@pytest.fixture
def dense():
    classifier = classifier_of(trained(monai_network("DenseNet", 3)))
    return classifier, image_of((1, 32, 30, 28))


def test_a_moved_point_reuses_the_maps_and_runs_no_whole_pass(dense, monkeypatch):
    classifier, image = dense
    prober = Prober(prepare(image, classifier))
    kept, maps = prober.cached_bytes, prober._warm._scorer.inference._kept
    assert kept > image.numel() * 4

    def never(*_):
        raise AssertionError("a warm click needs no whole pass and no new trace")

    monkeypatch.setattr(ScoreNetwork, "forward", never)
    monkeypatch.setattr(inference, "network_steps", never)
    held = sum(value.numel() for value in maps.values())
    for step in range(12):
        point = (OBLIQUE @ [2.3 * step, 28 - 2.1 * step, 1.9 * step, 1])[:3]
        prober.at(point, [2.0 + step, 4.0, 9.0])
    prober.segment(np.ones(image.shape[1:], dtype=bool), "all")
    assert prober.cached_bytes == kept
    assert sum(value.numel() for value in maps.values()) == held


def test_balls_of_the_same_voxels_are_computed_once_and_empty_ones_never(dense, monkeypatch):
    classifier, image = dense
    image[:, :10] = 0.25  # equal to the fill: nothing to remove there
    prober = Prober(prepare(image, classifier), fill="value", value=0.25)
    sent = []
    inner = IncrementalInference.scores_of
    monkeypatch.setattr(
        IncrementalInference,
        "scores_of",
        lambda self, corners, contents: sent.append(len(corners)) or inner(self, corners, contents),
    )
    answer = prober.at((OBLIQUE @ [20, 15, 14, 1])[:3], [9.0, 0.1, 0.2, 0.1])
    assert [removal.radius_mm for removal in answer.removals] == [0.1, 0.2, 9.0]
    assert sent == [2]
    assert answer.removals[0].voxels == 1
    assert "the voxel at the point" in answer.notes[0]
    np.testing.assert_array_equal(
        answer.removals[0].probabilities, answer.removals[1].probabilities
    )
    nothing = prober.at((OBLIQUE @ [3, 15, 14, 1])[:3], [2.0])
    assert (sent, nothing.removals[0].voxels) == ([2], 0)
    np.testing.assert_array_equal(nothing.removals[0].probabilities, nothing.before)


def test_weights_changed_after_the_first_click_are_noticed(dense):
    classifier, image = dense
    prober = Prober(prepare(image, classifier))
    point = (OBLIQUE @ [16, 15, 14, 1])[:3]
    before = prober.at(point, [9.0])
    with torch.no_grad():
        classifier.network.network.class_layers.out.weight.mul_(-1.5)
        classifier.network.network.features.norm0.running_mean.add_(0.4)
    after, anew = prober.at(point, [9.0]), Prober(prepare(image, classifier)).at(point, [9.0])
    assert np.abs(np.subtract(after.before, before.before)).max() > 1e-2
    np.testing.assert_allclose(after.before, classifier.predict(image), atol=1e-7)
    np.testing.assert_allclose(
        after.removals[0].probabilities, anew.removals[0].probabilities, atol=1e-7
    )


def test_released_maps_are_free_and_come_back_with_the_next_click(dense):
    classifier, image = dense
    prober = Prober(prepare(image, classifier))
    point = (OBLIQUE @ [16, 15, 14, 1])[:3]
    before = prober.at(point, [9.0])
    maps = [weakref.ref(value) for value in prober._warm._scorer.inference._kept.values()]
    prober.release()
    gc.collect()
    assert maps
    assert not any(reference() is not None for reference in maps)
    assert prober.cached_bytes == 0
    after = prober.at(point, [9.0])
    assert prober.cached_bytes > 0
    assert_same(after.removals[0].probabilities, before.removals[0].probabilities)


@pytest.mark.parametrize("reason", ["hooks", "memory"])
def test_what_cannot_be_kept_runs_whole_passes_and_says_so(dense, reason, monkeypatch, caplog):
    classifier, image = dense
    point = (OBLIQUE @ [16, 15, 14, 1])[:3]
    expected = Prober(prepare(image, classifier)).at(point, [3.0, 9.0])
    if reason == "hooks":
        layer = classifier.network.network.features.conv0
        layer.register_forward_hook(lambda _module, _inputs, output: output)
    else:
        monkeypatch.setattr(box_scorer, "memory_left", lambda _device, _most: 1000)
    with caplog.at_level(logging.INFO):
        prober = Prober(prepare(image, classifier))
    assert prober.cached_bytes == 0
    assert "Whole forward passes" in caplog.text
    for found, removal in zip(
        prober.at(point, [3.0, 9.0]).removals, expected.removals, strict=True
    ):
        np.testing.assert_allclose(found.probabilities, removal.probabilities, atol=1e-6)


def test_a_cancelled_click_leaves_everything_as_it_was(dense):
    classifier, image = dense
    network = classifier.network.requires_grad_(True)
    prober = Prober(prepare(image, classifier))
    point = (OBLIQUE @ [16, 15, 14, 1])[:3]
    expected = prober.at(point, [3.0, 9.0])
    state = {name: value.clone() for name, value in network.state_dict().items()}

    def stop(done, total):
        raise Cancelled

    with pytest.raises(Cancelled):
        prober.at(point, [4.0, 9.0], progress=stop)
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not any(module.training for module in network.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    told = []
    again = prober.at(point, [3.0, 9.0], progress=lambda done, total: told.append((done, total)))
    assert told == [(2.0, 2.0)]
    for one, other in zip(again.removals, expected.removals, strict=True):
        assert_same(one.probabilities, other.probabilities)


def test_places_that_cannot_be_probed_are_told_in_one_line():
    crop = CenterSpatialCropd("image", roi_size=(10, 10, 10))
    classifier = classifier_of(Weighted(torch.randn(1, 10, 10, 10)), transforms=[crop])
    image = image_of((1, 20, 20, 20), np.eye(4))
    prober = Prober(prepare(image, classifier))
    border = np.zeros((20, 20, 20), dtype=bool)
    border[0] = True
    for call, code, named in (
        (lambda: prober.at((30, 5, 5), [4]), ErrorCode.PLACE_OUTSIDE, "30"),
        (lambda: prober.at((1, 1, 1), [4]), ErrorCode.PLACE_OUTSIDE, "what the network sees"),
        (lambda: prober.at((np.nan, 1, 1), [4]), ErrorCode.VALUE_FORM, "nan"),
        (lambda: prober.at((9, 9, 9), []), ErrorCode.VALUE_RANGE, "[]"),
        (lambda: prober.at((9, 9, 9), [4, -1]), ErrorCode.VALUE_RANGE, "-1"),
        (lambda: prober.at((9, 9, 9), [1e300]), ErrorCode.VALUE_RANGE, "1e+06"),
        (lambda: prober.segment(border, "rim"), ErrorCode.PLACE_OUTSIDE, "rim"),
        (lambda: prober.segment(border[:5], "rim"), ErrorCode.GRID_MISMATCH, "rim"),
        (lambda: prober.segment(0 * border, "rim"), ErrorCode.SEGMENTATION_EMPTY, "rim"),
        (lambda: Prober(prepare(image, classifier), fill="black"), ErrorCode.NAME_UNKNOWN, "black"),
    ):
        with error_with(code, named) as raised:
            call()
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("margin", "output"), [(1.0, "probability"), (15.0, "score")])
def test_a_click_on_what_a_sure_classifier_sees_tells_the_score(margin, output):
    class Brightness(nn.Module):
        def forward(self, images):
            score = margin * images.mean((1, 2, 3))[:, None] / 2
            return torch.cat([-score, score], dim=1)

    values = torch.ones(1, 24, 24)
    values[0, 6:12, 14:20] = 1.8
    meta = {"name": "a", "notes": [], "modality": "", "frame_of_reference": ""}
    image = MetaTensor(values, affine=torch.eye(4).double(), meta=meta)
    network = ScoreNetwork(Brightness().eval())
    classifier = Classifier(
        "sure", ("low", "high"), ("i",), 2, network, Compose([]), "0" * 64, Path(".")
    )
    found = Prober(prepare(image, classifier, compute=Compute("cpu"))).at([8, 16, 0], [3.0])
    (removal,) = found.removals
    assert found.output == output
    assert ("output=score" in "".join(found.notes)) == (output == "score")
    assert removal.scores[1] < found.scores[1]
    assert found.scores[1] == pytest.approx(margin * float(values.mean()) / 2, rel=1e-5)
    fall = found.before[1] - removal.probabilities[1]
    assert 0 < fall < (1e-5 if output == "score" else 1)
