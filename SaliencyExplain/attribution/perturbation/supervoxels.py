"""Regions of voxels that belong together: what surrogate methods and XRAI weigh."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from SaliencyExplain.attribution.perturbation.even_background import (
    check_finite,
    comparable,
    even_background,
)
from SaliencyExplain.attribution.perturbation.region_grid import (
    MOST_VOXELS,
    cell_size,
    cells_along,
    looked_up,
    resampled,
)
from SaliencyExplain.attribution.perturbation.scikit_image import scikit_image
from SaliencyExplain.errors import ErrorCode, InputError, unknown_name
from SaliencyExplain.geometry import bounding_box
from SaliencyExplain.progress import may_stop

#: The ways to find regions, as ``kind`` names them; the second and third in 2D only.
KINDS = ("slic", "felzenszwalb", "quickshift")

#: Contrast, as a share of a channel's range, that weighs as much as the way from one region
#: to the next. Felzenszwalb's threshold grows along a region's border and needs less of it.
_COMPACTNESS = {"slic": 0.1, "felzenszwalb": 0.001, "quickshift": 0.1}

#: What a cell of that grid takes, s, by kind and axes. Processor time of one thread on an x86
#: CPU, for 50 and for about 600 regions: SLIC 1.0e-6 to 1.6e-6 on volumes of 77,000 to 2 million
#: cells (the most without air) and 0.9e-6 to 1.2e-6 on pictures of 11,000 to 262,000;
#: Felzenszwalb 1.0e-6 to 1.2e-6; quickshift 1.7e-6 to 2.8e-6.
_SECONDS_PER_CELL = {
    ("slic", 2): 1e-6,
    ("slic", 3): 1.4e-6,
    ("felzenszwalb", 2): 1e-6,
    ("quickshift", 2): 2.4e-6,
}
#: Quickshift's time grows with the fourth power of them: 10 s for 512 x 512 voxels and 40.
_MOST_CELLS_ALONG = {"quickshift": 16}

#: The settings of LIME's image explainer, and what it then takes for a voxel, s: the search goes
#: over 25 x 25 voxels.
LIME_QUICKSHIFT = {"kernel_size": 4, "max_dist": 200, "ratio": 0.2}
SECONDS_AS_IN_LIME = 5.4e-6

#: Regions that an image may be divided into.
MOST_SUPERVOXELS = 5000

#: Pieces below this share of a region's volume join a neighbour.
_PIECE = 0.25


def supervoxels(
    image: Tensor,
    spacing: Sequence[float],
    *,
    kind: str = "slic",
    size_mm: float,
    compactness: float = 0.0,
    length_unit: str = "mm",
    most: int = MOST_SUPERVOXELS,
) -> Tensor:
    """Divides an image into connected regions of about one size and even intensity.

    The regions are found on a grid with the same distance in all directions, so that they
    are as long in mm along a coarse axis as along a fine one; that grid is coarser than the
    image where the image has more than two million voxels. An even background that touches
    the border (air, a padded margin; see :func:`even_background`) is one region.

    Args:
        image: Prepared image ``(C, *S)``, S of two or three axes. Each channel counts with
            its own range (from its 0.5th to its 99.5th percentile).
        spacing: Size of a voxel in mm, one number per axis of S.
        kind: ``slic`` (Achanta et al. 2012), in 2D also ``felzenszwalb`` (Felzenszwalb and
            Huttenlocher 2004) and ``quickshift`` (Vedaldi and Soatto 2008), all of
            scikit-image.
        size_mm: Side of a square or cube as large as a region, mm; see :func:`size_for`.
        compactness: Contrast, as a share of the channels' range, that weighs as much as a
            distance of ``size_mm``: more makes regions rounder. For ``felzenszwalb``: the
            contrast that keeps regions of that size apart (their sizes differ more). 0: 0.1,
            and 0.001 there.
        length_unit: How millimetres are told, ``px`` where the image has no size.
        most: Regions that there may be about.

    Returns:
        Label map ``(*S)``, int64, on the CPU, from 1 without a gap; every voxel is in a
        region; each region is connected by faces, but the background, which is region 1
        where there is one. The same input gives the same map.

    Raises:
        InputError: No such kind; a kind for 2D in 3D; a size below a voxel's; a value of
            the image is not finite; scikit-image is not installed.
    """
    if kind not in KINDS:
        raise unknown_name("kind of supervoxels", kind, KINDS)
    axes = image.ndim - 1
    if axes == 3 and kind != "slic":
        raise InputError(
            ErrorCode.REGIONS, f"{kind}: it works on 2D images, and this one has 3 axes. Use slic."
        )
    if size_mm < min(spacing):
        raise InputError(
            ErrorCode.REGIONS,
            f"Regions: their size of {size_mm:g} {length_unit} is below that of a voxel "
            f"({min(spacing):g} {length_unit}). Give a larger size.",
        )
    background = even_background(image)
    # Half of a volume of a head is air: only what encloses the rest is divided.
    box = bounding_box(~background)
    values = torch.stack([channel[box] for channel in comparable(image)])
    inside = background[box]
    wanted = inside.size * math.prod(spacing) / size_mm**axes
    if wanted > most:
        raise InputError(
            ErrorCode.REGIONS,
            f"Regions: a size of {size_mm:g} {length_unit} gives about {wanted:,.0f}, and the "
            f"limit is {most:,}. Give a larger size.",
        )
    may_stop()
    cell = cell_size(inside.shape, spacing, size_mm, _MOST_CELLS_ALONG.get(kind, math.inf))
    fine = resampled(values, spacing, cell)
    weight = (compactness or _COMPACTNESS[kind]) * math.sqrt(len(fine))
    found = _SEGMENTERS[kind](fine, (size_mm / cell) ** axes, weight)
    parts = np.where(inside, 0, looked_up(found, inside.shape, spacing, cell))
    labels = np.zeros(background.shape, dtype=np.int64)
    labels[box] = parts
    return torch.from_numpy(_tidy(labels, _PIECE * size_mm**axes / math.prod(spacing)))


def quickshift_as_in_lime(image: Tensor) -> Tensor:
    """The regions of LIME's image explainer: scikit-image's quickshift with its settings.

    ``skimage.segmentation.quickshift(image, kernel_size=4, max_dist=200, ratio=0.2)``, the image
    as three colours: one channel three times, three as red, green and blue. Other numbers of
    channels count as they are, 0 to 100 each, which is the range of a lightness. Regions have no
    wanted size; there are some tens in a picture of 224 x 224.

    Args:
        image: Prepared image ``(C, H, W)``. Values from 0 to 1 are taken as they are, others are
            scaled to that range, all channels together.

    Returns:
        Label map ``(H, W)``, int64, on the CPU, from 1 without a gap.

    Raises:
        InputError: The image has three axes, or values that are not finite; scikit-image is not
            installed.
    """
    if image.ndim != 3:
        raise InputError(
            ErrorCode.REGIONS,
            "quickshift: it works on 2D images, and this one has 3 axes. Use supervoxels.",
        )
    if image[0].numel() > MOST_VOXELS:
        raise InputError(
            ErrorCode.REGIONS,
            f"quickshift: its limit is {MOST_VOXELS:,} pixels, and this image has "
            f"{image[0].numel():,}. Use supervoxels.",
        )
    values = image.detach().cpu().double()
    check_finite(values)
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 1:
        values = (values - low) / ((high - low) or 1.0)
    colours = len(values) in (1, 3)
    values = values.expand(3, -1, -1) if colours else 100 * values
    labels = scikit_image("segmentation").quickshift(
        values.movedim(0, -1).numpy(), convert2lab=colours, channel_axis=-1, **LIME_QUICKSHIFT
    )
    return torch.from_numpy(labels.astype(np.int64) + 1)


def size_for(image: Tensor, spacing: Sequence[float], count: int) -> float:
    """The ``size_mm`` that gives about ``count`` regions outside of an even background.

    Args:
        image: ``(C, *S)``.
        spacing: Size of a voxel in mm, one number per axis of S.
        count: Regions wanted, at least 1.

    Returns:
        Side of a region in mm, at least that of the smallest voxel axis.

    Raises:
        InputError: As :func:`supervoxels`.
    """
    voxels = int((~even_background(image)).sum())
    side = float((voxels * math.prod(spacing) / count) ** (1 / (image.ndim - 1)))
    return max(side, min(spacing))


def seconds_to_find(
    shape: Sequence[int],
    spacing: Sequence[float],
    kind: str = "slic",
    *,
    size_mm: float = 0.0,
    cell_mm: float = 0.0,
) -> float:
    """What dividing an image takes of one processor core, s, by counting cells.

    Of an image without air; what encloses the rest of one with air is all that is divided.

    Args:
        shape: Voxels of the image per axis.
        spacing: Size of a voxel in mm, one number per axis.
        kind: See :func:`supervoxels`; one for 2D does not take a volume.
        size_mm: See :func:`supervoxels`.
        cell_mm: Distance of the grid on which the regions are found; 0: the one that
            :func:`supervoxels` takes for their size.
    """
    cell = cell_mm or cell_size(shape, spacing, size_mm, _MOST_CELLS_ALONG.get(kind, math.inf))
    cells = math.prod(
        cells_along(size, voxel, cell) for size, voxel in zip(shape, spacing, strict=True)
    )
    return cells * _SECONDS_PER_CELL[kind, len(shape)]


def _slic(values: Tensor, cells: float, compactness: float) -> NDArray[np.int64]:
    # Of a grid with equal distances SLIC needs no spacing. It would take three channels for
    # colours. Without smoothing noise makes shreds. Pieces are joined later, by their faces.
    stacked = values.movedim(0, -1).numpy()
    labels = scikit_image("segmentation").slic(
        stacked,
        n_segments=_seeds(values.shape[1:], values[0].numel() / cells),
        compactness=compactness,
        sigma=1,
        enforce_connectivity=False,
        convert2lab=False,
        channel_axis=-1,
    )
    return labels.astype(np.int64)


def _seeds(shape: Sequence[int], wanted: float) -> int:
    """The number of segments to request from SLIC to get about the wanted number.

    Its seeds lie on a grid of whole cells, at most as many as requested: for 100 in a cube there
    may be 64 or fewer.
    """
    given: dict[float, int] = {}
    for more in np.linspace(1, 2, 21):
        asked = max(1, round(wanted * more))
        grid = scikit_image("util").regular_grid(shape, asked)
        count = math.prod(
            len(range(*along.indices(size))) for along, size in zip(grid, shape, strict=True)
        )
        given.setdefault(abs(math.log(count / wanted)), asked)
    return given[min(given)]


def _felzenszwalb(values: Tensor, cells: float, contrast: float) -> NDArray[np.int64]:
    # scikit-image divides the scale by 255; scale over size is the contrast kept apart.
    return felzenszwalb(values, 255 * contrast * cells, max(1, round(_PIECE * cells)))


def felzenszwalb(values: Tensor, scale: float, least: int) -> NDArray[np.int64]:
    """Felzenszwalb's regions of a 2D image ``(C, H, W)``, from 1, smoothed by 0.8 voxels.

    Args:
        values: On a grid with equal distances.
        scale: As in scikit-image, for values that are about from 0 to 1.
        least: Voxels of the smallest region.
    """
    labels = scikit_image("segmentation").felzenszwalb(
        values.movedim(0, -1).numpy(), scale=scale, sigma=0.8, min_size=least
    )
    return labels.astype(np.int64) + 1


def _quickshift(values: Tensor, cells: float, compactness: float) -> NDArray[np.int64]:
    side = math.sqrt(cells)
    # Distances are in voxels and grey values times the ratio, as in SLIC. The search goes
    # over three kernel sizes, half a region's side each way.
    labels = scikit_image("segmentation").quickshift(
        values.movedim(0, -1).numpy(),
        ratio=side / compactness,
        kernel_size=max(1.0, side / 6),
        max_dist=side / 2,
        convert2lab=False,
        channel_axis=-1,
    )
    return labels.astype(np.int64) + 1


_SEGMENTERS = {"slic": _slic, "felzenszwalb": _felzenszwalb, "quickshift": _quickshift}


def _tidy(labels: NDArray[np.int64], least: float) -> NDArray[np.int64]:
    """Connected regions from 1, the background (0) the first, small pieces joined to others."""
    parts = scikit_image("measure").label(labels, connectivity=1).astype(np.int64)
    while True:
        may_stop()
        joined = _joined(parts, least)
        if joined is None:
            break
        parts = joined
    return np.unique(parts, return_inverse=True)[1].reshape(parts.shape).astype(np.int64) + 1


def _joined(labels: NDArray[np.int64], least: float) -> NDArray[np.int64] | None:
    """Each small region joined with the neighbour of most faces; None where none is small."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = int(labels.max()) + 1
    sizes = np.bincount(labels.ravel(), minlength=count)
    small = (sizes > 0) & (sizes < least)
    small[0] = False
    pairs = []
    for axis in range(labels.ndim):
        along = np.moveaxis(labels, axis, 0)
        lower, upper = along[:-1].ravel(), along[1:].ravel()
        for own, other in ((lower, upper), (upper, lower)):
            chosen = small[own] & (own != other)
            pairs.append(np.stack([own[chosen], other[chosen]]))
    touching, faces = np.unique(np.concatenate(pairs, axis=1), axis=1, return_counts=True)
    if not touching.size:
        return None
    own, other = touching
    # The background takes only what has no other neighbour; ties go to the lower number.
    order = np.lexsort((other, -faces, other == 0, own))
    own, other = own[order], other[order]
    first = np.concatenate([[True], own[1:] != own[:-1]])
    edges = coo_array((np.ones(first.sum()), (own[first], other[first])), shape=(count, count))
    groups = connected_components(edges, directed=False)[1]
    lowest = np.full(groups.max() + 1, count)
    np.minimum.at(lowest, groups, np.arange(count))
    return lowest[groups][labels]
