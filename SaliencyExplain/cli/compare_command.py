"""``saliency-explain compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from SaliencyExplain.cli import options
from SaliencyExplain.cli.messages import console, print_json, progress_bar, say_notes
from SaliencyExplain.cli.spec_options import spec_options
from SaliencyExplain.specification.spec import ExplainSpec


@spec_options("seed")
def compare(
    attribution: Annotated[
        Path,
        typer.Argument(metavar="MAP", help="A map in any image format, also from another tool."),
    ],
    segmentation: Annotated[
        Path,
        typer.Option(
            "--segmentation", "-s", help="Label map, .seg.nrrd, DICOM SEG, RTSTRUCT or PNG mask."
        ),
    ],
    spec: ExplainSpec,
    as_json: options.Json = False,
) -> None:
    """Agreement of a map with a segmentation, compared with control maps."""
    from SaliencyExplain.cli.terminal_tables import agreement_table
    from SaliencyExplain.comparison.table import rows, unseen_notes
    from SaliencyExplain.images.image_hash import voxel_hash
    from SaliencyExplain.images.reading import read_map
    from SaliencyExplain.images.segmentation import read_ground_truth
    from SaliencyExplain.records.case_record import records_beside

    with progress_bar("comparing", quiet=as_json):
        values = read_map(attribution)
        segments, segment_notes = read_ground_truth(segmentation, values)
        notes = [*values.meta["notes"], *segment_notes]
        figures = []
        if segments is not None:
            beside = records_beside(attribution)
            known = beside[1] if beside else None
            field = None if known is None else known.field_of_view
            figures = rows(
                values.meta["name"],
                "",
                {"map": values[0].numpy()},
                segments,
                values.affine.numpy(),
                seed=spec.seed,
                image_sha256=voxel_hash(values),
                resolutions_mm={"map": 0.0 if known is None else known.resolution_mm},
                own_segments={"map": () if known is None else known.own_segments},
                fields_of_view={"map": field},
            )
            notes += unseen_notes(segments, field)
    say_notes(notes)
    if as_json:
        print_json({"rows": [row.as_json() for row in figures], "notes": notes})
        return
    if figures:
        console.print(agreement_table(figures))
