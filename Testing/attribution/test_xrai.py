from __future__ import annotations

import numpy as np
import pytest
import saliency.core as pair
import torch
from torch import nn

from SaliencyExplain.attribution.methods import xrai
from SaliencyExplain.attribution.methods.xrai import XRAI, FastXRAI
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.attribution.perturbation import supervoxels
from SaliencyExplain.attribution.perturbation.region_ranking import (
    ranked,
    ranked_fast,
    widened_regions,
)
from SaliencyExplain.errors import Cancelled, ErrorCode
from Testing.builders import observe
from Testing.expected_errors import error_with


def label_maps(shape, random):
    """Three divisions of an image into blocks of random edges, coarse to fine."""
    maps = []
    for cuts in (1, 3, 5):
        labels = np.zeros(shape, dtype=np.int64)
        for axis, size in enumerate(shape):
            edges = np.sort(random.choice(np.arange(1, size), cuts, replace=False))
            along = np.searchsorted(edges, np.arange(size), side="right")
            labels = labels * (cuts + 1) + along.reshape(
                [-1 if a == axis else 1 for a in range(len(shape))]
            )
        maps.append(labels + 1)
    return maps


def masks_of(regions, shape):
    masks = []
    for region in regions:
        mask = np.zeros(shape, dtype=bool)
        mask[region.box] = region.mask
        masks.append(mask)
    return masks


@pytest.mark.parametrize("algorithm", ["full", "fast"])
@pytest.mark.parametrize(("seed", "least"), [(0, 1), (1, 8), (2, 30)])
def test_the_ranking_equals_pairs_in_2d(seed, least, algorithm):
    random = np.random.default_rng(seed)
    shape = (41, 37)
    attribution = random.standard_normal(shape)
    regions = [
        r for labels in label_maps(shape, random) for r in widened_regions(labels, (1.0, 1.0), 2.0)
    ]
    settings = pair.XRAIParameters(algorithm=algorithm)
    settings.experimental_params["min_pixel_diff"] = least
    expected = pair.XRAI().GetMask(
        np.zeros(shape),
        None,
        base_attribution=attribution,
        segments=masks_of(regions, shape),
        extra_parameters=settings,
    )
    found = (ranked if algorithm == "full" else ranked_fast)(attribution, regions, least=least)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_a_share_of_the_image_is_ranked_as_in_pair():
    random = np.random.default_rng(3)
    shape = (41, 37)
    attribution = random.standard_normal(shape)
    regions = [
        r for labels in label_maps(shape, random) for r in widened_regions(labels, (1.0, 1.0), 0.0)
    ]
    settings = pair.XRAIParameters(area_threshold=0.3)
    settings.experimental_params["min_pixel_diff"] = 5
    expected = pair.XRAI().GetMask(
        np.zeros(shape),
        None,
        base_attribution=attribution,
        segments=masks_of(regions, shape),
        extra_parameters=settings,
    )
    found = ranked(attribution, regions, least=5, area=0.3)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    rest = found == found.min()
    assert 0.4 < rest.mean() < 0.7


def by_the_paper(attribution, masks, least):
    """Algorithm 1 with its sums computed anew for each choice, in any number of axes."""
    result, covered, left = np.zeros_like(attribution), np.zeros(attribution.shape, bool), masks
    while True:
        left = [mask for mask in left if (mask & ~covered).sum() >= least]
        if not left:
            break
        best = max(left, key=lambda mask: attribution[mask & ~covered].mean())
        new = best & ~covered
        result[new] = attribution[new].mean()
        covered |= new
    result[~covered] = attribution[~covered].mean() if not covered.all() else 0
    return result


def test_the_ranking_equals_the_papers_algorithm_in_3d_and_keeps_the_sum():
    random = np.random.default_rng(0)
    shape = (13, 15, 11)
    attribution = random.standard_normal(shape)
    regions = [
        r
        for labels in label_maps(shape, random)
        for r in widened_regions(labels, (1.0, 1.0, 2.0), 2.0)
    ]
    found = ranked(attribution, regions, least=4)
    expected = by_the_paper(attribution, masks_of(regions, shape), 4)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    assert found.sum() == pytest.approx(attribution.sum())
    assert ranked_fast(attribution, regions, least=4).sum() == pytest.approx(attribution.sum())


