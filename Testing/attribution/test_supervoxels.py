from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch
from scipy import ndimage

from SaliencyExplain.attribution.perturbation import region_grid
from SaliencyExplain.attribution.perturbation import supervoxels as segmenters
from SaliencyExplain.attribution.perturbation.even_background import even_background
from SaliencyExplain.attribution.perturbation.supervoxels import (
    KINDS,
    seconds_to_find,
    size_for,
    supervoxels,
)
from SaliencyExplain.errors import ErrorCode
from Testing.expected_errors import error_with


def head(shape, spacing, *, channels=1, noise=0.0):
    """A disk or ball of 1 with a half of it at 2, in air of 0."""
    axes = [(np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(shape, spacing, strict=True)]
    place = np.meshgrid(*axes, indexing="ij")
    radius = 0.4 * min(n * mm for n, mm in zip(shape, spacing, strict=True))
    inside = sum(p**2 for p in place) < radius**2
    values = inside * (1.0 + (place[0] > 0))
    random = np.random.default_rng(0)
    stacked = np.stack([values + noise * np.abs(random.standard_normal(shape))] * channels)
    return torch.from_numpy(stacked.astype(np.float32)), inside


def sizes(labels):
    return np.bincount(labels.numpy().ravel())[1:]


@pytest.mark.parametrize(
    ("kind", "shape", "spacing"),
    [
        *((kind, (70, 64), (1.0, 1.0)) for kind in KINDS),
        ("slic", (70, 32), (1.0, 2.0)),
        ("slic", (32, 28, 30), (2.0, 2.0, 2.0)),
        ("slic", (32, 28, 12), (2.0, 2.0, 5.0)),
    ],
)
def test_regions_cover_all_are_connected_and_come_from_one_up(kind, shape, spacing):
    image, _ = head(shape, spacing, noise=0.05)
    labels = supervoxels(image, spacing, kind=kind, size_mm=10.0)
    assert labels.shape == shape
    assert labels.dtype == torch.int64
    assert (sizes(labels) > 0).all()
    assert int(labels.min()) == 1
    for number in range(2, int(labels.max()) + 1):
        assert ndimage.label(labels.numpy() == number)[1] == 1
    again = supervoxels(image.clone(), spacing, kind=kind, size_mm=10.0)
    assert torch.equal(labels, again)


def test_regions_are_as_long_along_a_coarse_axis_in_millimetres():
    torch.manual_seed(0)
    image = torch.randn(1, 48, 48, 12)
    labels = supervoxels(image, (1.0, 1.0, 4.0), size_mm=12.0).numpy()
    extents = np.array(
        [
            [(along.stop - along.start) * mm for along, mm in zip(box, (1, 1, 4), strict=True)]
            for box in ndimage.find_objects(labels)
        ]
    ).mean(axis=0)
    # scikit-image's SLIC seeded in voxels would give pillars four times as long as wide.
    assert extents.max() / extents.min() < 1.3, extents
    volume = math.prod((48, 48, 48)) / labels.max()
    assert volume ** (1 / 3) == pytest.approx(12, rel=0.15)


def test_no_region_crosses_a_strong_edge():
    image, inside = head((40, 40, 40), (1.0, 1.0, 1.0))
    labels = supervoxels(image, (1.0, 1.0, 1.0), size_mm=8.0).numpy()
    values = image[0].numpy()
    mixed = 0
    for number in range(1, labels.max() + 1):
        found = values[labels == number]
        mixed += min((found == v).sum() for v in np.unique(found)) if np.ptp(found) else 0
    assert mixed / inside.sum() < 0.06


@pytest.mark.parametrize("noise", [0.0, 0.01])
@pytest.mark.parametrize(
    ("shape", "spacing"), [((60, 50), (1.0, 1.0)), ((30, 26, 28), (2.0, 2.0, 2.0))]
)
def test_air_is_one_region_and_the_rest_is_divided(shape, spacing, noise):
    image, inside = head(shape, spacing, noise=noise)
    found = even_background(image)
    assert (found != ~inside).mean() < 0.01
    labels = supervoxels(image, spacing, size_mm=10.0).numpy()
    assert (labels[found] == 1).mean() > 0.99
    volume = inside.sum() * math.prod(spacing)
    expected = volume / 10.0 ** len(shape)
    assert 0.6 * expected < labels.max() - 1 < 1.7 * expected


def test_an_image_without_air_and_a_constant_one_have_no_background():
    torch.manual_seed(0)
    assert not even_background(torch.randn(1, 30, 30)).any()
    assert not even_background(torch.full((2, 12, 12, 12), 3.0)).any()
    labels = supervoxels(torch.full((1, 40, 40), 3.0), (1.0, 1.0), size_mm=10.0)
    assert len(sizes(labels)) == 16
    assert sizes(labels).min() > 80


def test_a_hole_of_the_same_value_as_air_is_no_background():
    image, _ = head((60, 60), (1.0, 1.0))
    image[0, 25:35, 25:35] = 0
    assert not even_background(image)[25:35, 25:35].any()


def test_an_edge_in_any_channel_counts_whatever_its_units():
    torch.manual_seed(0)
    image = 0.01 * torch.randn(3, 40, 40)
    image[2] *= 1e-4
    image[2, :, 17:] += 1e-3
    image[0] *= 500
    labels = supervoxels(image, (1.0, 1.0), size_mm=10.0, compactness=0.05).numpy()
    left, right = set(np.unique(labels[:, :17])), set(np.unique(labels[:, 17:]))
    assert len(left & right) <= 2


def test_three_channels_are_no_colours_and_order_does_not_matter():
    image = torch.stack([head((50, 50), (1.0, 1.0), noise=0.1)[0][0] * s for s in (1, 7, 0.1)])
    labels = supervoxels(image, (1.0, 1.0), size_mm=8.0)
    assert torch.equal(labels, supervoxels(image.flip(0), (1.0, 1.0), size_mm=8.0))


@pytest.mark.parametrize("count", [20, 100])
def test_the_size_for_a_count_gives_about_that_many(count):
    image, _ = head((40, 44, 40), (2.0, 2.0, 2.0), noise=0.005)
    size = size_for(image, (2.0, 2.0, 2.0), count)
    labels = supervoxels(image, (2.0, 2.0, 2.0), size_mm=size)
    assert 0.6 * count < int(labels.max()) - 1 < 1.6 * count


def test_a_large_image_is_divided_on_a_coarser_grid(monkeypatch):
    image, _ = head((48, 48, 48), (1.0, 1.0, 1.0))
    fine = supervoxels(image, (1.0, 1.0, 1.0), size_mm=12.0)
    monkeypatch.setattr(region_grid, "MOST_VOXELS", 20_000)
    coarse = supervoxels(image, (1.0, 1.0, 1.0), size_mm=12.0)
    assert coarse.shape == fine.shape
    assert 0.6 < int(coarse.max()) / int(fine.max()) < 1.6


@pytest.mark.parametrize(
    ("kind", "shape", "spacing", "size_mm"),
    [
        ("slic", (40, 36, 30), (1.0, 1.0, 1.0), 10.0),
        ("slic", (40, 36, 6), (1.0, 1.0, 5.0), 10.0),  # five cells for each voxel
        ("slic", (40, 36, 6), (1.0, 1.0, 5.0), 8.0),
        ("slic", (64, 64, 64), (1.0, 1.0, 1.0), 20.0),  # on a coarser grid
        ("felzenszwalb", (90, 80), (1.0, 1.0), 10.0),
        ("quickshift", (90, 80), (1.0, 1.0), 40.0),  # on a coarser grid
    ],
)
def test_the_time_that_is_said_is_that_of_the_cells_that_are_divided(
    kind, shape, spacing, size_mm, monkeypatch
):
    monkeypatch.setattr(region_grid, "MOST_VOXELS", 100_000)
    divided, divide = [], segmenters._SEGMENTERS[kind]

    def watched(values, *settings):
        divided.append(values[0].numel())
        return divide(values, *settings)

    monkeypatch.setitem(segmenters._SEGMENTERS, kind, watched)
    torch.manual_seed(0)
    supervoxels(torch.rand(1, *shape), spacing, kind=kind, size_mm=size_mm)
    one = seconds_to_find((10,) * len(shape), (1.0,) * len(shape), kind, cell_mm=1.0)
    said = seconds_to_find(shape, spacing, kind, size_mm=size_mm)
    assert said / one == pytest.approx(divided[0] / 10 ** len(shape))


@pytest.mark.parametrize("kind", ["felzenszwalb", "quickshift"])
def test_kinds_for_two_dimensions_are_refused_in_three(kind):
    with error_with(ErrorCode.REGIONS, kind, "slic"):
        supervoxels(torch.randn(1, 8, 8, 8), (1.0, 1.0, 1.0), kind=kind, size_mm=4.0)


def test_bad_input_is_refused():
    image = torch.randn(1, 8, 8)
    with error_with(ErrorCode.NAME_UNKNOWN, "'slics'", "'slic'"):
        supervoxels(image, (1.0, 1.0), kind="slics", size_mm=4.0)
    with error_with(ErrorCode.REGIONS, "0.5 mm", "1 mm"):
        supervoxels(image, (1.0, 2.0), size_mm=0.5)
    image[0, 3, 3] = torch.nan
    with error_with(ErrorCode.REGIONS):
        supervoxels(image, (1.0, 1.0), size_mm=4.0)


def test_without_scikit_image_it_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "skimage"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "skimage", None)
    with error_with(ErrorCode.PACKAGE_MISSING, "scikit-image"):
        supervoxels(torch.randn(1, 8, 8), (1.0, 1.0), size_mm=4.0)
