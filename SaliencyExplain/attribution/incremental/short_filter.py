"""A convolution with fewer multiplications along its first axis.

Four neighbouring outputs of a kernel of three cells take six products instead of twelve
(Winograd 1980, Arithmetic Complexity of Computations; Lavin & Gray 2016, arXiv:1509.09308,
who do it along two axes). What is saved is multiplications alone: sums of six cells are
formed before, and sums of six products after. In float32 the largest error of a layer is
some 3e-6 of its largest output, where the plain convolution has 1.5e-6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from SaliencyExplain.attribution.incremental.boxes import CHANNELS_LAST

#: Cells of the kernel along the first axis.
KERNEL = 3

#: Where polynomials are evaluated, and infinity; small ones keep the digits.
_POINTS = (0.0, 1.0, -1.0, 2.0, -0.5)

#: Most outputs in a row that share products; more would cost digits.
_MOST = len(_POINTS) + 2 - KERNEL

#: Bytes of sums that are formed at a time: so many stay in the cache until they are used,
#: and the memory of a layer does not double.
_BYTES = 8 * 2**20

#: What making a sum before and after the products takes, in multiplications of oneDNN, and
#: what is lost as its calls are smaller (measured on one core for 64 to 512 channels).
_SUM_BEFORE, _SUM_AFTER, _SMALLER_CALLS = 28.0, 75.0, 1.5

#: Output channels from which on one thread gains, and from which on several do as well: the
#: products of DenseNet's layers, which have 32, are too small to be shared (18 of them at 96^3:
#: 7 % less time on one thread, 17 % more on two).
_FEWEST_OUTPUTS, _FEWEST_SHARED = 32, 64


@cache
def _transforms(together: int) -> tuple[Tensor, Tensor]:
    """What is formed of cells before the products ``(points, cells)``, and of these after.

    The product of two polynomials is found from its values at as many points as it has
    coefficients; a filter is its transpose.
    """
    cells = together + KERNEL - 1
    finite = _POINTS[: cells - 1]
    values = _values(finite, cells)
    before = np.linalg.inv(values).T
    after = _values(finite, together).T
    return torch.from_numpy(before).float(), torch.from_numpy(after).float()


def _values(points: Sequence[float], count: int) -> np.ndarray:
    """Each power below ``count`` at each point, and at infinity the highest alone."""
    powers = np.power(np.asarray(points)[:, None], np.arange(count))
    return np.concatenate([powers, np.eye(count)[-1:]])


def _together(length: int, most: int = _MOST) -> int:
    """Outputs that share their products, for the fewest products in a row of ``length``."""
    return min(range(min(most, length), 0, -1), key=lambda some: _products(length, some))


def _products(length: int, together: int) -> int:
    return -(-length // together) * (together + KERNEL - 1)


def pays(shape: Sequence[int], length: int, padding: int) -> bool:
    """Whether this is faster than the plain convolution, on one thread at least.

    Args:
        shape: Of the weight, ``(out, in, 3, *kernel)``.
        length: Cells of the whole output along the first axis.
        padding: Cells of it before and after the input; what they meet costs nothing.
    """
    outputs, inputs, _, *kernel = shape
    if outputs < _FEWEST_OUTPUTS:
        return False
    each = inputs * outputs * float(np.prod(kernel))
    products = _products(length, _together(length))
    sums = _SUM_BEFORE * inputs + _SUM_AFTER * outputs
    return _SMALLER_CALLS * products * (each + sums) < (KERNEL * length - 2 * padding) * each


@dataclass(eq=False)
class ShortFilter:
    """A convolution of two or three axes, the first with a kernel of three cells, stride 1.

    Attributes:
        weights: For each point the weight for the other axes, as oneDNN has it.
        stride: Of the other axes, of a map of two axes one of 1 before it.
        dilation: The same.
        kernel: The same.
        outputs: Channels.
        most: Outputs that share their products; so many points have a weight.
    """

    weights: tuple[Tensor, ...]
    kernel: list[int]
    stride: list[int]
    dilation: list[int]
    outputs: int
    most: int

    @property
    def gains_shared(self) -> bool:
        """Whether it is faster for several threads as well."""
        return self.outputs >= _FEWEST_SHARED

    @classmethod
    def of(
        cls,
        weight: Tensor,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        size: Sequence[int],
    ) -> ShortFilter:
        """That of a weight ``(out, in, 3, *kernel)``, for maps of at most this ``size``."""
        flat = weight.ndim == 4
        rows = [1] if flat else []  # a map of one axis gets another one for oneDNN
        weights = []
        steps, holes = [*rows, *stride[1:]], [*rows, *dilation[1:]]
        borders = [*(n - 1 for n in rows), *padding[1:]]
        # What the whole map does not need takes memory and helps its boxes little.
        most = _together(size[0] + 2 * padding[0] - KERNEL + 1)
        for factors in _values(_POINTS[: most + KERNEL - 2], KERNEL).tolist():
            plane = weight[:, :, 0] * factors[0]
            for part, factor in enumerate(factors[1:], start=1):
                plane.add_(weight[:, :, part], alpha=factor)
            plane = plane.unsqueeze(2) if flat else plane
            given = plane.contiguous(memory_format=torch.channels_last)
            shape = (1, weight.shape[1], *rows, *size[1:])
            weights.append(
                torch.ops.mkldnn._reorder_convolution_weight(given, borders, steps, holes, 1, shape)
            )
        kernel = [*rows, *weight.shape[3:]]
        return cls(tuple(weights), kernel, steps, holes, weight.shape[0], most)

    def __call__(
        self, values: Tensor, padding: Sequence[int], bias: Tensor | None, relu: bool
    ) -> Tensor:
        """The convolution.

        Args:
            values: ``(batch, in, *s)``.
            padding: Zeros before and after, per axis.
            bias: ``(out,)``.
            relu: Whether a ReLU follows.
        """
        memory_format = CHANNELS_LAST[values.ndim - 2]
        cells = values.contiguous(memory_format=memory_format).movedim(1, -1)
        count, length, *rest, inputs = cells.shape
        border = padding[0]
        width = length + 2 * border - KERNEL + 1
        together = _together(width, self.most)
        before, after = _transforms(together)
        finite = len(before) - 1
        weights = (*self.weights[:finite], self.weights[-1])
        # The last ones in a row overlap those before it, so that all are of one length.
        starts = [min(start, width - together) for start in range(0, width, together)]
        places = [(image, start) for image in range(count) for start in starts]
        rows = cells.flatten(2)
        at_once = max(1, _BYTES // (rows.shape[2] * rows.element_size() * len(before)))
        at_once = -(-len(places) // -(-len(places) // at_once))
        sums = rows.new_empty(len(before), min(at_once, len(places)), rows.shape[2])
        plane = self._size(rest, padding[1:])
        products = rows.new_empty(*sums.shape[:2], *plane, self.outputs)
        out = rows.new_empty(count, width, *plane, self.outputs)
        for first in range(0, len(places), at_once):
            part = places[first : first + at_once]
            for number, (image, start) in enumerate(part):
                low = max(start - border, 0)
                high = min(start - border + len(before), length)
                columns = before[:, low - start + border : high - start + border]
                torch.mm(columns, rows[image, low:high], out=sums[:, number])
            for point, weight in enumerate(weights):
                products[point, : len(part)] = self._plane(
                    sums[point, : len(part)].unflatten(1, (*rest, inputs)),
                    weight,
                    padding[1:],
                    # The value at 1 is a term of each output, with the factor 1.
                    bias if point == 1 else None,
                )
            for number, (image, start) in enumerate(part):
                torch.mm(
                    after,
                    products[:, number].flatten(1),
                    out=out[image, start : start + together].flatten(1),
                )
        if relu:
            out.relu_()
        return out.movedim(-1, 1)

    def _size(self, cells: Sequence[int], padding: Sequence[int]) -> list[int]:
        """Cells of the output along the other axes."""
        settings = zip(
            cells,
            padding,
            *(given[-len(cells) :] for given in (self.kernel, self.stride, self.dilation)),
            strict=True,
        )
        return [
            (cell + 2 * border - hole * (kernel - 1) - 1) // step + 1
            for cell, border, kernel, step, hole in settings
        ]

    def _plane(
        self, values: Tensor, weight: Tensor, padding: Sequence[int], bias: Tensor | None
    ) -> Tensor:
        """The convolution along the other axes, ``(rows, *rest, channels)``."""
        flat = values.ndim == 3
        given = values[None] if flat else values
        found = torch.ops.mkldnn._convolution_pointwise(
            given.movedim(-1, 1),
            weight,
            bias,
            [0, *padding] if flat else list(padding),
            self.stride,
            self.dilation,
            1,
            "none",
            [None],
            "",
        ).movedim(1, -1)
        return found[0] if flat else found
