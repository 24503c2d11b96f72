"""Where a segmentation's grid lies beside an image's, told or refused.

A segmentation is compared where its header puts it. A header that lost its place, or that another
tool wrote in other axes, puts it elsewhere, and the figures would be of other voxels than those
that were drawn. Files and nodes of a scene are held to the same rules.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.geometry import (
    SAME_PLACE,
    coinciding,
    corners,
    directions_of,
    indices_between,
    indices_of,
    same_grid,
    spacing_of,
    within_grid,
)

#: Share of the marked voxels inside the image from which on all of them count as inside.
ALL_INSIDE = 0.9995
#: Less than this share of a mask of the image's own shape inside the image: the header is wrong.
_MOSTLY = 0.5
#: Largest difference, per axis of a unit vector, of directions that count as equal.
_DIRECTION = 1e-3
#: What is asked where a mask fits the image once x and y are negated.
LPS_HINT = "with x and y negated it would lie inside: is its header in LPS instead of RAS?"
#: Marked voxels darker than this share of the image's range lie in the air.
_DARK = 0.05
#: Sign changes of the axes right, anterior, superior of the world, LPS against RAS first.
_MIRRORS = sorted(
    (signs for signs in itertools.product((1.0, -1.0), repeat=3) if min(signs) < 0),
    key=lambda signs: signs != (-1.0, -1.0, 1.0),
)


@dataclass(frozen=True)
class Grid:
    """A shape and where it lies.

    Attributes:
        shape: Voxels along each of 2 or 3 axes.
        affine: 4x4, voxel indices to RAS millimetres.
    """

    shape: tuple[int, ...]
    affine: NDArray[np.float64]

    @property
    def axes(self) -> int:
        """Number of axes, 2 or 3."""
        return len(self.shape)

    @property
    def size(self) -> str:
        """The shape as messages tell it, such as ``240 x 240 x 155``."""
        return " x ".join(map(str, self.shape))

    def same(self, other: Grid) -> bool:
        """See :func:`SaliencyExplain.geometry.same_grid`."""
        return same_grid(self.shape, self.affine, other.shape, other.affine)

    def mirrored(self, signs: Sequence[float]) -> Grid:
        """The grid with axes of the world negated."""
        return Grid(self.shape, np.diag([*signs, 1.0]) @ self.affine)


def position_notes(name: str, mask: Grid, image: Grid) -> list[str]:
    """What is to be told of a segmentation that lies on another grid than the image.

    Nothing is told of grids whose voxels coincide within the same box (flipped or permuted
    axes that the header tells of) and of those of another shape.

    Args:
        name: File or node, for the error.
        mask: Grid of the segmentation, of as many axes as the image's.
        image: Grid of the image.

    Raises:
        InputError: ``GRID_MISMATCH``: the mask has the image's voxels by number, and a header
            without a place, of other axes or of mirrored ones.
    """
    if mask.same(image) or _same_box(mask, image):
        mirror = None if mask.same(image) else _mirror(mask, image)
        if mirror is None:
            return []
        return [
            "the segmentation's axes are stored in reverse; the image's centre is the origin, so "
            f"that a header with {mirror} negated by mistake could not be told from a right one"
        ]
    as_many = sorted(mask.shape) == sorted(image.shape)
    if as_many and _without_place(mask) and not _without_place(image):
        raise _mismatch(
            name,
            mask,
            "has as many voxels as the image, and its header does not say where they lie (no "
            "origin, axes of the world), while the image's does",
        )
    if mask.shape == image.shape:
        return _of_same_shape(name, mask, image)
    if mask.axes == 3 and mask.shape[2] == 1 < image.shape[2]:
        index = indices_of(_centre(mask), image.affine)
        return [
            f"the segmentation has one slice; by its header it is slice {index[2] + 1:.4g} of the "
            f"image's {image.shape[2]}"
        ]
    if _without_place(mask) and not _without_place(image):
        return [
            "the segmentation's header does not say where its voxels lie (no origin, axes of the "
            "world); it is compared by its spacing alone"
        ]
    if _copied_affine(mask, image):
        if as_many:
            raise _mismatch(
                name,
                mask,
                f"has the image's affine and its axes ({image.size}) in another order: the array "
                "was transposed when it was saved",
            )
        # Fewer slices are what DICOM SEG and 3D Slicer keep of empty ones. Another size along
        # several axes is what a network's output has that was saved with the image's header.
        if sum(a != b for a, b in zip(mask.shape, image.shape, strict=True)) > 1:
            return [
                f"the segmentation has {mask.size} voxels and the image {image.size}, at the same "
                "origin and spacing; where its array was resized, its spacing is wrong"
            ]
    return []


def outside_note(
    name: str, mask: Grid, image: Grid, marked: NDArray[np.integer[Any]], inside: float
) -> str:
    """What is to be told of marked voxels that lie outside of the image; empty where none do.

    Args:
        name: File or node, for errors.
        mask: Grid of the segmentation.
        image: Grid of the image.
        marked: (N, axes) indices of marked voxels, or a sample of them.
        inside: Share of them in the image, of :func:`share_inside`.

    Raises:
        InputError: ``NO_OVERLAP`` where none lies in the image; ``GRID_MISMATCH`` where the mask
            has the image's shape, and most lie outside.
    """
    if inside >= ALL_INSIDE:
        return ""
    hint = _mirror_hint(mask, image, marked, inside)
    if inside == 0:
        far = np.linalg.norm(_centre(mask) - _centre(image))
        raise InputError(
            ErrorCode.NO_OVERLAP,
            f"{name}: the segmentation does not overlap the image; their grids' centres are "
            f"{far:.0f} mm apart{hint}. Are they of one patient and one scan?",
        )
    if mask.shape == image.shape and inside < _MOSTLY:
        raise _mismatch(
            name,
            mask,
            f"has the image's shape, and {(1 - inside) * 100:.0f} % of what is marked in it lie "
            f"outside of the image by its header{hint}",
        )
    return f"{(1 - inside) * 100:.1f} % of the segmentation lie outside the image{hint}"


def air_note(
    values: NDArray[np.floating[Any]], marked: NDArray[np.integer[Any]], mask: Grid, image: Grid
) -> str:
    """What is to be told of a mask on air that would lie on the patient with x and y negated.

    Args:
        values: (*S) of the image, its darkest voxels air.
        marked: (N, axes) indices of marked voxels, or a sample of them.
        mask: Grid of the segmentation, another than the image's.
        image: Grid of the image.

    Returns:
        The note; empty where nine of ten voxels do not lie on air, or would there, too.
    """
    mirrored = mask.mirrored(_MIRRORS[0])
    if share_inside(marked, mirrored, image) < ALL_INSIDE:
        return ""
    low, high = np.percentile(values.ravel()[:: max(1, values.size // 100_000)], (0.5, 99.5))
    air = low + _DARK * (high - low)
    dark = [
        float((_values_at(values, marked, one, image) <= air).mean()) for one in (mask, mirrored)
    ]
    if dark[0] < 0.9 or dark[1] > 0.1:
        return ""
    return (
        f"{dark[0] * 100:.0f} % of the segmentation lie on the image's darkest voxels, as air; "
        f"{LPS_HINT}"
    )


def _values_at(
    values: NDArray[np.floating[Any]], marked: NDArray[np.integer[Any]], mask: Grid, image: Grid
) -> NDArray[np.floating[Any]]:
    places = np.rint(indices_between(marked, mask.affine, image.affine)).astype(int)
    return values[tuple(np.clip(places, 0, np.array(image.shape) - 1).T)]


def share_inside(marked: NDArray[np.integer[Any]], mask: Grid, image: Grid) -> float:
    """Share of marked voxels whose centre lies in a voxel of the image.

    Args:
        marked: (N, axes) indices of marked voxels, N > 0.
        mask: Grid of the segmentation.
        image: Grid of the image.
    """
    indices = indices_between(marked, mask.affine, image.affine)
    return float(within_grid(indices, image.shape).mean())


def _of_same_shape(name: str, mask: Grid, image: Grid) -> list[str]:
    mirror = _mirror(mask, image)
    if mirror is not None:
        raise _mismatch(
            name,
            mask,
            f"has the image's shape and its affine with {mirror} negated: it would lie mirrored. "
            "One of the two headers was written for other axes (LPS, RAS)",
        )
    if not _same_directions(mask, image) or not _same_spacing(mask, image):
        if _without_place(image):
            raise _mismatch(
                name,
                mask,
                "has the image's shape, and the image's header does not say where its voxels lie "
                "(no origin, axes of the world), while the segmentation's does",
            )
        differs = "spacing" if _same_directions(mask, image) else "directions of its axes"
        return [
            f"the segmentation has the image's shape ({image.size}) and another {differs} "
            f"(voxels of {_lengths(mask)} mm, the image's {_lengths(image)} mm); it is compared "
            "where its header puts it"
        ]
    start, wanted = mask.affine[:3, 3], image.affine[:3, 3]
    shift = start - wanted
    steps = np.linalg.solve(image.affine[:3, :3], shift)[: image.axes]
    hint = ""
    for signs in _MIRRORS:
        if np.abs(wanted * signs - start).max() <= _near(image):
            hint = f"; its origin is the image's with {_negated(signs)} negated"
            break
    return [
        "the segmentation has the image's shape, and its header puts it "
        f"({_numbers(shift)}) mm elsewhere (right, anterior, superior), ({_numbers(steps)}) voxels"
        f"{hint}; it is compared there: was it drawn on this image?"
    ]


def _mismatch(name: str, mask: Grid, wrong: str) -> InputError:
    return InputError(
        ErrorCode.GRID_MISMATCH,
        f"{name}: the segmentation ({mask.size} voxels) {wrong}. Save it with the affine (origin, "
        "spacing, directions) of the image that it was drawn on.",
    )


def _same_box(mask: Grid, image: Grid) -> bool:
    """Whether voxels coincide one by one and the outermost of both grids are the same."""
    if not coinciding(mask.affine, image.affine, image.shape):
        return False
    ours, theirs = corners(mask.shape, mask.affine), corners(image.shape, image.affine)
    apart = np.linalg.norm(ours[:, None] - theirs[None], axis=2)
    # Both ways: all corners of a single slice may be corners of the image.
    farthest = max(apart.min(axis=0).max(), apart.min(axis=1).max())
    return bool(farthest <= _near(image))


def _near(grid: Grid) -> float:
    """Largest distance, mm, of two places in a grid that count as one."""
    return SAME_PLACE * min(spacing_of(grid.affine, grid.axes))


def _without_place(grid: Grid) -> bool:
    """Whether the header holds no more than a spacing: what tools write that know no place.

    The first voxel is at the origin then, or the middle of the grid, where nibabel puts it for
    NIfTI without a form and for Analyze.
    """
    axes = grid.axes
    directions = np.abs(directions_of(grid.affine, axes)[:axes]).round(6)
    if not np.array_equal(directions, np.eye(axes)):
        return False
    middle = _centre(grid)[:axes]
    start = grid.affine[:3, 3]
    near = 1e-3 * min(spacing_of(grid.affine, axes))
    return bool(np.abs(start).max() <= near or np.abs(middle).max() <= near)


def _mirror(mask: Grid, image: Grid) -> str | None:
    """The axes of the world that must be negated for the grids to be one."""
    for signs in _MIRRORS:
        if image.axes == 2 and signs[2] < 0:
            continue
        if mask.mirrored(signs).same(image):
            return _negated(signs)
    return None


def _mirror_hint(mask: Grid, image: Grid, marked: NDArray[np.integer[Any]], inside: float) -> str:
    turned = share_inside(marked, mask.mirrored(_MIRRORS[0]), image)
    if turned < ALL_INSIDE or inside >= ALL_INSIDE:
        return ""
    return f" ({LPS_HINT})"


def _negated(signs: Sequence[float]) -> str:
    names = [name for name, sign in zip("xyz", signs, strict=True) if sign < 0]
    return " and ".join(names) if len(names) < 3 else "x, y and z"


def _copied_affine(mask: Grid, image: Grid) -> bool:
    return (
        _same_directions(mask, image)
        and _same_spacing(mask, image)
        and bool(np.abs(mask.affine[:3, 3] - image.affine[:3, 3]).max() <= _near(image))
    )


def _same_directions(mask: Grid, image: Grid) -> bool:
    ours, theirs = (directions_of(one.affine, one.axes) for one in (mask, image))
    return bool(np.abs(ours - theirs).max() <= _DIRECTION)


def _same_spacing(mask: Grid, image: Grid) -> bool:
    return np.allclose(
        spacing_of(mask.affine, mask.axes), spacing_of(image.affine, image.axes), rtol=_DIRECTION
    )


def _centre(grid: Grid) -> NDArray[np.float64]:
    return corners(grid.shape, grid.affine).mean(axis=0)


def _lengths(grid: Grid) -> str:
    return " x ".join(f"{length:.4g}" for length in spacing_of(grid.affine, grid.axes))


def _numbers(values: NDArray[np.floating[Any]]) -> str:
    # + 0.0 turns a negative zero into zero.
    return ", ".join(f"{round(float(value), 2) + 0.0:g}" for value in values)
