"""Cuts boxes out of the maps of a batch, at another place for each image.

Two ways with the same result. On a CPU a box is copied by slices, image by image: long runs
of memory move (a gather is 3 to 6 % of a whole window slower on DenseNet121 and ResNet18).
On a GPU each of these copies would be a launch, half a million of them for a map, slower
than whole passes (Nakandala, Kumar & Papakonstantinou 2019, Krypton, SIGMOD): there one
gather serves the whole batch, however large it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from SaliencyExplain.attribution.incremental.boxes import (
    CHANNELS_LAST,
    Boxes,
    Integers,
    inside,
    overlap,
)

#: Larger than the number of any cell: a place beyond the map.
_BEYOND = 2**40

#: Devices on which boxes are copied by slices.
_BY_SLICES = ("cpu",)

_EVERY = (slice(None),)


def cut(
    value: Tensor,
    mine: Boxes,
    kept: Tensor | None,
    boxes: Boxes,
    size: Sequence[int],
    fill: float,
) -> Tensor:
    """Boxes of the maps of a batch of changed images.

    Args:
        value: What is known of them, ``(B, C, *mine.shape)``.
        mine: Where that lies.
        kept: The map of the unchanged image, ``(1, C, *size)``, right everywhere else; None
            where nothing beyond ``mine`` is asked for.
        boxes: What is asked for.
        size: Cells of the map per axis.
        fill: What lies beyond the map.

    Returns:
        ``(B, C, *boxes.shape)``, not to be written to.
    """
    if boxes.same(mine):
        return value
    inner = boxes.slices_in(mine)
    if inner is not None:
        return value[_EVERY + _EVERY + inner]
    way = _sliced if value.device.type in _BY_SLICES else _gathered
    return way(value, mine, kept, boxes, size, fill)


def cut_unchanged(kept: Tensor, boxes: Boxes) -> Tensor:
    """Boxes ``(B, C, *boxes.shape)`` of the one map ``(1, C, *size)``, within it."""
    if kept.device.type in _BY_SLICES:
        return torch.stack([kept[0][inside(at, boxes.shape)] for at in boxes.first.tolist()])
    numbers = _numbers(boxes.first, boxes.shape, kept.shape[2:], kept.device, images=False)
    return _map(_rows(kept).index_select(0, numbers), len(boxes.first), boxes.shape)


def _lies_within(boxes: Boxes, outer: Boxes) -> bool:
    offset = boxes.first - outer.first
    return bool(((offset >= 0) & (offset + boxes.shape <= np.asarray(outer.shape))).all())


def _reaches_beyond(boxes: Boxes, size: Sequence[int]) -> bool:
    return bool(((boxes.first < 0) | (boxes.first + boxes.shape > np.asarray(size))).any())


def _sliced(
    value: Tensor,
    mine: Boxes,
    kept: Tensor | None,
    boxes: Boxes,
    size: Sequence[int],
    fill: float,
) -> Tensor:
    """As :func:`cut`, image by image."""
    out = torch.empty(
        (len(value), value.shape[1], *boxes.shape),
        dtype=value.dtype,
        device=value.device,
        memory_format=CHANNELS_LAST[len(size)],
    )
    if _reaches_beyond(boxes, size):
        out.fill_(fill)
    offset = boxes.first - mine.first
    within = ((offset >= 0) & (offset + boxes.shape <= np.asarray(mine.shape))).all(axis=1)
    for row in np.flatnonzero(~within).tolist():
        assert kept is not None
        _copy(out[row], boxes.first[row], kept[0], np.zeros_like(mine.first[row]))
    inner = mine.slices_in(boxes)
    if inner is not None:
        out[_EVERY + _EVERY + inner] = value
        return out
    for row in range(len(value)):
        _copy(out[row], boxes.first[row], value[row], mine.first[row])
    return out


def _copy(out: Tensor, out_first: Integers, values: Tensor, first: Integers) -> None:
    """Copies what two boxes ``(C, *box)`` with these first cells have in common."""
    meets = overlap(out_first, out.shape[1:], first, values.shape[1:])
    if meets is not None:
        out[_EVERY + meets[0]] = values[_EVERY + meets[1]]


def _gathered(
    value: Tensor,
    mine: Boxes,
    kept: Tensor | None,
    boxes: Boxes,
    size: Sequence[int],
    fill: float,
) -> Tensor:
    """As :func:`cut`, in as many operations for a hundred images as for one.

    A cell with its channels is a row of a table. One gather takes the rows of the boxes out
    of the unchanged map, one scatter puts those that changed over them. Only the cells'
    numbers along each axis are sent to the device, some thousands; what they mean together
    is computed there, and nothing waits for it.
    """
    count, channels = value.shape[:2]
    offset = boxes.first - mine.first
    if _lies_within(boxes, mine):
        numbers = _numbers(offset, boxes.shape, mine.shape, value.device, images=True)
        return _map(_rows(value).index_select(0, numbers), count, boxes.shape)
    assert kept is not None
    numbers = _numbers(boxes.first, boxes.shape, size, value.device, images=False)
    # One row more than asked for takes what lies in no box.
    total = len(numbers)
    out = value.new_empty((total + 1, channels))
    last = math.prod(size) - 1
    out[:total] = _rows(kept).index_select(0, numbers.clamp(max=last))
    if _reaches_beyond(boxes, size):
        out[:total].masked_fill_((numbers > last)[:, None], fill)
    changed = _numbers(-offset, mine.shape, boxes.shape, value.device, images=True)
    out.index_copy_(0, changed.clamp(max=total), _rows(value))
    return _map(out[:total], count, boxes.shape)


def _numbers(
    first: Integers,
    shape: Sequence[int],
    size: Sequence[int],
    device: torch.device,
    *,
    images: bool,
) -> Tensor:
    """The numbers of boxes' cells, one after another, in maps ``(B, *size)`` or in one map.

    Cells beyond the maps have numbers of ``_BEYOND`` at least.

    Args:
        first: First cells of the boxes, ``(B, axes)``.
        shape: Cells of the boxes per axis.
        size: Cells of a map per axis.
        device: Where the numbers are wanted.
        images: Whether each image has a map of its own.
    """
    step = math.prod(size)
    along = [np.arange(len(first))[:, None] * (step if images else 0)]
    for axis, (width, cells) in enumerate(zip(shape, size, strict=True)):
        step //= cells
        places = first[:, axis, None] + np.arange(width)
        along.append(np.where((places < 0) | (places >= cells), _BEYOND, places * step))
    sent = torch.from_numpy(np.concatenate(along, axis=1)).to(device, non_blocking=True)
    image, *parts = sent.split([1, *shape], dim=1)
    numbers = image.reshape(-1, *[1] * len(shape))
    for axis, part in enumerate(parts):
        ones = [1] * len(shape)
        ones[axis] = shape[axis]
        numbers = numbers + part.reshape(-1, *ones)
    return numbers.flatten()


def _rows(values: Tensor) -> Tensor:
    """The cells ``(B * cells, C)`` of maps; no copy where the channels are the last in memory."""
    return values.movedim(1, -1).flatten(0, -2)


def _map(rows: Tensor, count: int, shape: Sequence[int]) -> Tensor:
    return rows.reshape(count, *shape, rows.shape[1]).movedim(-1, 1)
