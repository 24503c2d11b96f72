"""The maps of an explained case for a scene, from its record."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from SaliencyExplain.figures import CHANNEL, EACH_SEGMENT
from SaliencyExplain.peak import RESOLUTION_MM
from SaliencyExplain.records.case_record import CaseRecord
from SaliencyExplain.records.map_record import MapRecord
from SaliencyExplain.results.attribution_map import Attribution


def attribution_map(
    record: CaseRecord, map_: MapRecord, values: NDArray[Any], affine: NDArray[Any], title: str
) -> Attribution:
    """A map of a case.

    Args:
        record: The case's record.
        map_: The record of the map.
        values: ``(*S)``, from the map's file.
        affine: 4x4 of the values, voxel indices to RAS mm.
        title: The method's name for display.
    """
    return Attribution(
        values=values,
        affine=affine,
        method=map_.method,
        method_title=title,
        layer=map_.layer or "",
        signed=map_.signed,
        target=record.target,
        target_name=record.target_name,
        parameters={name: one.value for name, one in map_.parameters.items()},
        provenance={
            **record.provenance,
            **map_.provenance,
            RESOLUTION_MM: map_.resolution_mm,
            EACH_SEGMENT: list(map_.own_segments),
            CHANNEL: map_.channel or 0,
        },
        share_done=map_.share_done,
    )
