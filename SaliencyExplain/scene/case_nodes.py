"""The scene of a finished case: everything in its place, ready to be looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import slicer
from numpy.typing import NDArray

from SaliencyExplain.scene.attributions import AttributionMap, add_attribution, anatomy_of
from SaliencyExplain.scene.band_segments import add_bands
from SaliencyExplain.scene.cameras import look_at
from SaliencyExplain.scene.nodes import new_scene, slice_nodes
from SaliencyExplain.scene.rendering import show_surfaces
from SaliencyExplain.scene.segmentations import Color, add_segmentation, outline
from SaliencyExplain.scene.slice_layers import jump_to, link_views, show
from SaliencyExplain.scene.volume_nodes import add_image

#: So that slices and heat are seen through the ground truth in 3D.
_SURFACE_OPACITY = 0.4


@dataclass(frozen=True, eq=False)
class CaseContent:
    """What a case's scene is made of.

    Attributes:
        name: Of the case; images are named by it.
        channels: ``{name: values (*S)}``, the classifier's channels in its order.
        affine: 4x4 of the channels, voxel indices to RAS mm.
        maps: The attributions; the first is shown.
        place: RAS mm that the slices go through.
        segments: ``{name: (RGB in [0, 1], mask (*S))}`` of the ground truth.
    """

    name: str
    channels: Mapping[str, NDArray[Any]]
    affine: NDArray[np.float64]
    maps: Sequence[AttributionMap]
    place: tuple[float, float, float]
    segments: Mapping[str, tuple[Color, NDArray[Any]]] = field(default_factory=dict)


def case_scene(content: CaseContent) -> slicer.vtkMRMLScene:
    """Makes the scene of a case.

    The first channel is shown with the first map over it and the ground truth outlined, in
    Slicer's four-up layout, all slices through the place; in 3D the ground truth's surface
    with the slices, seen as a whole wherever in the world they lie. Each map has its bands as
    label map and as segmentation, hidden.

    Raises:
        InputError: The grid is sheared, or a map is not finite.
    """
    scene = new_scene()
    images = []
    for name, values in content.channels.items():
        title = content.name if len(content.channels) == 1 else f"{content.name} {name}"
        images.append(add_image(scene, _compact(values), content.affine, title))
    nodes = [add_attribution(scene, map, images[0], images) for map in content.maps]
    for node in nodes:
        add_bands(scene, node)
    if content.segments:
        truth = add_segmentation(
            scene,
            np.stack([mask for _, mask in content.segments.values()]),
            list(content.segments),
            [color for color, _ in content.segments.values()],
            content.affine,
            "ground truth",
        )
        outline(truth)
        show_surfaces(truth, True)
        truth.GetDisplayNode().SetOpacity3D(_SURFACE_OPACITY)
    show(scene, anatomy_of(nodes[0]) if nodes else images[0], nodes[0] if nodes else None)
    link_views(scene, True)
    jump_to(scene, content.place)
    look_at(scene, images[0])
    for view in slice_nodes(scene):
        view.SetSliceVisible(True)
    return scene


def _compact(values: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers as 16 bits where they are exact: scanners give such, and files halve."""
    low, high = np.iinfo(np.int16).min, np.iinfo(np.int16).max
    if not np.isfinite(values).all() or values.min() < low or values.max() > high:
        return values
    whole = values.astype(np.int16)
    return whole if np.array_equal(whole, values) else values
