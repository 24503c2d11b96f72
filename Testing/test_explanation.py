"""The waist: the target is fixed, the grid is the image's own, the provenance is whole."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import ResizeWithPadOrCropd
from torch import Tensor, nn

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.attribution.method_selection import select_methods
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.cost_estimate import Estimate
from SaliencyExplain.errors import Cancelled, ErrorCode
from SaliencyExplain.explanation.compute import Compute
from SaliencyExplain.explanation.explain import _fair_share, explain
from SaliencyExplain.explanation.loaded_references import LoadedReferences
from SaliencyExplain.explanation.method_costs import estimate
from SaliencyExplain.explanation.prediction import predict
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.images.reading import to_image
from SaliencyExplain.images.segmentation import Segment, Segmentation
from SaliencyExplain.results.attribution_map import Attribution
from SaliencyExplain.specification.spec import Limits
from Testing.comparing import assert_same
from Testing.corner_classifier import AFFINE, CornerBrightness, bright_image, corner_classifier
from Testing.expected_errors import error_with


def test_the_map_lies_on_the_images_grid_where_the_network_looks():
    image = bright_image()
    done = explain(prepare(image, corner_classifier()), select_methods(["gradient"]))
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
    classifier = corner_classifier()
    methods = select_methods(["gradient", "occlusion"], ["occlusion.window_mm=12"])
    first = explain(prepare(image, classifier, "corner"), methods)
    second = explain(prepare(flipped, classifier, "corner"), methods)
    for one, other in zip(first.attributions, second.attributions, strict=True):
        np.testing.assert_allclose(
            one.values[::-1], other.values, rtol=1e-4, atol=1e-6 * np.abs(one.values).max()
        )


def test_the_target_is_a_name_an_index_or_what_was_predicted():
    image = bright_image()
    classifier = corner_classifier()
    methods = select_methods(["gradient"])
    assert explain(prepare(image, classifier), methods).target == 1
    assert explain(prepare(image, classifier, "0"), methods).attributions[0].target_name == "other"
    assert explain(prepare(image, classifier, "Corner"), methods).target == 1
    with error_with(ErrorCode.NAME_UNKNOWN, "'cornr'", "'corner'"):
        explain(prepare(image, classifier, "cornr"), methods)


def test_provenance_and_timings_say_what_it_takes_to_do_it_again():
    image = bright_image()
    done = explain(prepare(image, corner_classifier()), select_methods(["gradient"]), seed=5)
    provenance = done.attributions[0].provenance
    assert provenance["seed"] == 5
    assert provenance["device"] == "cpu"
    assert provenance["versions"]["torch"] == torch.__version__
    assert len(provenance["image_sha256"]) == 64
    assert set(done.timings) == {"prepare", "predict", "gradient"}
    other = explain(prepare(bright_image(np.eye(4)), corner_classifier()), [])
    assert other.attributions == ()


def test_what_is_random_comes_from_the_seed_and_the_image_not_from_its_name():
    image = bright_image()
    renamed, changed = bright_image(), bright_image()
    renamed.meta["name"] = "another name"
    changed[0, 0, 0, 0] += 1

    def seed(given: MetaTensor, wanted: int) -> int:
        classifier = corner_classifier()
        return prepare(given, classifier, "corner", Compute("cpu")).task(wanted).seed

    assert seed(image, 5) == seed(renamed, 5)
    assert len({seed(image, 5), seed(image, 6), seed(changed, 5)}) == 3


def test_automatic_parameters_are_recorded_in_millimetres():
    done = explain(prepare(bright_image(), corner_classifier()), select_methods(["occlusion"]))
    # The longest side is 16 voxels of 3 mm; on the network's grid of 2 mm, 8 mm is nearest to
    # 6 mm among the windows of twice a whole stride.
    assert done.attributions[0].parameters["window_mm"] == pytest.approx(8.0)
    assert done.attributions[0].parameters["stride_mm"] == pytest.approx(4.0)
    assert done.attributions[0].resolution_mm == pytest.approx(8.0)


def test_progress_covers_all_methods_and_cancelling_ends_it():
    told: list[tuple[float, float]] = []
    announced: list[Estimate] = []
    methods = select_methods(["gradient", "smoothgrad"], ["smoothgrad.samples=4"])
    explain(
        prepare(bright_image(), corner_classifier()),
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
        explain(prepare(bright_image(), corner_classifier()), methods, progress=cancel)


def test_predict_gives_the_probabilities_of_the_network():
    image = bright_image()
    classifier = corner_classifier()
    score = classifier.network(classifier.prepare(image)[None].as_tensor())[0]
    np.testing.assert_allclose(
        predict(image, classifier, device="cpu").probabilities, score.softmax(0).numpy(), rtol=1e-6
    )


def test_a_network_that_overflows_is_refused():
    class Overflowing(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.mean(dim=(1, 2, 3, 4))[:, None].repeat(1, 2) * float("inf")

    with error_with(ErrorCode.MODEL_NOT_FINITE):
        explain(
            prepare(bright_image(), corner_classifier(Overflowing())), select_methods(["gradient"])
        )


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
    with error_with(ErrorCode.MAP_NOT_FINITE, "overflow"):
        explain(prepare(bright_image(), corner_classifier()), [Overflow()])


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "cuda:x"])
def test_a_device_that_is_not_there_is_named(device: str):
    with error_with(ErrorCode.DEVICE, device):
        explain(prepare(bright_image(), corner_classifier(), compute=Compute(device)), [])


class SlowCorner(CornerBrightness):
    """The same with a convolution before it, so that a pass takes a measurable time."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv3d(1, 8, 5, padding=2)

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(self.convolution(images).relu())


