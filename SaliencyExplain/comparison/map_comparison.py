"""Maps of one image against a segmentation: the rows, and what a user can do with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from monai.data import MetaTensor

from SaliencyExplain.comparison.table import rows, unseen_notes
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.body import body_mask
from SaliencyExplain.images.segmentation import Segmentation
from SaliencyExplain.records.agreement_row import METRICS, Row
from SaliencyExplain.results.attribution_map import Attribution

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Comparison:
    """The agreement of maps with segments, beside that of the control maps.

    Attributes:
        rows: A row for each map and segment, those of the control maps last.
        notes: What a user must be told.
    """

    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        """The rows."""
        return iter(self.rows)

    def __getitem__(self, number: int) -> Row:
        """A row by its number."""
        return self.rows[number]

    def to_pandas(self) -> pandas.DataFrame:
        """The rows as a table of pandas.

        Raises:
            InputError: pandas is not installed.

        Example:
            >>> comparison = se.compare(result[0], phantom.masks)
            >>> comparison.to_pandas().method.tolist()  # doctest: +SKIP
            ['gradcam@class_layers.relu', 'random', 'centre']
        """
        try:
            import pandas
        except ImportError as error:
            raise InputError(
                ErrorCode.PACKAGE_MISSING, "to_pandas() needs pandas: pip install pandas."
            ) from error
        return pandas.DataFrame([row.as_json() for row in self.rows])

    def _repr_html_(self) -> str:
        names = ("method", "segment", *METRICS)
        head = "".join(f"<th>{name}</th>" for name in names)
        body = "".join(
            "<tr>" + "".join(f"<td>{_cell(row.as_json().get(name))}</td>" for name in names)
            for row in self.rows
        )
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        return f"<table><tr>{head}</tr>{body}</table><ul>{notes}</ul>"


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else escape(value)


def compare_attributions(
    case: str,
    attributions: Sequence[Attribution],
    image: MetaTensor,
    segmentation: Segmentation,
    *,
    seed: int = 0,
    tolerance_mm: float = 5.0,
) -> Comparison:
    """Compares maps of one image and class with every segment, beside the control maps.

    Args:
        case: Name of the case, for the rows.
        attributions: One or more, all of the same image and class.
        image: ``(C, *S)``, which they explain.
        segmentation: On the image's grid.
        seed: Random seed of the random maps.
        tolerance_mm: Tolerance of the pointing game, mm.

    Returns:
        The rows; the notes are of segments that the network does not see.

    Raises:
        InputError: The segmentation is not on the image's grid.
    """
    first = attributions[0]
    found = rows(
        case,
        first.target_name,
        {one.label: one.values for one in attributions},
        segmentation,
        first.affine,
        body=body_mask(image),
        tolerance_mm=tolerance_mm,
        seed=seed,
        image_sha256=str(first.provenance["image_sha256"]),
        resolutions_mm={one.label: one.resolution_mm for one in attributions},
        fields_of_view={one.label: one.field_of_view for one in attributions},
        own_segments={one.label: one.own_segments for one in attributions},
    )
    return Comparison(tuple(found), tuple(unseen_notes(segmentation, first.field_of_view)))
