"""Targets of segmentation networks: a region's or a point's mean logit, in a window around it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import sliding_window_inference
from monai.networks import nets
from torch import Tensor, nn

import SaliencyExplain as se
from SaliencyExplain.attribution.method_selection import select_methods
from SaliencyExplain.errors import ErrorCode
from SaliencyExplain.explanation.explain import explain
from SaliencyExplain.explanation.loaded_references import LoadedReferences
from SaliencyExplain.explanation.network_window import window_around
from SaliencyExplain.explanation.prediction import predict
from SaliencyExplain.explanation.prepared_case import PreparedCase, prepare
from SaliencyExplain.explanation.probing import Prober
from SaliencyExplain.explanation.region_case import predict_sizes
from SaliencyExplain.images.reading import to_image
from SaliencyExplain.images.segmentation import Segment, Segmentation
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.sliding_window import SlidingWindow
from Testing.expected_errors import error_with

ANISOTROPIC = np.array([[-2.0, 0, 0, 30], [0, 1.5, 0, -20], [0, 0, 3.0, 5], [0, 0, 0, 1]])
#: Turned by 90 degrees about two axes: the image's axes are the network's in another order.
ROTATED = np.array([[0, 0, 2.0, -9], [-1.5, 0, 0, 40], [0, -3.0, 0, 12], [0, 0, 0, 1]])
SHAPE = (20, 24, 16)


class Detector(nn.Module):
    """Class 1 answers at each voxel to a known kernel of 3 x 3 x 3 voxels, class 0 is 0."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(1, 1, 3, padding=1, bias=False)
        kernel = torch.arange(27.0).reshape(1, 1, 3, 3, 3) - 10
        self.convolution.weight = nn.Parameter(kernel)

    def forward(self, images: Tensor) -> Tensor:
        found = self.convolution(images)
        return torch.cat([torch.zeros_like(found), found], dim=1)