OCCLUSION = ["occlusion.window_mm=8", "occlusion.stride_mm=4"]


def test_a_growing_map_is_published_on_the_images_grid_and_changes_no_byte():
    image = bright_image()
    methods = select_methods(["occlusion", "gradcam"], OCCLUSION)
    seen: list[tuple[Attribution, float]] = []
    heard = explain(
        prepare(image, corner_classifier(SlowCorner())),
        methods,
        publish=lambda map_, share: seen.append((map_, share)),
    )
    silent = explain(prepare(image, corner_classifier(SlowCorner())), methods)
    for one, other in zip(heard.attributions, silent.attributions, strict=True):
        assert_same(one.values, other.values)
        assert one.provenance == other.provenance
    shares = [share for map_, share in seen if map_.method == "occlusion"]
    assert shares == sorted(set(shares))
    assert len(shares) > 1
    assert shares[-1] == 1
    assert [map_.share_done for map_, _ in seen] == [share for _, share in seen]
    assert all(map_.values.shape == (20, 24, 16) for map_, _ in seen)
    first, last = seen[0][0], heard.attributions[0]
    assert np.corrcoef(first.values.ravel(), last.values.ravel())[0, 1] > 0.5
    # A finished map is handed out once, as it is in the result.
    assert [map_.method for map_, share in seen if share == 1] == ["occlusion", "gradcam"]
    assert seen[-1][0] is heard.attributions[1]


def test_without_any_time_each_method_still_gives_a_map_and_says_how_far_it_is():
    methods = select_methods(["occlusion", "gradient", "smoothgrad"], OCCLUSION)
    done = explain(
        prepare(
            bright_image(),
            corner_classifier(SlowCorner()),
            compute=Compute(limits=Limits(seconds=0.0)),
        ),
        methods,
    )
    occlusion, gradient, smoothgrad = done.attributions
    assert 0 < occlusion.share_done < 0.2
    assert occlusion.provenance["share_done"] == pytest.approx(occlusion.share_done, abs=1e-4)
    assert occlusion.provenance["budget_seconds"] == 0.0
    # Only the right, anterior, superior octant matters: the first axis runs to the left.
    assert occlusion.values[:8, 14:, 10:].mean() > 10 * np.abs(occlusion.values[12:]).mean()
    assert gradient.share_done == 1
    assert "share_done" not in gradient.provenance
    assert smoothgrad.share_done == pytest.approx(1 / 25)
    before, first, second, after = done.notes
    assert "gradient" in before
    assert "occlusion" not in before
    assert [note.split(":")[0] for note in (first, second)] == ["occlusion", "smoothgrad"]
    assert "4 % of the noisy copies" in second
    # Nothing is said to be within a budget that was exceeded.
    took = float(after.removeprefix("It took ").split(" s")[0])
    assert took > 0
    assert not any("within" in note for note in done.notes)


