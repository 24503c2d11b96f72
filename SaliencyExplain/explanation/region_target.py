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


@dataclass(frozen=True)
class RegionTarget:
    """What a target of a segmentation network says by itself.

    Attributes:
        target: Of one of the kinds that such a network can explain.
        index: Number of the class; None: it depends on the image.
        segment: Name of the segment; empty: the predicted region, or a point.
    """

    target: Target
    index: int | None
    segment: str = ""


@dataclass(frozen=True, eq=False)
class GivenPlace:
    """A place on the network's grid that does not depend on what the network predicts.

    Attributes:
        mask: ``(*S')``, with at least one true voxel.
        text: What it is, for people.
        voxel: Of a point the voxel there.
    """

    mask: NDArray[np.bool_]
    text: str
    voxel: tuple[int, ...] = ()


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


def region_target(target: Target | str, classifier: Classifier) -> RegionTarget:
    """Reads a target, before an image is predicted.

    Args:
        target: ``predicted``: the predicted region of the largest class beside the background. A
            class, or ``region:CLASS``: its predicted region. ``region:CLASS@SEGMENT``: the
            class over a given segment. ``point:R,A,S`` or ``point:R,A,S@CLASS``: the voxel there
            with its neighbours.
        classifier: A segmentation network.

    Raises:
        InputError: There is no such class, or a segmentation network has no target of this kind.
    """
    wanted = Target.of(target)
    names = [name.lower() for name in classifier.classes]
    if wanted.kind == CLASS and wanted.name.lower() not in names:
        # The text of a region or a point, where a record or a panel has it as a name.
        other = Target.parse(wanted.name)
        wanted = other if other.kind in (REGION, POINT) else wanted
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
    if wanted.kind == PREDICTED or (wanted.kind == POINT and not wanted.name):
        return RegionTarget(wanted, None)
    name, segment = wanted.name, ""
    if wanted.kind == REGION and name.lower() not in names and _SEGMENT in name:
        begun = [one for one in names if name.lower().startswith(f"{one}{_SEGMENT}")]
        # A segment's name may have the sign in it, too.
        length = max(map(len, begun), default=name.index(_SEGMENT))
        name, segment = name[:length], name[length + 1 :]
    return RegionTarget(wanted, classifier.class_named(name), segment)


def given_place(
    asked: RegionTarget,
    prepared: MetaTensor,
    image: MetaTensor,
    segmentation: Segmentation | None,
) -> GivenPlace | None:
    """The segment or point of a target; None where it means a predicted region.

    Args:
        asked: The target.
        prepared: The network's input, ``(C, *S')``.
        image: As it came in, ``(C, *S)``.
        segmentation: On the image's grid.

    Raises:
        InputError: The segment does not exist, or the place lies outside of what the network sees.
    """
    if asked.target.kind == POINT:
        return _at_point(asked.target, prepared, image)
    return _in_segment(asked.segment, prepared, image, segmentation) if asked.segment else None


def region_of(
    asked: RegionTarget, place: GivenPlace | None, classifier: Classifier, maps: ClassMaps
) -> Region:
    """The region of a target in one image.

    Args:
        asked: The target.
        place: Its segment or point.
        classifier: A segmentation network.
        maps: Of the whole image.

    Raises:
        InputError: The network predicts no voxel of the class, or no class at the point.
    """
    if place is None:
        largest = _largest(classifier, maps) if asked.index is None else asked.index
        return _predicted(largest, classifier, maps)
    index = maps.class_at(place.voxel) if asked.index is None else asked.index
    text = str(asked.target)[:80]
    if index is None:
        raise InputError(
            ErrorCode.TARGET_KIND,
            f"The network predicts no class at the point {text}. Name one: "
            f"{text}{_SEGMENT}{classifier.classes[0]}.",
        )
    name = classifier.classes[index]
    if asked.segment:
        target = Target(REGION, f"{name}{_SEGMENT}{asked.segment}")
    else:
        target = Target(POINT, name, point_ras=asked.target.point_ras)
    return Region(target, index, place.mask, f"{place.text}, for '{name}'")


def _largest(classifier: Classifier, maps: ClassMaps) -> int:
    counts, shown = maps.counts(), foreground(classifier)
    index = max(shown, key=lambda one: counts[one], default=0)
    if not shown or not counts[index]:
        names = ", ".join(classifier.classes[one] for one in shown)
        raise InputError(
            ErrorCode.SEGMENTATION_EMPTY,
            f"The network predicts no voxel of {names or 'a class'} in this image, so that there "
            "is no predicted region. Name a place: region:CLASS@SEGMENT or point:R,A,S.",
        )
    return index


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
    segment: str, prepared: MetaTensor, image: MetaTensor, segmentation: Segmentation | None
) -> GivenPlace:
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
    return GivenPlace(mask, f"the segment '{found.name}'")


def _at_point(target: Target, prepared: MetaTensor, image: MetaTensor) -> GivenPlace:
    affine = prepared.affine.numpy().astype(np.float64)
    shape, unit = tuple(prepared.shape[1:]), length_unit(image.affine.numpy(), image.shape[1:])
    point = np.asarray(target.point_ras, dtype=np.float64)
    centre = voxel_of_point(point, _in_network_axes(image, prepared), affine, shape, unit)
    voxel = tuple(
        int(np.clip(np.floor(index + 0.5), 0, edge - 1))
        for index, edge in zip(centre, shape, strict=True)
    )
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(max(0, at - 1), at + 2) for at in voxel)] = True
    around = " x ".join(f"{3 * size:.3g}" for size in spacing_of(affine, len(shape)))
    return GivenPlace(mask, f"the voxel at the point and its neighbours ({around} {unit})", voxel)


def _in_network_axes(image: MetaTensor, prepared: MetaTensor) -> MetaTensor:
    return squeeze_slice(image) if image.ndim > prepared.ndim else image
