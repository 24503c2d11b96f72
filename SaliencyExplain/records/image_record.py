"""The image of a case and where its files lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from SaliencyExplain.json_fields import Fields


@dataclass(frozen=True)
class CaseFiles:
    """Where the files of a case lie, as POSIX paths relative to the study's output folder.

    Attributes:
        images: ``(channel or None, path)``, one for each channel.
        segmentation: None where there is none.
        further_segmentations: Of an image with several files of segments those after the first.
        series: SeriesInstanceUID of the image where its folder holds several series.
    """

    images: tuple[tuple[str | None, str], ...]
    segmentation: str | None = None
    further_segmentations: tuple[str, ...] = ()
    series: str | None = None

    def as_json(self) -> dict[str, Any]:
        """For ``explanation.json``."""
        return {
            "images": [list(one) for one in self.images],
            "segmentation": self.segmentation,
            "further_segmentations": list(self.further_segmentations),
            "series": self.series,
        }

    @classmethod
    def from_json(cls, files: Fields) -> CaseFiles:
        """Reads what :meth:`as_json` wrote; raises InputError where it is damaged."""
        images = files.free("images")
        if not isinstance(images, list) or not all(_is_channel(one) for one in images):
            files.refuse("images", "a list of pairs of a channel and a path")
        return cls(
            tuple((name, path) for name, path in images),
            files.text_or_none("segmentation"),
            files.texts("further_segmentations"),
            files.text_or_none("series"),
        )


@dataclass(frozen=True)
class ImageRecord:
    """The image of a case.

    Attributes:
        channels: How many it has.
        shape: Voxels along each of the two or three axes.
        spacing_mm: Along each axis.
        affine_ras_mm: 4x4, voxel indices to RAS mm, row by row.
        length_unit: ``mm``, or ``px`` of a picture without a size.
        files: None where their names are not to be told.
    """

    channels: int
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    affine_ras_mm: tuple[tuple[float, ...], ...]
    length_unit: str
    files: CaseFiles | None

    def as_json(self) -> dict[str, Any]:
        """For ``explanation.json``."""
        return {
            "channels": self.channels,
            "shape": list(self.shape),
            "spacing_mm": list(self.spacing_mm),
            "affine_ras_mm": [list(row) for row in self.affine_ras_mm],
            "length_unit": self.length_unit,
            "files": None if self.files is None else self.files.as_json(),
        }

    @classmethod
    def from_json(cls, image: Fields) -> ImageRecord:
        """Reads what :meth:`as_json` wrote; raises InputError where it is damaged."""
        shape = image.integers("shape", least=1)
        if len(shape) not in (2, 3):
            image.refuse("shape", "two or three sizes")
        spacing = image.numbers("spacing_mm", least=0)
        if len(spacing) != len(shape):
            image.refuse("spacing_mm", "a number for each axis")
        affine = image.rows_of_numbers("affine_ras_mm")
        if [len(row) for row in affine] != [4] * 4:
            image.refuse("affine_ras_mm", "a matrix of 4 by 4")
        return cls(
            image.integer("channels", least=1),
            shape,
            spacing,
            affine,
            image.choice("length_unit", "mm", "px"),
            CaseFiles.from_json(image.object("files")) if image.nullable("files") else None,
        )


def _is_channel(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 2:
        return False
    name, path = value
    return (name is None or isinstance(name, str)) and isinstance(path, str)
