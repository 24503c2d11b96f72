"""Filling RTSTRUCT contours by their geometry alone.

The images that an RTSTRUCT refers to may no longer exist. Only the positions of its contours in
the patient are used.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.geometry import LPS_TO_RAS, indices_of, within_grid
from SaliencyExplain.images.contour_planes import Contour, Findings, filled
from SaliencyExplain.images.contours import once
from SaliencyExplain.images.dicom_file import read_dicom, with_known_types
from SaliencyExplain.images.dicom_header import DAMAGED, damaged
from SaliencyExplain.images.segment_labels import Color, Label, LabelMap

_AREAS = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")


@dataclass(frozen=True)
class _Region:
    """A region of interest and its contours.

    Attributes:
        name: The name in the file.
        color: RGB in [0, 1], or None.
        contours: The closed contours.
        others: Number of contours that are open, points, or enclose no area.
    """

    name: str
    color: Color | None
    contours: list[Contour]
    others: int


def read_rtstruct(path: Path, shape: tuple[int, ...], affine: NDArray[np.float64]) -> LabelMap:
    """Fills the contours of an RTSTRUCT on a grid, one layer for each region.

    A voxel is inside if its centre is inside the contours of the nearest plane and at most half
    of the planes' distance away from it. Planes may therefore be oblique to the grid, lie between
    its slices, or be coarser or finer than these. For several contours in one plane see
    :mod:`SaliencyExplain.images.contours`; contours of the type CLOSEDPLANAR_XOR are combined by
    exclusive or.

    Args:
        path: The file.
        shape: Voxels along the three axes of the target grid.
        affine: Its 4x4 affine to RAS millimetres.

    Returns:
        Layers on that grid; notes on holes, copies, crossings and contours off the slices or
        outside the grid.

    Raises:
        InputError: It is damaged, has no closed contour, one that is not flat, none inside
            the grid, or none that encloses a voxel's centre.
    """
    try:
        dataset = with_known_types(read_dicom(path, force=True), within=True)
        names = {
            int(region.ROINumber): str(region.get("ROIName", "") or f"region {region.ROINumber}")
            for region in dataset.StructureSetROISequence
        }
        regions = [
            _region(names.get(int(item.ReferencedROINumber), "region"), item)
            for item in dataset.get("ROIContourSequence") or []
        ]
    except DAMAGED as error:
        raise damaged(path, error) from error
    empty = [region.name for region in regions if not region.contours]
    drawn = [region for region in regions if region.contours]
    if not drawn:
        raise InputError(
            ErrorCode.FILE_FORMAT,
            f"{path}: this RTSTRUCT has no closed contour. Give another segmentation.",
        )
    notes = [f"left out, as they have no closed contours: {', '.join(empty)}"] if empty else []
    layers = []
    for region in drawn:
        layer, findings = filled(path, region.name, region.contours, shape, affine)
        layers.append(layer)
        notes += _notes(region, findings, _share_outside(region, shape, affine))
    if not any(layer.any() for layer in layers):
        _raise_empty(path, drawn, shape, affine)
    labels = tuple(Label(region.name, region.color, layer, 1) for layer, region in enumerate(drawn))
    return LabelMap(np.stack(layers), affine, labels, tuple(notes), _frame_of_reference(dataset))


def _region(name: str, item: Dataset) -> _Region:
    contours, others = [], 0
    for contour in item.get("ContourSequence") or []:
        points = np.array(contour.get("ContourData") or [], dtype=np.float64).reshape(-1, 3)
        if not np.isfinite(points).all():
            raise ValueError("a contour has points that are not finite")
        kind = str(contour.get("ContourGeometricType", ""))
        points = once(points @ LPS_TO_RAS[:3, :3].T)
        if kind in _AREAS and len(points) >= 3 and np.linalg.matrix_rank(points - points[0]) > 1:
            contours.append(Contour(points, kind != _AREAS[0]))
        else:
            others += 1
    return _Region(name, _color(item), contours, others)


def _notes(region: _Region, findings: Findings, outside: float) -> list[str]:
    """Notes for the user on how a region's contours were interpreted."""
    told = []
    if region.others:
        told.append(f"{region.others} contours that are open or enclose no area are left out")
    if findings.repeated:
        told.append(f"{findings.repeated} contours are drawn twice and count once")
    if findings.crossing:
        told.append(f"contours cross each other in {findings.crossing} planes and are joined")
    if findings.holes:
        told.append(f"{findings.holes} contours lie within others and are cut out as holes")
    if findings.overlapping:
        told.append("a contour overlaps itself; the overlap is left out like a hole")
    if findings.oblique:
        told.append("the contours' planes are oblique to the slices of the image")
    elif findings.off_mm:
        told.append(
            f"contours are up to {findings.off_mm:.2g} mm off the slices of the image; each "
            "applies to the slices nearest to it"
        )
    if outside >= 0.0005:
        told.append(f"{outside * 100:.1f} % of the contours' points lie outside the image")
    return [f"{region.name}: {note}" for note in told]


def _share_outside(region: _Region, shape: tuple[int, ...], affine: NDArray[np.float64]) -> float:
    points = np.concatenate([contour.points for contour in region.contours])
    return float(1 - within_grid(indices_of(points, affine), shape).mean())


def _raise_empty(
    path: Path, regions: list[_Region], shape: tuple[int, ...], affine: NDArray[np.float64]
) -> None:
    if all(_share_outside(region, shape, affine) == 1 for region in regions):
        raise InputError(
            ErrorCode.NO_OVERLAP,
            f"{path}: the contours of this RTSTRUCT lie outside the image. Give the structures of "
            "this image.",
        )
    raise InputError(
        ErrorCode.SEGMENTATION_EMPTY,
        f"{path}: the contours of this RTSTRUCT enclose no voxel centre of the image: they are "
        "smaller than its voxels or lie between its slices. Give another segmentation.",
    )


def _color(item: Dataset) -> Color | None:
    color = item.get("ROIDisplayColor")
    if color is None or len(color) != 3:
        return None
    red, green, blue = (int(part) / 255.0 for part in color)
    return red, green, blue


def _frame_of_reference(dataset: Dataset) -> str:
    frames = {
        str(region.get("ReferencedFrameOfReferenceUID", ""))
        for region in dataset.StructureSetROISequence
    }
    return frames.pop() if len(frames) == 1 else ""
