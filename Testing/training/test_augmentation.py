"""Chance changes images as its words say, and never otherwise."""

from __future__ import annotations

import pytest
import torch

from SaliencyExplain.errors import ErrorCode
from SaliencyExplain.training.augmentation import WORDS, Augmentation, check_words
from Testing.expected_errors import error_with


def smooth(dims: int) -> torch.Tensor:
    """A batch of blobs, brighter on one side."""
    grid = torch.meshgrid(*[torch.linspace(-1, 1, 20)] * dims, indexing="ij")
    blob = torch.exp(-4 * sum(axis**2 for axis in grid)) * (1.2 - grid[3 - dims])
    return blob.expand(16, 1, *blob.shape).clone()


@pytest.mark.slow
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("word", WORDS)
def test_each_word_changes_images_and_the_same_seed_changes_them_alike(word, dims):
    images = smooth(dims)
    change = Augmentation([word], dims, float(images.std()))
    change.seed(5)
    first = change(images)
    assert first.shape == images.shape
    assert not torch.equal(first, images)
    # Changed, but still of the kind: no image turns into another one.
    assert (first - images).abs().mean() < 0.2 * images.abs().max()
    change.seed(5)
    assert torch.equal(change(images), first)
    change.seed(6)
    assert not torch.equal(change(images), first)


def test_no_word_leaves_the_images_as_they_are():
    images = smooth(2)
    assert torch.equal(Augmentation([], 2, 1.0)(images), images)


@pytest.mark.parametrize("dims", [2, 3])
def test_mirroring_swaps_left_and_right_only(dims):
    images = torch.rand(64, 1, *(5, 6, 7)[:dims])
    change = Augmentation(["mirror"], dims, 1.0)
    change.seed(0)
    changed = change(images)
    # The first axis of a volume (RAS), the second of a slice (PL).
    mirrored = images.flip(2 if dims == 3 else 3)
    same = (changed == images).flatten(1).all(1)
    swapped = (changed == mirrored).flatten(1).all(1)
    assert (same | swapped).all()
    assert 20 < int(swapped.sum()) < 44


def test_noise_is_a_share_of_the_images_own_deviation():
    images = torch.zeros(200, 1, 30, 30)
    change = Augmentation(["noise"], 2, 40.0)
    change.seed(0)
    deviations = change(images).flatten(1).std(1)
    assert deviations.max() < 4.2
    assert deviations.max() > 3.0


def test_an_unknown_word_is_refused_with_the_nearest():
    with error_with(ErrorCode.NAME_UNKNOWN, "'rotat'", "'rotate'"):
        check_words(["rotat"])
