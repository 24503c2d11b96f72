"""The waist: the target is fixed, the grid is the image's own, the provenance is whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Orientationd, Spacingd
from torch import Tensor, nn

from SaliencyExplain.attribution.method import Method, Task
from SaliencyExplain.attribution.network import ScoreNetwork
from SaliencyExplain.attribution.selection import select_methods
from SaliencyExplain.classifiers.classifier import Classifier
from SaliencyExplain.errors import Cancelled, ClassifierError, InputError
from SaliencyExplain.explanation import Estimate, explain, predict
from SaliencyExplain.images.reading import to_image

AFFINE = np.array(
    [[-2.0, 0.0, 0.0, 30.0], [0.0, 1.5, 0.0, -20.0], [0.0, 0.0, 3.0, 5.0], [0.0, 0.0, 0.0, 1.0]]
)


class CornerBrightness(nn.Module):
    """Class 1 speaks for intensity in the right, anterior, superior octant (RAS)."""

    def forward(self, images: Tensor) -> Tensor:
        half = [size // 2 for size in images.shape[2:]]
        octant = images[:, :, half[0] :, half[1] :, half[2] :].mean(dim=(1, 2, 3, 4))
        return torch.stack([torch.zeros_like(octant), octant], dim=1)


def classifier_of(network: nn.Module, spacing: float = 2.0) -> Classifier:
    keys = ["image"]
    return Classifier(
        name="corner",
        classes=("other", "corner"),
        channels=("t1",),
        spatial_dims=3,
        network=ScoreNetwork(network.eval()),
        preprocessing=Compose(
            [
                Orientationd(keys, axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S"))),
                Spacingd(keys, pixdim=(spacing,) * 3, mode="bilinear"),
            ]
        ),
        identity="0" * 64,
        source=Path("corner"),
    )


def bright_image(affine: np.ndarray = AFFINE) -> MetaTensor:
    values = np.random.default_rng(3).random((1, 20, 24, 16), dtype=np.float32)
    return to_image(values, affine, name="bright")


def test_the_map_lies_on_the_images_grid_where_the_network_looks():
    image = bright_image()
    done = explain(image, classifier_of(CornerBrightness()), select_methods(["gradient"]))
    values = done.attributions[0].values
    assert values.shape == (20, 24, 16)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(done.attributions[0].affine, AFFINE)
    # The first axis of this image runs to the left: its right half has low indices.
    looked_at = np.zeros(values.shape, bool)
    looked_at[:10, 12:, 8:] = True
    assert values[:8, 14:, 10:].min() > 0
    assert np.abs(values[12:]).max() == 0
    assert values[looked_at].sum() / values.sum() > 0.9


def test_a_flipped_copy_has_the_flipped_attribution():
    image = bright_image()
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    flip[0, 3] = image.shape[1] - 1
    flipped = to_image(np.ascontiguousarray(image.numpy()[:, ::-1]), AFFINE @ flip, name="flipped")
    classifier = classifier_of(CornerBrightness())
    methods = select_methods(["gradient", "occlusion"], ["occlusion.window_mm=12"])
    first = explain(image, classifier, methods, target="corner")
    second = explain(flipped, classifier, methods, target="corner")
    for one, other in zip(first.attributions, second.attributions, strict=True):
        np.testing.assert_allclose(
            one.values[::-1], other.values, rtol=1e-4, atol=1e-6 * np.abs(one.values).max()
        )


def test_the_target_is_a_name_an_index_or_what_was_predicted():
    image = bright_image()
    classifier = classifier_of(CornerBrightness())
    methods = select_methods(["gradient"])
    assert explain(image, classifier, methods).target == 1
    assert explain(image, classifier, methods, target="0").attributions[0].target_name == "other"
    assert explain(image, classifier, methods, target="Corner").target == 1
    with pytest.raises(InputError, match="Did you mean 'corner'"):
        explain(image, classifier, methods, target="cornr")


def test_provenance_and_timings_say_what_it_takes_to_do_it_again():
    image = bright_image()
    done = explain(image, classifier_of(CornerBrightness()), select_methods(["gradient"]), seed=5)
    provenance = done.attributions[0].provenance
    assert provenance["seed"] == 5
    assert provenance["device"] == "cpu"
    assert provenance["versions"]["torch"] == torch.__version__
    assert len(provenance["image_sha256"]) == 64
    assert set(done.timings) == {"prepare", "predict", "gradient"}
    other = explain(bright_image(np.eye(4)), classifier_of(CornerBrightness()), [])
    assert other.attributions == ()


def test_automatic_parameters_are_recorded_in_millimetres():
    done = explain(bright_image(), classifier_of(CornerBrightness()), select_methods(["occlusion"]))
    # The longest side is 16 voxels of 3 mm; the network's grid has 2 mm.
    assert done.attributions[0].parameters["window_mm"] == pytest.approx(6.0, abs=0.3)
    assert done.attributions[0].parameters["stride_mm"] == pytest.approx(3.0, abs=0.15)


def test_progress_covers_all_methods_and_cancelling_ends_it():
    told: list[tuple[float, float]] = []
    announced: list[Estimate] = []
    methods = select_methods(["gradient", "smoothgrad"], ["smoothgrad.samples=4"])
    explain(
        bright_image(),
        classifier_of(CornerBrightness()),
        methods,
        progress=lambda done, total: told.append((done, total)),
        announce=announced.append,
    )
    assert len({total for _, total in told}) == 1
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1][0] == pytest.approx(told[-1][1])
    assert announced[0].forward_passes == pytest.approx(told[-1][1])

    def cancel(done: float, total: float) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        explain(bright_image(), classifier_of(CornerBrightness()), methods, progress=cancel)


def test_predict_gives_the_probabilities_of_the_network():
    image = bright_image()
    classifier = classifier_of(CornerBrightness())
    score = classifier.network(classifier.prepare(image)[None].as_tensor())[0]
    np.testing.assert_allclose(
        predict(image, classifier, device="cpu"), score.softmax(0).numpy(), rtol=1e-6
    )


def test_a_network_that_overflows_is_refused():
    class Overflowing(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.mean(dim=(1, 2, 3, 4))[:, None].repeat(1, 2) * float("inf")

    with pytest.raises(ClassifierError, match="not finite"):
        explain(bright_image(), classifier_of(Overflowing()), select_methods(["gradient"]))


@dataclass(frozen=True)
class Overflow(Method):
    name: ClassVar[str] = "overflow"
    title: ClassVar[str] = "Overflow"
    source: ClassVar[str] = "none"
    signed: ClassVar[bool] = False

    def attribute(self, task: Task) -> dict[str, Tensor]:
        return {"": task.input[0, 0] * float("nan")}

    def forward_passes(self, task: Task) -> float:
        return 1.0


def test_a_map_that_is_not_finite_is_never_handed_out():
    with pytest.raises(ClassifierError, match="not finite"):
        explain(bright_image(), classifier_of(CornerBrightness()), [Overflow()])


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "cuda:x"])
def test_a_device_that_is_not_there_is_named(device: str):
    with pytest.raises(InputError, match=device):
        explain(bright_image(), classifier_of(CornerBrightness()), [], device=device)