def test_widening_is_pairs_disk_and_a_ball_in_millimetres():
    from skimage.morphology import dilation, disk

    labels = np.ones((40, 40), dtype=np.int64)
    labels[10:17, 20:30] = 2
    found = masks_of(widened_regions(labels, (1.0, 1.0), 5.0), labels.shape)
    for number, mask in enumerate(found, start=1):
        np.testing.assert_array_equal(mask, dilation(labels == number, footprint=disk(5)))
    point = np.ones((15, 15, 15), dtype=np.int64)
    point[7, 7, 7] = 2
    ball = masks_of(widened_regions(point, (1.0, 2.0, 5.0), 4.0), point.shape)[1]
    assert [tuple(np.ptp(p) + 1 for p in np.nonzero(ball))] == [(9, 5, 1)]


class Square(nn.Module):
    """Its gradient is linear along the path, so that each sum of steps in use is exact."""

    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, images):
        score = (self.weights * images**2).flatten(1).sum(1)
        return torch.stack([-score, score], dim=1)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["full", "fast"])
def test_all_of_it_equals_pair_on_an_image_of_224_squared(task, algorithm):
    from scipy import ndimage

    random = np.random.default_rng(0)
    image = ndimage.gaussian_filter(random.standard_normal((224, 224)), 6).astype(np.float32)
    image /= np.abs(image).max()
    weights = ndimage.gaussian_filter(random.standard_normal((1, 224, 224)), (0, 9, 9))
    network = Square(torch.from_numpy(weights.astype(np.float32)))

    def call(images, call_model_args=None, expected_keys=None):
        voxels = torch.from_numpy(np.asarray(images, dtype=np.float32))[:, None].requires_grad_()
        score = network(voxels)[:, 1].sum()
        return {pair.INPUT_OUTPUT_GRADIENTS: torch.autograd.grad(score, voxels)[0][:, 0].numpy()}

    settings = pair.XRAIParameters(steps=3, algorithm=algorithm)
    expected = pair.XRAI().GetMask(image, call, extra_parameters=settings, batch_size=3)
    method = XRAI(steps=3) if algorithm == "full" else FastXRAI(steps=3, area=100.0)
    found = method.attribute(task(network, torch.from_numpy(image)[None, None]))[""].numpy()
    # Both compute in float32.
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("method", [XRAI, FastXRAI])
@pytest.mark.parametrize(
    ("shape", "spacing", "regions"),
    [
        ((40, 36), (1.0, 2.0), "automatic"),
        ((40, 36), (1.0, 2.0), "slic"),
        ((40, 36), (1.0, 2.0), "quickshift"),
        ((20, 18, 12), (1.0, 1.0, 2.0), "automatic"),
    ],
)
def test_the_part_that_the_score_comes_from_stands_out(task, shape, spacing, regions, method):
    torch.manual_seed(0)
    image = 0.05 * torch.rand(1, 2, *shape)
    place = tuple(slice(n // 2, n // 2 + n // 4) for n in shape)
    image[(slice(None), slice(None), *place)] += 1
    weights = torch.zeros(2, *shape)
    weights[(1, *place)] = 1.0

    class Linear(nn.Module):
        def forward(self, images):
            score = (images * weights).flatten(1).sum(1)
            return torch.stack([-score, score], dim=1)

    figures = {}
    job = task(Linear(), image, spacing=spacing, record=figures.update)
    values = method(steps=2, regions=regions).attribute(job)[""]
    inside = torch.zeros(shape, dtype=torch.bool)
    inside[place] = True
    assert values.shape == shape
    # Regions are wider than the part by what they are widened.
    assert float(values[inside].min()) > float(values.quantile(0.8))
    assert figures["regions"] > 5
    assert [path["completeness_error"] for path in figures["baselines"]] == pytest.approx(
        [0, 0], abs=1e-3
    )


def test_the_sum_is_that_of_the_integrated_gradients(task):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Softplus(), nn.Flatten(), nn.Linear(4 * 196, 1))
    image = torch.randn(1, 2, 16, 16)
    network = ScoreNetwork(network, one_logit=True)
    values = XRAI(steps=16).attribute(task(network, image, 0))[""]
    with torch.no_grad():
        black, white = torch.full_like(image, image.min()), torch.full_like(image, image.max())
        change = network(image)[0, 0] - (network(black) + network(white))[0, 0] / 2
    torch.testing.assert_close(values.double().sum(), change.double(), rtol=1e-3, atol=1e-4)


def test_the_largest_channel_is_as_in_pair(task):
    torch.manual_seed(0)
    weights, image = torch.randn(1, 3, 30, 30), torch.rand(1, 3, 30, 30)

    class Linear(nn.Module):
        def forward(self, images):
            score = (images * weights).flatten(1).sum(1)
            return torch.stack([-score, score], dim=1)

    found = XRAI(steps=2, channels="max").attribute(task(Linear(), image))[""]
    # The mean of both ways is that from the middle grey.
    grey = (image.min() + image.max()) / 2
    attribution = ((image - grey) * weights)[0].amax(0)
    assert float(found.double().sum()) == pytest.approx(float(attribution.double().sum()), rel=1e-3)


@pytest.mark.parametrize("kind", ["xrai", "xrai-fast"])
def test_where_one_baseline_dominates_the_regions_are_ranked_all_the_same(task, kind):
    class Bright(nn.Module):
        """Class 1 for brightness: black lowers its score, and white raises it much more."""

        def forward(self, images):
            score = images.mean((1, 2, 3))
            return torch.stack([-score, score], dim=1)

    image = torch.zeros(1, 1, 48, 48)
    image[..., 12:30, 8:24] = 0.3
    image[..., 40:44, 40:44] = 1.0
    image += 0.01 * torch.rand(image.shape, generator=torch.Generator().manual_seed(0))
    # Regions in which little of the brightest part lies: all means are below half of the range.
    method = {"xrai": XRAI, "xrai-fast": FastXRAI}[kind](
        steps=3, regions="slic", smallest_mm=14.0, widened_mm=3.0, area=100.0
    )
    observed = observe(method, task(Bright(), image, 1))
    found = observed.map
    assert (found > 0).any()
    assert found[14:28, 10:22].mean() > 2 * found.mean() + 1e-9
    assert found[14:28, 10:22].mean() > found[2:8, 30:46].mean()
    (note,) = observed.notes
    assert "white" in note
    black, white = (path["size_of_map"] for path in observed.figures["baselines"])
    assert white > 3 * black


def test_felzenszwalb_in_3d_is_refused_before_anything_is_computed(task):
    class Never(nn.Module):
        def forward(self, images):
            raise AssertionError("the network was asked")

    job = task(Never(), torch.randn(1, 1, 8, 8, 8))
    with error_with(ErrorCode.REGIONS, "xrai", "felzenszwalb", "slic"):
        XRAI(regions="felzenszwalb").attribute(job)


@pytest.mark.parametrize("regions", ["slic", "felzenszwalb", "quickshift"])
def test_the_time_of_regions_is_that_of_all_the_cells_that_are_divided(
    task, detector, regions, monkeypatch
):
    shape, spacing = ((48, 40), (1.0, 1.0)) if regions != "slic" else ((24, 20, 6), (1.0, 1.0, 4.0))
    divided = []

    def watched(divide):
        return lambda values, *settings: (
            divided.append(values[0].numel()) or divide(values, *settings)
        )

    for kind, divide in supervoxels._SEGMENTERS.items():
        monkeypatch.setitem(supervoxels._SEGMENTERS, kind, watched(divide))
    monkeypatch.setattr(xrai, "felzenszwalb", watched(xrai.felzenszwalb))
    torch.manual_seed(0)
    job = task(detector(shape, (0,) * len(shape)), torch.rand(1, 1, *shape), spacing=spacing)
    monkeypatch.setattr(xrai, "_SECONDS_TO_WIDEN", 0.0)
    method = FastXRAI(regions=regions)
    method.found_regions(job)
    assert len(divided) == 6
    each = supervoxels._SECONDS_PER_CELL[regions, len(shape)]
    assert method.seconds_beside(job) == pytest.approx(sum(divided) * each)


def test_ranking_takes_longer_in_larger_volumes_and_none_by_whole_regions(task, detector):
    for shape in ((20, 20, 20), (40, 20, 20)):
        job = task(detector(shape, (0, 0, 0)), torch.zeros(1, 1, *shape))
        more = XRAI().seconds_beside(job) - FastXRAI().seconds_beside(job)
        # Measured 0.73 s for 76,800 voxels and 2.7 s for 884,736.
        assert more == pytest.approx(0.73 + (np.prod(shape) - 76_800) * 2.4e-6, rel=0.1)


def test_a_cancel_comes_through_while_regions_are_found(task, detector):
    told = []

    def cancel(done, total):
        told.append(done)
        raise Cancelled

    job = task(detector((12, 12, 12), (5, 5, 5)), torch.randn(1, 1, 12, 12, 12), progress=cancel)
    with pytest.raises(Cancelled):
        XRAI(steps=2).attribute(job)
    assert told == [0.0]


def test_the_same_seedless_map_twice(task):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 14**3, 2))
    image = torch.randn(1, 1, 16, 16, 16)
    first, second = (
        XRAI(steps=5).attribute(task(network, image, batch_size=size))[""] for size in (1, 1)
    )
    assert torch.equal(first, second)
