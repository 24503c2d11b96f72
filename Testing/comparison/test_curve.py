"""The curve says what a reader takes from it: the strongest q of the image hold so much."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose
from sklearn.metrics import auc, roc_auc_score, roc_curve

from SaliencyExplain.comparison.curve import STEPS, curve, curves
from SaliencyExplain.errors import ErrorCode
from SaliencyExplain.results.agreement_curve import AgreementCurve
from Testing.expected_errors import error_with


def at(found: AgreementCurve, share: float) -> float:
    return float(np.interp(share, found.share_of_image, found.share_of_segment))


def area(found: AgreementCurve) -> float:
    return float(auc(found.share_of_image, found.share_of_segment))


def box(shape: tuple[int, ...], side: int) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(2, 2 + side) for _ in shape)] = True
    return mask


def test_map_that_is_the_segment_reaches_all_of_it_at_its_share():
    mask = box((10, 10, 10), 5)
    found = curve(mask.astype(np.float32), mask)
    assert_allclose(found.share_of_image, [0, 0.125, 1])
    assert_allclose(found.share_of_segment, [0, 1, 1])


def test_reversed_map_reaches_nothing_before_all_else_is_taken():
    mask = box((10, 10), 2)
    found = curve(-mask.astype(np.float32), mask)
    assert_allclose(found.share_of_image, [0, 0.96, 1])
    assert_allclose(found.share_of_segment, [0, 0, 1])


@pytest.mark.parametrize("value", [0.0, -3.0, 0.7])
def test_constant_map_is_the_diagonal(value):
    found = curve(np.full((6, 7, 8), value, np.float32), box((6, 7, 8), 3))
    assert_allclose(found.share_of_image, [0, 1])
    assert_allclose(found.share_of_segment, [0, 1])


def test_random_map_keeps_to_the_diagonal():
    values = np.random.default_rng(0).normal(size=(60, 60, 60)).astype(np.float32)
    found = curve(values, box((60, 60, 60), 30))
    assert np.abs(np.subtract(found.share_of_segment, found.share_of_image)).max() < 0.02


def test_voxels_of_equal_value_are_taken_alike():
    values = np.array([[9, 5, 5, 5, 5, 1, 1, 1, 1, 1]], np.float32)
    mask = np.array([[1, 1, 0, 0, 0, 1, 0, 0, 0, 0]], bool)
    found = curve(values, mask)
    # The one at 9; then four tied with one of the segment among them; then five with one.
    assert_allclose(found.share_of_image, [0, 0.1, 0.5, 1])
    assert_allclose(found.share_of_segment, [0, 1 / 3, 2 / 3, 1])
    assert at(found, 0.3) == pytest.approx(0.5)


def test_sign_counts_as_it_does_for_auroc():
    values = np.array([[-9, -1, 0, 2]], np.float32)
    against = curve(values, np.array([[1, 0, 0, 0]], bool))
    assert at(against, 0.75) == 0
    neutral = curve(values, np.array([[0, 0, 1, 0]], bool))
    assert at(neutral, 0.25) == 0
    assert at(neutral, 0.5) == 1


def test_few_voxels_of_a_large_image_are_resolved():
    mask = box((80, 80, 80), 4)
    values = np.random.default_rng(1).random(mask.shape).astype(np.float32)
    values[mask] += 1
    found = curve(values, mask)
    assert len(found.share_of_image) <= 2 * STEPS + 1
    assert at(found, mask.mean()) == pytest.approx(1)
    assert at(found, mask.mean() / 2) == pytest.approx(0.5, abs=1e-9)


def test_every_point_is_what_sorting_the_voxels_gives():
    random = np.random.default_rng(2)
    mask = box((30, 30, 30), 12)
    values = np.round(random.normal(size=mask.shape) + 0.4 * mask, 2).astype(np.float32)
    found = curve(values, mask)
    # The curve is the ROC curve with all voxels instead of those outside along its first axis.
    false_positive, true_positive, _ = roc_curve(mask.ravel(), values.ravel())
    share = mask.mean()
    image = share * true_positive + (1 - share) * false_positive
    assert_allclose(
        found.share_of_segment, np.interp(found.share_of_image, image, true_positive), atol=1e-12
    )
    assert (found.share_of_image[0], found.share_of_image[-1]) == (0, 1)
    assert np.diff(found.share_of_image).min() >= 0
    assert np.diff(found.share_of_segment).min() >= -1e-12


@given(
    values=arrays(np.float32, (4, 6), elements=st.integers(-3, 3).map(float)),
    mask=arrays(np.bool_, (4, 6)).filter(lambda mask: mask.any() and not mask.all()),
)
def test_area_is_that_of_auroc_with_the_segment_counted_in(values, mask):
    share = mask.mean()
    auroc = roc_auc_score(mask.ravel(), values.ravel())
    assert area(curve(values, mask)) == pytest.approx(share / 2 + (1 - share) * auroc)


def test_several_segments_are_answered_as_each_alone():
    values = np.random.default_rng(4).random((20, 20, 20)).astype(np.float32)
    masks = [box(values.shape, 3), box(values.shape, 9)]
    for found, mask in zip(curves(values, masks), masks, strict=True):
        assert_allclose(found.share_of_segment, curve(values, mask).share_of_segment)


def test_segment_everywhere_is_the_diagonal_and_an_empty_one_has_no_curve():
    values = np.random.default_rng(5).random((5, 5)).astype(np.float32)
    everywhere = curve(values, np.ones_like(values, bool))
    assert_allclose(everywhere.share_of_segment, everywhere.share_of_image)
    assert curve(values, np.zeros_like(values, bool)).share_of_image == ()


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_map_that_cannot_be_ranked_is_refused(broken):
    values = np.zeros((3, 3), np.float32)
    values[1, 1] = broken
    with error_with(ErrorCode.MAP_NOT_FINITE, "1 voxel"):
        curve(values, values == 0)
    with error_with(ErrorCode.GRID_MISMATCH, "3×3", "3×4"):
        curve(np.zeros((3, 3)), np.zeros((3, 4), bool))
