"""Segments in pictures of slices, filled and outlined according to their display nodes."""

from __future__ import annotations

import numpy as np
import slicer
from numpy.typing import NDArray

from SaliencyExplain.scene.nodes import nodes_of
from SaliencyExplain.scene.segmentations import sample_segment


def draw_segments(
    pixels: NDArray[np.uint8], scene: slicer.vtkMRMLScene, to_ras: NDArray[np.float64]
) -> None:
    """Draws all segments that are visible in slice views into a picture.

    Args:
        pixels: (height, width, 3), rows from the bottom.
        scene: The scene.
        to_ras: 4x4 from pixels (column, row, 0) to RAS mm.
    """
    for node in nodes_of(scene, "vtkMRMLSegmentationNode"):
        display = node.GetDisplayNode()
        if display is None or not (display.GetVisibility() and display.GetVisibility2D()):
            continue
        segmentation = node.GetSegmentation()
        for number in range(segmentation.GetNumberOfSegments()):
            segment_id = segmentation.GetNthSegmentID(number)
            if display.GetSegmentVisibility(segment_id):
                shape = (pixels.shape[1], pixels.shape[0], 1)
                inside = sample_segment(node, segment_id, to_ras, shape)[..., 0].T
                _draw(pixels, inside, display, segment_id)


def _draw(
    pixels: NDArray[np.uint8],
    inside: NDArray[np.bool_],
    display: slicer.vtkMRMLSegmentationDisplayNode,
    segment_id: str,
) -> None:
    color = [0.0, 0.0, 0.0]
    display.GetSegmentColor(segment_id, color)
    if display.GetVisibility2DFill() and display.GetSegmentVisibility2DFill(segment_id):
        opacity = display.GetOpacity2DFill() * display.GetSegmentOpacity2DFill(segment_id)
        _paint(pixels, inside, color, opacity * display.GetOpacity())
    if display.GetVisibility2DOutline() and display.GetSegmentVisibility2DOutline(segment_id):
        inner = inside
        for _ in range(max(1, int(display.GetSliceIntersectionThickness()))):
            inner = _eroded(inner)
        opacity = display.GetOpacity2DOutline() * display.GetSegmentOpacity2DOutline(segment_id)
        _paint(pixels, inside & ~inner, color, opacity * display.GetOpacity())


def _eroded(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels whose four neighbours are inside; everything beyond the picture is outside."""
    padded = np.pad(inside, 1)
    return inside & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]


def _paint(
    pixels: NDArray[np.uint8], where: NDArray[np.bool_], color: list[float], opacity: float
) -> None:
    wanted = 255 * np.array(color)
    pixels[where] = ((1 - opacity) * pixels[where] + opacity * wanted).round().astype(np.uint8)
