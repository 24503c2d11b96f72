"""The region over which a segmentation's class is averaged: what a target means for one image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from monai.data import MetaTensor
from numpy.typing import NDArray

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.explanation.image_points import voxel_of_point
from SaliencyExplain.geometry import spacing_of
from SaliencyExplain.images.grid_masks import filled_voxels
from SaliencyExplain.images.segmentation import Segmentation
from SaliencyExplain.length_unit import length_unit
from SaliencyExplain.models.class_maps import ClassMaps, foreground
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.network_grid import squeeze_slice
from SaliencyExplain.specification.target import (
    CLASS,
    LABEL,
    POINT,
    PREDICTED,
    PROBABILITY,
    REGION,
    Target,
)

_SEGMENT = "@"


@dataclass(frozen=True, eq=False)
class Region:
    """Where which class is averaged; fixed before a method starts.

    Attributes:
        target: With the class named.
        index: Number of the class.
        mask: ``(*S')`` on the network's grid, with at least one true voxel.
        text: What it is, for people.
    """

    target: Target
    index: int
    mask: NDArray[np.bool_]
    text: str


def region_of(
    target: Target | str,
    classifier: Classifier,
    maps: ClassMaps,
    prepared: MetaTensor,
    image: MetaTensor,
    segmentation: Segmentation | None,
) -> Region:
    """The region of a target in one image.

    Args:
        target: ``predicted``: the predicted region of the largest class beside the background. A
            class, or ``region:CLASS``: its predicted region. ``region:CLASS@SEGMENT``: the
            class over a given segment. ``point:R,A,S`` or ``point:R,A,S@CLASS``: the voxel there
            with its neighbours.
        classifier: A segmentation network.
        maps: Of the whole image.
        prepared: The network's input, ``(C, *S')``.
        image: As it came in, ``(C, *S)``.
        segmentation: On the image's grid.

    Raises:
        InputError: The class, segment or point does not exist, the region has no voxel, or a
            segmentation has no target of this kind.
    """
    wanted = _in_own_words(Target.of(target), classifier)
    if wanted.unit == PROBABILITY or wanted.kind not in (CLASS, LABEL, POINT, PREDICTED, REGION):
        raise InputError(
            ErrorCode.TARGET_KIND,
            f"The target {str(wanted)[:80]} cannot be explained of a segmentation network: its "
            "scores are mean logits over a region. Give region:CLASS, region:CLASS@SEGMENT, "
            "point:R,A,S or predicted.",
        )
    if wanted.kind == LABEL:
        raise InputError(
            ErrorCode.OPTION_CONFLICT,
            f"The target {LABEL} is for cases of a study with a label; this image has no "
            "label. Name a region, or predicted.",
        )
    if wanted.kind == POINT:
        return _at_point(wanted, classifier, maps, prepared, image)
    if wanted.kind == PREDICTED:
        return _largest(classifier, maps)
    name, segment = wanted.name, ""
    if wanted.kind == REGION and name not in classifier.classes and _SEGMENT in name:
        name, _, segment = name.rpartition(_SEGMENT)
    index = classifier.class_named(name)
    if segment:
        return _in_segment(index, segment, classifier, prepared, image, segmentation)
    return _predicted(index, classifier, maps)


def _in_own_words(target: Target, classifier: Classifier) -> Target:
    """A class that no class is named like may be the text of another target."""
    if target.kind == CLASS and target.name.lower() not in map(str.lower, classifier.classes):
        other = Target.parse(target.name)
        return other if other.kind in (REGION, POINT) else target
    return target


def _largest(classifier: Classifier, maps: ClassMaps) -> Region:
    counts, shown = maps.counts(), foreground(classifier)
    index = max(shown, key=lambda one: counts[one], default=0)
    if not shown or not counts[index]:
        names = ", ".join(classifier.classes[one] for one in shown)
        raise InputError(
            ErrorCode.SEGMENTATION_EMPTY,
            f"The network predicts no voxel of {names or 'a class'} in this image, so that there "
            "is no predicted region. Name a place: region:CLASS@SEGMENT or point:R,A,S.",
        )
    return _predicted(index, classifier, maps)


def _predicted(index: int, classifier: Classifier, maps: ClassMaps) -> Region:
    mask, name = maps.region(index), classifier.classes[index]
    if not mask.any():
        raise InputError(
            ErrorCode.SEGMENTATION_EMPTY,
            f"The network predicts no voxel of '{name}' in this image, so that it has no "
            f"predicted region. Name a place: region:{name}@SEGMENT or point:R,A,S.",
        )
    return Region(Target(REGION, name), index, mask, f"the predicted region of '{name}'")


def _in_segment(
    index: int,
    segment: str,
    classifier: Classifier,
    prepared: MetaTensor,
    image: MetaTensor,
    segmentation: Segmentation | None,
) -> Region:
    if segmentation is None:
        raise InputError(
            ErrorCode.OPTION_MISSING,
            f"The target's region is the segment '{segment}', and no segmentation is given.",
        )
    found = segmentation.find(segment)
    plane = _in_network_axes(image, prepared)
    shape = tuple(prepared.shape[1:])
    corner, inside, _ = filled_voxels(
        np.asarray(found.mask, dtype=bool).reshape(plane.shape[1:]),
        plane.affine.numpy().astype(np.float64),
        prepared.affine.numpy().astype(np.float64),
        shape,
    )
    mask = np.zeros(shape, dtype=bool)
    box = tuple(slice(a, a + size) for a, size in zip(corner, inside.shape, strict=True))
    mask[box] = inside
    if not mask.any():
        raise InputError(
            ErrorCode.PLACE_OUTSIDE,
            f"The segment '{found.name}' lies outside of what the network sees of the image.",
        )
    name = classifier.classes[index]
    target = Target(REGION, f"{name}{_SEGMENT}{found.name}")
    return Region(target, index, mask, f"the segment '{found.name}', for '{name}'")


def _at_point(
    target: Target,
    classifier: Classifier,
    maps: ClassMaps,
    prepared: MetaTensor,
    image: MetaTensor,
) -> Region:
    affine = prepared.affine.numpy().astype(np.float64)
    shape, unit = tuple(prepared.shape[1:]), length_unit(image.affine.numpy(), image.shape[1:])
    point = np.asarray(target.point_ras, dtype=np.float64)
    centre = voxel_of_point(point, _in_network_axes(image, prepared), affine, shape, unit)
    voxel = tuple(
        int(np.clip(np.floor(index + 0.5), 0, edge - 1))
        for index, edge in zip(centre, shape, strict=True)
    )
    index = classifier.class_named(target.name) if target.name else maps.class_at(voxel)
    if index is None:
        raise InputError(
            ErrorCode.TARGET_KIND,
            f"The network predicts no class at the point {str(target)[:80]}. Name one: "
            f"{str(target)[:80]}{_SEGMENT}{classifier.classes[0]}.",
        )
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(max(0, at - 1), at + 2) for at in voxel)] = True
    edges = [3 * size for size in spacing_of(affine, len(shape))]
    name = classifier.classes[index]
    found = Target(POINT, name, point_ras=target.point_ras)
    around = " x ".join(f"{edge:.3g}" for edge in edges)
    return Region(
        found, index, mask, f"the voxel at the point and its neighbours ({around} {unit}), for "
        f"'{name}'"
    )  # fmt: skip


def _in_network_axes(image: MetaTensor, prepared: MetaTensor) -> MetaTensor:
    return squeeze_slice(image) if image.ndim > prepared.ndim else image
