"""Agreement of an image's maps with its segments, beside the control maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.comparison.table import rows, unseen_notes
from SaliencyExplain.explanation.prepared_case import PreparedCase
from SaliencyExplain.records.agreement_row import Row
from SaliencyExplain.records.control_names import NAMES as CONTROL_MAPS


class SegmentAgreement:
    """Compares maps of one image with its segments; the control maps are compared once.

    Args:
        case: The image and the classifier, with its segmentation.
        body: Mask of the body, as many voxels as the image; None: not known.
        name: Name of the case; with the seed it draws the random control map.
        seed: Random seed.
    """

    def __init__(
        self, case: PreparedCase, body: NDArray[np.bool_] | None, name: str, seed: int
    ) -> None:
        self._case, self._body, self._name, self._seed = case, body, name, seed
        self._field_of_view = case.field_of_view if case.seen_share < 1 else None
        self._controls: list[Row] | None = None

    def notes(self) -> list[str]:
        """What is to be told of segments that the network does not see whole."""
        segmentation = self._case.references.segmentation
        return [] if segmentation is None else unseen_notes(segmentation, self._field_of_view)

    def rows(
        self,
        label: str,
        values: NDArray[np.float32],
        resolution_mm: float,
        own_segments: Sequence[str],
    ) -> list[Row]:
        """The map's rows and those of the control maps; none without a segmentation.

        Args:
            label: Name of the map.
            values: ``(*S)`` on the image's own grid.
            resolution_mm: What the map resolves, mm; 0: voxels or regions, or not known.
            own_segments: Hashes of the segments that are the map's regions.
        """
        if self._case.references.segmentation is None:
            return []
        if self._controls is None:
            self._controls = self._compare({}, values.shape, control_maps=True)
        own = {} if label in CONTROL_MAPS else {label: values}
        found = self._compare(
            own,
            values.shape,
            control_maps=False,
            resolution_mm=resolution_mm,
            own_segments=own_segments,
        )
        return [*found, *self._controls]

    def _compare(
        self,
        maps: Mapping[str, NDArray[np.float32]],
        shape: tuple[int, ...],
        *,
        control_maps: bool,
        resolution_mm: float = 0.0,
        own_segments: Sequence[str] = (),
    ) -> list[Row]:
        case, body = self._case, self._body
        assert case.references.segmentation is not None
        return rows(
            self._name,
            case.target_name,
            maps,
            case.references.segmentation,
            np.asarray(case.image.affine, dtype=np.float64),
            body=None if body is None else body.reshape(shape),
            seed=self._seed,
            image_sha256=case.image_hash,
            resolutions_mm=dict.fromkeys(maps, resolution_mm),
            fields_of_view=dict.fromkeys(maps, self._field_of_view),
            usual_field=self._field_of_view,
            own_segments=dict.fromkeys(maps, own_segments),
            control_maps=control_maps,
        )