def test_a_budget_counts_the_time_that_preparation_took():
    case = prepare(
        bright_image(),
        corner_classifier(SlowCorner()),
        compute=Compute(limits=Limits(seconds=600.0)),
    )
    late = dataclasses.replace(case, prepare_seconds=601.0)
    methods = select_methods(["occlusion"], OCCLUSION)
    in_time, stopped = (explain(one, methods).attributions[0] for one in (case, late))
    assert in_time.share_done == 1
    assert stopped.share_done < 1


def test_what_a_budget_does_not_stop_is_named_before_it_starts():
    methods = select_methods(["occlusion", "guided-ig"], OCCLUSION)
    announced: list[Estimate] = []
    done = explain(
        prepare(
            bright_image(),
            corner_classifier(SlowCorner()),
            compute=Compute(limits=Limits(seconds=0.05)),
        ),
        methods,
        announce=announced.append,
    )
    (total,) = announced
    assert [name for name, _ in total.unstoppable] == ["guided-ig"]
    seconds = total.unstoppable[0][1]
    assert "guided-ig" in total.not_stopped(0.05)
    assert total.not_stopped(0.05) in done.notes
    # The growing method gets what is left of the budget, and the other one all that it needs.
    assert total.seconds_within(0.0) == pytest.approx(seconds)
    assert total.seconds_within(seconds + 0.5) == pytest.approx(
        min(total.seconds, seconds + 0.5), rel=1e-6
    )
    assert total.seconds_within(1e9) == pytest.approx(total.seconds)
    within = total.within(0.05)
    assert within.notes == (total.not_stopped(0.05),)
    assert (within.seconds, within.forward_passes) == (
        total.seconds_within(0.05),
        total.forward_passes,
    )
    assert total.within(None) == total
    assert done.attributions[1].share_done == 1


def test_a_map_says_threads_and_versions_of_what_read_and_computed_it():
    map_ = explain(
        prepare(bright_image(), corner_classifier()), select_methods(["gradient"])
    ).attributions[0]
    assert map_.provenance["threads"] == torch.get_num_threads()
    wanted = {"SimpleITK", "nibabel", "scipy", "scikit-image", "torch", "monai", "numpy"}
    assert set(map_.provenance["versions"]) > wanted


def test_a_budget_that_suffices_leaves_no_trace():
    image, methods = bright_image(), select_methods(["occlusion"], ["occlusion.window_mm=12"])
    free = explain(prepare(image, corner_classifier()), methods)
    bound = explain(
        prepare(image, corner_classifier(), compute=Compute(limits=Limits(seconds=600))), methods
    )
    assert_same(bound.attributions[0].values, free.attributions[0].values)
    assert bound.attributions[0].provenance == free.attributions[0].provenance
    assert bound.attributions[0].share_done == 1
    assert bound.notes == ()


def test_the_time_is_shared_and_what_one_method_does_not_need_goes_to_the_others():
    assert _fair_share(20.0, []) == 20.0
    assert _fair_share(20.0, [100.0]) == 10.0
    assert _fair_share(20.0, [5.0]) == 15.0
    assert _fair_share(20.0, [2.0, 100.0]) == 9.0
    assert _fair_share(-1.0, [2.0]) <= 0


