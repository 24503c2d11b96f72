"""The scene of a finished case: images, maps, bands, ground truth and views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import slicer
from numpy.typing import NDArray

from SaliencyExplain.results.attribution_map import Attribution
from SaliencyExplain.scene.attributions import add_attribution, anatomy_of
from SaliencyExplain.scene.band_segments import add_bands
from SaliencyExplain.scene.cameras import look_at
from SaliencyExplain.scene.nodes import new_scene, slice_nodes
from SaliencyExplain.scene.rendering import show_surfaces
from SaliencyExplain.scene.segmentations import Color, add_segmentation, outline
from SaliencyExplain.scene.slice_layers import jump_to, link_views, show
from SaliencyExplain.scene.volume_nodes import add_image

#: Opacity of the ground truth in 3D, through which slices and heat are visible.
_SURFACE_OPACITY = 0.4


@dataclass(frozen=True, eq=False)
class CaseContent:
    """The content of a case's scene.

    Attributes:
        name: Name of the case, used for its images.
        channels: ``{name: values (*S)}``, the classifier's channels in its order.
        affine: 4x4 of the channels, voxel indices to RAS mm.
        maps: The attributions; the first is shown.
        place: Point that the slices go through, RAS mm.
        segments: ``{name: (RGB in [0, 1], mask (*S))}`` of the ground truth.
    """

    name: str
    channels: Mapping[str, NDArray[Any]]
    affine: NDArray[np.float64]
    maps: Sequence[Attribution]
    place: tuple[float, float, float]
    segments: Mapping[str, tuple[Color, NDArray[Any]]] = field(default_factory=dict)


def case_scene(content: CaseContent) -> slicer.vtkMRMLScene:
    """Creates the scene of a case.

    Slicer's four-up layout shows the first channel with the first map over it and outlines of
    the ground truth; all slices go through `place`. The 3D view shows the ground truth's surface
    and the slices as a whole. Each map has hidden bands as label map and as segmentation.

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
    """Whole numbers as 16 bits if exact, as from scanners, which halves the files."""
    low, high = np.iinfo(np.int16).min, np.iinfo(np.int16).max
    if not np.isfinite(values).all() or values.min() < low or values.max() > high:
        return values
    whole = values.astype(np.int16)
    return whole if np.array_equal(whole, values) else values
