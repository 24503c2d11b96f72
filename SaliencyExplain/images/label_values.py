"""Values of a file without named segments: labels, soft masks, or an image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.soft_edges import harden

#: A file with more distinct values is an image and not a label map; the largest common atlases
#: (FreeSurfer's aparc.a2009s+aseg) have under 200.
MOST_LABELS = 512
#: Files with more values than this are checked for being an image.
_FEW_LABELS = 3
#: Smallest median share of neighbours with the same label in a label map. Thin cortical ribbons
#: have at least 0.7, images with noise less than 0.2, blurred edges of masks 0.3.
_COMPACT = 0.4
#: Number of voxels for which that share is computed.
_SAMPLE = 4_000_000
#: Values in a wider range are sorted to find the distinct ones.
_WIDE = 1 << 24
#: Values of a soft mask above this share of the largest are certainly inside, and values below the
#: remaining share certainly outside.
_SURE = 0.95
#: Largest number of uncertain voxels of a soft mask per certain voxel (edges of small segments).
#: An image that was scaled to 1 has hundreds.
_MOST_UNSURE = 3
_LARGEST_NOTE = "the layers add up to 1: a voxel belongs to the layer of its largest value"
_NAMED = "If it is a label map, save it as .seg.nrrd, whose header names the segments."


def whole_numbers(
    path: Path, values: NDArray[Any]
) -> tuple[NDArray[np.integer[Any]], tuple[str, ...]]:
    """The labels (L, *S) from a file's numbers, and notes.

    Soft masks, such as resampled ones, are thresholded at one half; for probabilities that add
    up to 1 the largest is taken.

    Args:
        path: The file, for messages.
        values: (L, *S), of any type of number.

    Raises:
        InputError: It holds numbers that are not finite, or fractions that may be an image.
    """
    if values.dtype.kind in "iu":
        return values, ()
    if values.dtype.kind == "b":
        return values.view(np.uint8), ()
    bad = int(values.size - np.isfinite(values).sum())
    if bad:
        raise _no_labels(path, f"{bad} voxels of the segmentation are not finite")
    whole = np.rint(values)
    # Scaled integers are read as 0.99999 or 2.00001.
    off = np.abs(values - whole) > 1e-3
    if off.any():
        return _soft(path, values, off)
    largest = float(np.abs(whole).max(initial=0))
    if largest > np.iinfo(np.int32).max:
        raise _no_labels(path, f"is not a label map; it holds values up to {largest:.3g}")
    return whole.astype(np.int32), ()


def _soft(
    path: Path, values: NDArray[np.floating[Any]], off: NDArray[np.bool_]
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    low, high = float(values.min()), float(values.max())
    unit = low >= -1e-3 and high <= 1 + 1e-3
    if unit and len(values) > 1 and np.abs(values.sum(axis=0) - 1).max() < 0.01:
        largest = values.argmax(axis=0)
        chosen = np.stack([(largest == layer).astype(np.uint8) for layer in range(len(values))])
        return chosen, (_LARGEST_NOTE,)
    sure = int((values > _SURE * high).sum())
    unsure = int(((values > (1 - _SURE) * high) & (values <= _SURE * high)).sum())
    outside = values.size - sure - unsure
    if unit and 0 < unsure <= _MOST_UNSURE * sure and outside >= values.size / 2:
        note = (
            f"the mask is soft ({unsure} voxels between {1 - _SURE:.2f} and {_SURE}); values of "
            "at least 0.5 are inside"
        )
        return (values >= 0.5).astype(np.uint8), (note,)
    raise _no_labels(
        path,
        f"is not a label map; {int(off.sum())} voxels hold fractions such as "
        f"{float(values[off][0]):.3g}, and only {sure} are near the largest value, {high:.3g}. "
        "Threshold it first",
    )


def distinct(layer: NDArray[np.integer[Any]]) -> list[int]:
    """The distinct values in order; much faster than sorting if their range is small.

    Args:
        layer: Whole numbers.
    """
    if not layer.size:
        return []
    low, high = int(layer.min()), int(layer.max())
    if high - low >= _WIDE:
        return [int(value) for value in np.unique(layer)]
    there = np.zeros(high - low + 1, dtype=bool)
    for plane in layer:
        there[plane.astype(np.int64) - low] = True
    return (np.flatnonzero(there) + low).tolist()


def hard_layers(
    layers: NDArray[np.integer[Any]],
) -> tuple[NDArray[np.integer[Any]], tuple[str, ...]]:
    """The layers, with soft masks of whole numbers thresholded at one half, and notes.

    Args:
        layers: (L, *S), 0 outside.
    """
    found = [harden(layer, [value for value in distinct(layer) if value != 0]) for layer in layers]
    notes = tuple(dict.fromkeys(note for _, note in found if note))
    return (np.stack([layer for layer, _ in found]), notes) if notes else (layers, ())


def labels_of(path: Path, layer: NDArray[np.integer[Any]]) -> list[int]:
    """The values of a layer that are labels, in order.

    Args:
        path: The file, for messages.
        layer: (*S), 0 outside.

    Raises:
        InputError: They are of an image: more than :data:`MOST_LABELS`, negative, or changing
            from voxel to voxel.
    """
    values = [value for value in distinct(layer) if value != 0]
    if len(values) > MOST_LABELS:
        raise _no_labels(
            path,
            f"is not a label map; it holds {len(values)} different values, as an image does (more "
            f"than {MOST_LABELS}). {_NAMED}",
        )
    if values and values[0] < 0:
        raise _no_labels(path, f"is not a label map; it holds negative values, down to {values[0]}")
    if len(values) > _FEW_LABELS and (share := _compactness(layer)) < _COMPACT:
        raise _no_labels(
            path,
            f"is not a label map; only {share * 100:.0f} % of neighbouring voxels (median over its "
            f"{len(values)} values) have the same value, as in an image (under "
            f"{_COMPACT * 100:.0f} %). {_NAMED}",
        )
    return values


def without_background(
    path: Path, layers: NDArray[np.integer[Any]]
) -> tuple[NDArray[np.integer[Any]], tuple[str, ...]]:
    """The layers with 0 for the background, if the file has another value for it.

    Args:
        path: The file, for messages.
        layers: (L, *S).

    Returns:
        The layers, and notes. -1 is the background if there is no 0, and means "unknown" if 0 is
        the background. If the layers together cover all voxels, the first is the background if
        it is the largest.

    Raises:
        InputError: Both -1 and 0 may be the background, or it is unclear which layer is.
    """
    layers, notes = _without_minus_one(path, layers)
    if len(layers) > 1:
        layers, more = _without_rest(path, layers)
        return layers, (*notes, *more)
    if not notes and layers.size and layers.min() > 0:
        values, counts = np.unique(layers, return_counts=True)
        largest = int(values[counts.argmax()])
        note = (
            f"no voxel is 0, so all belong to a segment; {counts.max() / layers.size * 100:.0f} % "
            f"of them have label {largest}, which may be the background"
        )
        return layers, (note,)
    return layers, notes


def _without_minus_one(
    path: Path, layers: NDArray[np.integer[Any]]
) -> tuple[NDArray[np.integer[Any]], tuple[str, ...]]:
    if layers.dtype.kind != "i" or not layers.size or layers.min() != -1:
        return layers, ()
    unknown, zero = layers == -1, layers == 0
    count, zeros = int(unknown.sum()), int(zero.sum())
    if zeros > count:
        note = f"{count} voxels of -1 (unknown) belong to no segment"
    elif zeros == 0:
        note = "-1 is treated as the background; no voxel is 0"
    else:
        raise _no_labels(
            path,
            f"holds -1 in {count} voxels and 0 in {zeros}, and either may be the background. "
            "Write the background as 0 and the labels from 1 on",
        )
    return np.where(unknown, 0, layers), (note,)


def _without_rest(
    path: Path, layers: NDArray[np.integer[Any]]
) -> tuple[NDArray[np.integer[Any]], tuple[str, ...]]:
    """One-hot layers without that of the background."""
    marked = layers != 0
    if any(np.unique(layer[held]).size > 1 for layer, held in zip(layers, marked, strict=True)):
        return layers, ()
    if not (marked.sum(axis=0) == 1).all():
        return layers, ()
    counts = marked.reshape(len(layers), -1).sum(axis=1)
    if counts.argmax() != 0:
        raise _no_labels(
            path,
            f"each voxel belongs to one of its {len(layers)} layers, so one of them is the "
            "background, and it is unclear which: the first is not the largest. Remove the layer "
            "of the background",
        )
    kept = layers.copy()
    kept[0] = 0
    share = counts[0] / counts.sum() * 100
    return kept, (
        f"layer 1 ({share:.0f} % of the voxels) has all voxels of no other layer and is treated "
        "as background",
    )


def _compactness(layer: NDArray[np.integer[Any]]) -> float:
    """Median over the labels of the share of a voxel's labelled neighbours with its label."""
    held = np.nonzero(layer)
    box = tuple(slice(int(axis.min()), int(axis.max()) + 1) for axis in held)
    part = layer[box]
    axes = range(part.ndim)
    if part.size > _SAMPLE:
        # Whole planes, which keep neighbours within them.
        part = part[..., :: -(-part.size // _SAMPLE)] if part.ndim == 3 else part
        axes = range(2)
    values, labels = np.unique(part, return_inverse=True)
    labels = labels.reshape(part.shape)
    outside = int(np.searchsorted(values, 0)) if 0 in values else -1
    same = np.zeros(len(values))
    pairs = np.zeros(len(values))
    for axis in axes:
        one = np.take(labels, range(part.shape[axis] - 1), axis).ravel()
        other = np.take(labels, range(1, part.shape[axis]), axis).ravel()
        both = (one != outside) & (other != outside)
        one, other = one[both], other[both]
        for some in (one, other):
            pairs += np.bincount(some, minlength=len(values))
            same += np.bincount(some[one == other], minlength=len(values))
    # A label without labelled neighbours, such as a landmark of one voxel, counts as compact.
    shares = np.divide(same, pairs, out=np.ones(len(values)), where=pairs > 0)
    return float(np.median(shares[values != 0]))


def _no_labels(path: Path, wrong: str) -> InputError:
    end = "" if wrong.endswith(".") else "."
    return InputError(ErrorCode.SEGMENTATION_LABELS, f"{path}: {wrong}{end}")
