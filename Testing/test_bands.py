from __future__ import annotations

import numpy as np
import pytest

from SaliencyExplain.bands import BANDS, label_bands

FOR = [band for band in BANDS if band.sign > 0]
AGAINST = [band for band in BANDS if band.sign < 0]


def test_there_are_the_same_shares_for_and_against():
    assert [band.share for band in FOR] == [0.01, 0.05, 0.10, 0.20]
    assert [band.share for band in AGAINST] == [band.share for band in FOR]
    assert sorted(band.label for band in BANDS) == list(range(1, 9))
    assert len({band.name for band in BANDS}) == len({band.color for band in BANDS}) == 8


def test_nested_bands_hold_their_share_of_the_voxels_of_their_sign():
    random = np.random.default_rng(0)
    values = random.permutation(np.arange(-1000, 3001)).reshape(1, 4001).astype(np.float32)
    labels = label_bands(values)
    assert labels.dtype == np.uint8
    for bands, count in ((FOR, 3000), (AGAINST, 1000)):
        for index, band in enumerate(bands):
            within = np.isin(labels, [inner.label for inner in bands[: index + 1]])
            assert within.sum() == band.share * count


def test_the_strongest_voxels_are_in_the_narrowest_band():
    values = np.linspace(-1, 1, 2001, dtype=np.float32)
    labels = label_bands(values)
    assert labels[-1] == FOR[0].label
    assert labels[0] == AGAINST[0].label
    assert labels[1000] == 0
    strengths = [np.abs(values[labels == band.label]).min() for band in FOR]
    assert strengths == sorted(strengths, reverse=True)


@pytest.mark.parametrize("value", [0.0, 2.5, -1.0])
def test_a_constant_map_has_no_band(value):
    assert not label_bands(np.full((4, 5, 6), value, np.float32)).any()


def test_ties_never_make_a_band_larger_than_its_share():
    values = np.zeros(1000, dtype=np.float32)
    values[:300] = 1.0
    values[300:303] = 2.0
    labels = label_bands(values)
    assert (labels == FOR[0].label).sum() == 3
    assert (labels > 0).sum() == 3


def test_a_map_of_one_sign_has_bands_of_that_sign_only():
    values = np.random.default_rng(0).random((10, 10, 10)).astype(np.float32)
    assert set(np.unique(label_bands(values))) == {0, 1, 2, 3, 4}
    assert set(np.unique(label_bands(-values))) == {0, 5, 6, 7, 8}
    both, mirrored = label_bands(values), label_bands(-values)
    np.testing.assert_array_equal(both, np.where(mirrored > 0, mirrored - 4, 0))