class Brightness(nn.Module):
    """Class 1 where a voxel is brighter than 0.5, through feature maps at half the resolution."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv3d(1, 2, 2, stride=2), nn.ReLU())
        nn.init.constant_(self.encoder[0].weight, 0.125)
        nn.init.zeros_(self.encoder[0].bias)

    def forward(self, images: Tensor) -> Tensor:
        features = self.encoder(images).mean(dim=1, keepdim=True)
        coarse = nn.functional.interpolate(features, scale_factor=2.0)
        found = 4 * (images + coarse - 1)
        return torch.cat([-found, found], dim=1)


def segmenter(network: nn.Module, *names: str, orientation: str = "RAS") -> Classifier:
    torch.manual_seed(0)
    names = names or ("background", "tumour")
    return se.Model(network, names, activation="softmax", orientation=orientation)


def noise(affine: np.ndarray = ANISOTROPIC, shape: tuple[int, ...] = SHAPE) -> MetaTensor:
    values = np.random.default_rng(3).random((1, *shape), dtype=np.float32)
    return to_image(values, affine, name="noise")


def blob(shape: tuple[int, ...] = SHAPE, corner: tuple[int, ...] = (4, 6, 8)) -> MetaTensor:
    values = np.zeros((1, *shape), np.float32)
    values[(0, *(slice(first, first + 4) for first in corner))] = 1.0
    return to_image(values, ANISOTROPIC, name="blob")


def gradient_of(case: PreparedCase) -> np.ndarray:
    return explain(case, select_methods(["gradient"]))[0].values


def world(affine: np.ndarray, index: tuple[int, ...]) -> tuple[float, ...]:
    return tuple((affine @ [*index, 1.0])[:3].tolist())


@pytest.mark.parametrize("affine", [ANISOTROPIC, ROTATED])
def test_the_map_of_a_point_is_the_known_gradient_at_its_place(affine: np.ndarray) -> None:
    index = (9, 11, 7)
    point = ",".join(map(str, world(affine, index)))
    case = prepare(noise(affine), segmenter(Detector()), f"point:{point}@tumour")
    found = gradient_of(case)
    # The mean over 27 voxels of a kernel reaches two voxels along each axis and no further.
    inside = np.zeros(SHAPE, bool)
    inside[tuple(slice(at - 2, at + 3) for at in index)] = True
    assert np.all(found[~inside] == 0)
    kernel = Detector().convolution.weight.detach()
    expected = torch.nn.functional.conv_transpose3d(torch.ones(1, 1, 3, 3, 3) / 27, kernel)[0, 0]
    network = case.input.affine.numpy()
    for offset in itertools.product((-2, -1, 0, 1, 2), repeat=3):
        place = tuple(at + step for at, step in zip(index, offset, strict=True))
        there = np.linalg.inv(network) @ affine @ [*place, 1.0]
        centre = np.linalg.inv(network) @ affine @ [*index, 1.0]
        step = np.rint(there - centre)[:3].astype(int) + 2
        assert found[place] == pytest.approx(abs(float(expected[tuple(step)])), abs=1e-5)


def test_the_target_is_the_mean_logit_of_the_predicted_region() -> None:
    classifier, image = segmenter(Detector(), orientation="none"), noise()
    case = prepare(image, classifier, "region:tumour")
    with torch.no_grad():
        logits = Detector()(image.as_tensor()[None])[0]
    region = logits.argmax(dim=0) == 1
    assert case.prediction.scores[1] == pytest.approx(float(logits[1][region].mean()), rel=1e-4)
    assert case.target_name == "region:tumour"
    assert case.prediction.sizes[1].voxels == int(region.sum())
    assert case.prediction.sizes[1].size == pytest.approx(int(region.sum()) * 9 / 1000)
    # Predicted is the largest class beside the background; a class means its region.
    for target in ("predicted", "tumour", "1"):
        assert prepare(image, classifier, target).target_name == "region:tumour"


def test_a_given_segment_takes_the_place_of_the_predicted_region() -> None:
    mask = np.zeros(SHAPE, bool)
    mask[3:6, 4:9, 5:7] = True
    segments = Segmentation((Segment("core", (1.0, 0, 0), mask),), ANISOTROPIC, ())
    image, classifier = noise(), segmenter(Detector(), orientation="none")
    references = LoadedReferences(segments)
    case = prepare(image, classifier, "region:background@core", references=references)
    assert case.region is not None
    assert np.array_equal(case.region.mask, mask)
    assert case.target == 0
    with torch.no_grad():
        logits = Detector()(image.as_tensor()[None])[0]
    tumour = prepare(image, classifier, "region:tumour@core", references=references)
    assert tumour.prediction.scores[1] == pytest.approx(float(logits[1][mask].mean()), rel=1e-4)
    sign = Segmentation((Segment("a@b", (1.0, 0, 0), mask),), ANISOTROPIC, ())
    named = prepare(image, classifier, "region:tumour@a@b", references=LoadedReferences(sign))
    assert named.target_name == "region:tumour@a@b"
    with error_with(ErrorCode.OPTION_MISSING, "core"):
        prepare(image, classifier, "region:tumour@core")
    with error_with(ErrorCode.NAME_UNKNOWN, "rim"):
        prepare(image, classifier, "region:tumour@rim", references=references)


@pytest.mark.parametrize(
    "target", ["difference:tumour|background", "output:0", "probability:region:tumour"]
)
def test_other_targets_of_a_segmentation_network_are_refused(target: str) -> None:
    with error_with(ErrorCode.TARGET_KIND, target):
        prepare(noise(), segmenter(Detector()), target)


def test_a_method_of_classifiers_is_refused_by_name() -> None:
    case = prepare(noise(), segmenter(Detector()), "region:tumour")
    with error_with(ErrorCode.TARGET_KIND, "cam"):
        explain(case, select_methods(["cam"]))


def test_a_segmentation_network_has_no_class_of_an_image() -> None:
    with error_with(ErrorCode.TARGET_KIND, "Detector"):
        segmenter(Detector()).predict(noise())
    with error_with(ErrorCode.TARGET_KIND, "Detector"):
        predict(noise(), segmenter(Detector()))
    sizes = se.predict(noise(), segmenter(Detector()))
    assert sum(sizes.values()) == pytest.approx(np.prod(SHAPE) * 9 / 1000)


def test_a_class_that_is_not_predicted_has_no_region() -> None:
    dark = blob() * 0 - 1.0
    dark[0, 0, 0, 0] = -2.0
    image = to_image(dark.numpy(), ANISOTROPIC, name="dark")
    for target in ("predicted", "region:tumour"):
        with error_with(ErrorCode.SEGMENTATION_EMPTY, "tumour"):
            prepare(image, segmenter(Brightness()), target)
    sizes, _ = predict_sizes(image, segmenter(Brightness()))
    assert [one.voxels for one in sizes] == [np.prod(SHAPE), 0]


def test_grad_cam_and_occlusion_find_a_planted_blob() -> None:
    image = blob()
    inside = image.numpy()[0] > 0
    case = prepare(image, segmenter(Brightness()), "region:tumour")
    assert case.region is not None
    assert case.region.mask.sum() == inside.sum()
    methods = ["occlusion", "gradcam", "integrated-gradients"]
    settings = ["occlusion.window_mm=6", "occlusion.stride_mm=3"]
    for one in explain(case, select_methods(methods, settings)):
        peak = np.unravel_index(one.values.argmax(), one.values.shape)
        assert inside[peak], one.label
        # The coarsest feature maps, not the region that every path goes through.
        assert one.layer in ("", "network.encoder.1")


def test_occlusion_measures_the_drop_of_the_mean_logit() -> None:
    case = prepare(noise(), segmenter(Detector()), "region:tumour")
    wanted = ["occlusion.window_mm=9", "occlusion.fill=value", "occlusion.value=0"]
    found = explain(case, select_methods(["occlusion"], wanted))[0]
    assert found.parameters["output"] == "score"
    task = case.task()
    probe = Prober(case, fill="value", value=0.0)
    centre = world(ANISOTROPIC, (9, 11, 7))
    removed = probe.at(centre, [0.1]).removals[0]
    changed = task.input.clone()
    at = np.rint(np.linalg.inv(case.input.affine.numpy()) @ [*centre, 1.0])[:3].astype(int)
    changed[(0, 0, *at)] = 0
    with torch.no_grad():
        expected = task.network(changed)[0, 1]
    assert removed.scores[1] == pytest.approx(float(expected), rel=1e-4)


def test_a_prediction_is_that_of_monais_sliding_windows() -> None:
    torch.manual_seed(1)
    network = nets.UNet(3, 1, 3, channels=(4, 8), strides=(2,), norm="batch").eval()
    classifier = segmenter(network, "background", "tumour", "edema", orientation="none")
    classifier.windows = SlidingWindow((16, 16, 24), 0.5, "gaussian")
    image = noise(shape=(36, 24, 20))
    with torch.no_grad():
        plain = sliding_window_inference(
            image.as_tensor()[None], (16, 16, 24), 2, network, overlap=0.5, mode="gaussian"
        )[0].argmax(dim=0)
    sizes, _ = predict_sizes(image, classifier)
    assert [one.voxels for one in sizes] == torch.bincount(plain.flatten(), minlength=3).tolist()


def test_a_map_is_undefined_outside_of_the_window() -> None:
    classifier = segmenter(Brightness())
    classifier.windows = SlidingWindow((8, 8, 8))
    image = blob()
    case = prepare(image, classifier, "region:tumour")
    assert case.input.shape == (1, 8, 8, 8)
    assert case.seen_share < 1
    seen = case.field_of_view.seen(SHAPE)
    assert seen[image.numpy()[0] > 0].all()
    assert seen.sum() == 8**3
    found = explain(case, select_methods(["gradient"]))[0]
    assert not found.values[~seen].any()
    assert found.provenance["field_of_view"]["shape"] == [8, 8, 8]
    # The window's voxels are the image's own: same place, same value.
    back = classifier.restore(case.input[0], case.input, image)
    np.testing.assert_allclose(back[seen], image.numpy()[0][seen], atol=1e-5)


def test_a_region_that_is_larger_than_the_window_gets_a_larger_one() -> None:
    classifier = segmenter(Brightness())
    classifier.windows = SlidingWindow((4, 4, 2))
    case = prepare(blob(), classifier, "region:tumour")
    assert case.window is not None
    assert case.window.enlarged
    assert case.input.shape == (1, 4, 4, 6)
    assert any("larger than its usual window" in note for note in case.notes)


def test_a_window_lies_in_the_input_and_is_continued_as_in_the_prediction() -> None:
    mask = np.zeros((10, 6), bool)
    mask[0, 5] = True
    window = window_around(mask, SlidingWindow((4, 8)))
    assert window.start == (0, -1)
    assert window.size == (4, 8)
    values = torch.arange(60.0).reshape(1, 10, 6)
    found = window.cropped(values)
    assert torch.equal(found[0, :, 1:7], values[0, :4])
    assert not found[0, :, 0].any()
    assert int(window.mask(mask).sum()) == 1
    assert bool(window.mask(mask)[0, 6])


def test_the_click_follows_a_point() -> None:
    found = se.probe(
        blob(),
        segmenter(Brightness()),
        at=world(ANISOTROPIC, (5, 7, 9)),
        radii_mm=6.0,
        target=f"point:{','.join(map(str, world(ANISOTROPIC, (5, 7, 9))))}",
    )
    tumour = found.classes.index("tumour")
    assert found.scores[tumour] > found.removals[0].scores[tumour]


def test_a_slice_of_a_volume_is_explained_in_its_own_place() -> None:
    affine = np.array([[0, 0, -3.0, 10], [1.2, 0, 0, 4], [0, -1.1, 0, 7], [0, 0, 0, 1]])
    values = np.random.default_rng(0).random((1, 40, 1, 52), dtype=np.float32)
    image = to_image(values, affine, name="slice")
    mask = np.zeros((40, 1, 52), bool)
    mask[10:13, 0, 20:23] = True
    segments = LoadedReferences(Segmentation((Segment("a", (1.0, 0, 0), mask),), affine, ()))
    network = nn.Conv2d(1, 2, 3, padding=1)
    classifier = se.Model(network, ["background", "mass"], activation="softmax", window=(16, 16))
    point = ",".join(map(str, world(affine, (11, 0, 21))))
    for target in ("region:mass@a", f"point:{point}@mass"):
        case = prepare(image, classifier, target, references=segments)
        found = gradient_of(case)
        # Three by three voxels, and one more around them.
        used = np.argwhere(found)
        assert used.min(axis=0).tolist() == [9, 0, 19]
        assert used.max(axis=0).tolist() == [13, 0, 23]