def test_cancelling_out_of_publish_ends_it():
    def cancel(map_: Attribution, share: float) -> None:
        raise Cancelled

    methods = select_methods(["occlusion"], OCCLUSION)
    with pytest.raises(Cancelled):
        explain(prepare(bright_image(), corner_classifier(SlowCorner())), methods, publish=cancel)


def test_the_estimate_is_what_explain_announces():
    image, classifier = bright_image(), corner_classifier()
    methods = select_methods(["occlusion", "smoothgrad"], ["occlusion.window_mm=12"])
    announced: list[Estimate] = []
    explain(prepare(image, classifier), methods, announce=announced.append)
    found = estimate(prepare(image, classifier, "corner", compute=Compute("cpu")), methods)
    assert found.forward_passes == announced[0].forward_passes
    assert found.seconds > 0
    with error_with(ErrorCode.NAME_UNKNOWN, "'nobody'"):
        estimate(prepare(image, classifier, "nobody"), methods)


def test_an_image_that_is_nearly_all_padding_is_explained_with_a_note():
    keys = ["image"]
    padded = dataclasses.replace(
        corner_classifier(), preprocessing=ResizeWithPadOrCropd(keys, (60, 60, 60))
    )
    small = explain(prepare(bright_image(), padded), [])
    share = 20 * 24 * 16 / 60**3
    assert f"Only {100 * share:.0f} % of the network's input" in small.notes[0]
    enough = dataclasses.replace(padded, preprocessing=ResizeWithPadOrCropd(keys, (30, 30, 30)))
    assert explain(prepare(bright_image(), enough), []).notes == ()


@dataclass(frozen=True)
class Witness(Method):
    """Tells what it was given: the map is the regions, the figures are all else."""

    name: ClassVar[str] = "witness"
    title: ClassVar[str] = "Witness"
    source: ClassVar[str] = "none"
    signed: ClassVar[bool] = False

    def attribute(self, task: Task) -> dict[str, Tensor]:
        assert task.regions is not None
        assert task.backgrounds is not None
        task.record({"names": list(task.region_names), "memory": task.memory_bytes})
        task.record({"background": float(task.backgrounds.mean())})
        return {"": task.regions.float()}

    def forward_passes(self, task: Task) -> float:
        return 0.0


def test_methods_get_regions_and_backgrounds_on_the_networks_grid_and_their_figures_are_kept():
    image = bright_image()
    tumour = np.zeros((20, 24, 16), dtype=bool)
    tumour[4:12, 8:20, 4:12] = True
    segment = Segment("tumour", (1.0, 0.0, 0.0), tumour)
    background = to_image(
        np.full((1, 20, 24, 16), 3.0, np.float32) + image.numpy(), AFFINE, name="higher"
    )
    done = explain(
        prepare(
            image,
            corner_classifier(),
            compute=Compute("cpu", Limits(memory=1e9)),
            references=LoadedReferences(Segmentation((segment,), AFFINE, ()), (background,)),
        ),
        [Witness()],
    )
    (found,) = done.attributions
    # There and back: a voxel of the border may be shared, none in the middle or far away.
    assert (found.values[5:11, 9:19, 5:11] == 1).all()
    assert not found.values[:3].any()
    assert not found.values[13:].any()
    figures = found.provenance["figures"]
    assert figures["names"] == ["tumour"]
    assert figures["memory"] == 1e9
    assert figures["background"] == pytest.approx(3.0 + float(image.mean()), abs=0.05)


def test_a_background_of_another_size_is_named():
    small = to_image(
        np.random.default_rng(0).random((1, 9, 9, 9), np.float32), AFFINE, name="b.nii"
    )
    with error_with(ErrorCode.BACKGROUNDS, "b.nii", "(9, 7, 13)"):
        explain(
            prepare(
                bright_image(),
                corner_classifier(),
                references=LoadedReferences(backgrounds=(small,)),
            ),
            [Witness()],
        )
